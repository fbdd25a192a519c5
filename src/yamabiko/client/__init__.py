"""A guest in the terminal: talks to rooms over the wire and imports nothing of the house."""

from yamabiko.client.main_finally import MainFinally

__all__ = ["MainFinally"]
