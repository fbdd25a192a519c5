"""What things are called in Redis: the keys and the channel of a room, all in one hash slot of a cluster.

An ACL for us needs the keys `~{yamabiko:*` and the channels `&{yamabiko:*`, with the prefix in use.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple


class RoomNames(NamedTuple):
    """The names of `room`. `tag` decides the slot; it holds the prefix, so it is never empty, which would be no tag."""

    room: str
    tag: str
    numbers: str
    """A hash: epoch, offset, and what else the numbering needs; see numbering.lua."""
    log: str
    """A stream: the kept publications, each under the id OFFSET-EXPIRY, the expiry in milliseconds since 1970."""
    keys: str
    """A hash: idempotency key to when it was published, offset and epoch."""
    key_order: str
    """A list: the idempotency keys, oldest first."""
    nodes: str
    """A sorted set: the nodes with members here and their leases; what each has here lies under its name after this."""
    users: str
    """A hash: user to how many clients of theirs are here; see presence.lua."""
    lost: str
    """A list: clients that the user of this name has lost; users and rooms share this way to be named."""
    channel: bytes
    """Where the room's publications and its presence are told; that of the room without a name is for the nodes."""


@lru_cache(maxsize=4096)
def names_of(room: str, *, prefix: str, db: int) -> RoomNames:
    """Return the names of a room. Channels know no databases, so the name of theirs says which one it belongs to."""
    tag = f"{prefix}:{room}"
    base = f"{{{tag}}}"
    return RoomNames(
        room,
        tag,
        numbers=f"{base}:numbers",
        log=f"{base}:log",
        keys=f"{base}:keys",
        key_order=f"{base}:key-order",
        nodes=f"{base}:nodes",
        users=f"{base}:users",
        lost=f"{base}:lost",
        channel=f"{base}:live:{db}".encode(),
    )
