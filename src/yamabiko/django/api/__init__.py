"""The HTTP API: what backends ask of all nodes, with a key."""
