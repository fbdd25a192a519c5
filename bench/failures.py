"""What can go wrong with a measurement, in words for whoever runs it."""


class BenchError(Exception):
    """The bench cannot go on."""


class LoadFailed(Exception):
    """One measurement is void: a server did not start, refused, or lost copies."""
