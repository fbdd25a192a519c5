"""The room protocol: one connection, one room."""
