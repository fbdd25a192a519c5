"""A small Django project to measure: the same users and routes for Yamabiko and for Channels."""
