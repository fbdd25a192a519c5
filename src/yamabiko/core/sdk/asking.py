"""Asking the broker on behalf of a peer: what cannot be done now may be tried again, what is not there may not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from yamabiko.core.errors import InternalError, NotAvailable


@contextmanager
def asking_the_broker() -> Iterator[None]:
    """Raise InternalError, which clients take as temporary, in place of a NotAvailable that would be final to them."""
    try:
        yield
    except NotAvailable as error:
        raise InternalError("try again a little later") from error
