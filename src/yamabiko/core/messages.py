"""What the house speaks of: publications, positions, history, the commands of peers and the events sent to them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import msgspec

from yamabiko.core.errors import Refusal
from yamabiko.core.sdk import messages as sdk_messages

NOTHING = sdk_messages.NONE


class Position(msgspec.Struct, frozen=True, gc=False):
    """A place in a room's stream: offsets count 1, 2, 3 ... within an epoch; a new epoch says numbering began again."""

    epoch: str
    offset: int


def before(position: Position) -> Position:
    return Position(position.epoch, position.offset - 1)


def is_next(position: Position, other: Position) -> bool:
    return position.offset == other.offset + 1 and position.epoch == other.epoch


def is_after(position: Position, other: Position) -> bool:
    return position.epoch == other.epoch and position.offset > other.offset


def is_after_or_at(position: Position, other: Position) -> bool:
    return position.epoch == other.epoch and position.offset >= other.offset


class Publication(msgspec.Struct, frozen=True, gc=False):
    """One message of a room. `data` is JSON in UTF-8; `position` is None where the room keeps no history.

    `user` is the publisher's name, empty if it is not known. `extras` is what else it carries for the SDK protocol, as
    an encoded `sdk_messages.Extras`: made once at the door, passed on as it is, empty if there is nothing.
    """

    data: bytes
    position: Position | None = None
    user: str = ""
    extras: bytes = b""


class Delta(msgspec.Struct, frozen=True, gc=False):
    """A publication as what has changed since the one before: `changes` in the format of `core.fossil`."""

    publication: Publication
    changes: bytes


class History(msgspec.Struct, frozen=True):
    """What a room keeps: the newest `size` publications, none older than `ttl`."""

    size: int
    ttl: timedelta = timedelta(days=1)

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or isinstance(self.size, bool) or self.size < 1:
            raise ValueError(f"History(size=...) takes a whole number from 1, not {self.size!r}")
        if not isinstance(self.ttl, timedelta) or self.ttl <= timedelta(0):
            raise ValueError(f"History(ttl=...) takes a positive timedelta, not {self.ttl!r}")

    @property
    def ttl_seconds(self) -> float:
        return self.ttl.total_seconds()


class Stream(msgspec.Struct, frozen=True):
    """A page of a room's history, oldest first.

    `top` is the position of the room's newest publication, kept or not. `is_whole` is False if publications after the
    asked position are no longer kept or were numbered in another epoch: then the page begins with the oldest kept.
    """

    publications: list[Publication]
    top: Position
    is_whole: bool = True

    @property
    def beginning(self) -> Position:
        """The position after which the page begins."""
        first = self.publications[0].position if self.publications else None
        return before(first) if first is not None else self.top


class Publish(msgspec.Struct, frozen=True):
    """A peer's wish to publish `data` (JSON in UTF-8). With an `id` it is acknowledged, and published once."""

    data: bytes
    id: str = ""


class Join(msgspec.Struct, frozen=True):
    """A peer's wish to join: `since` a position, or with the newest `history` publications, or from now on.

    `invalid` is what else was wished for and cannot be; it is told to the peer and spoils nothing.
    """

    room: str
    since: Position | None = None
    history: int = 0
    wants_presence: bool = False
    invalid: tuple[Refusal, ...] = ()


class Invalid(msgspec.Struct, frozen=True):
    """A payload, or a part of one, that is no command; `refusal` says why."""

    refusal: Refusal
    id: str = ""


class Acknowledged(msgspec.Struct, frozen=True):
    """The publication that came with `id` is accepted."""

    id: str
    position: Position | None


class Failed(msgspec.Struct, frozen=True):
    """The command that came with `id`, if it had one, is refused."""

    refusal: Refusal
    id: str = ""


class Gap(msgspec.Struct, frozen=True):
    """Publications are missing; what follows begins after `position`."""

    position: Position


class Member(msgspec.Struct, frozen=True, omit_defaults=True):
    """One connection in a room, as presence shows it.

    `client` names the connection; `user` is the id of its user and `name` what others call them, both empty for someone
    unknown. `info` is JSON that was said of the connection, `room_info` of its place in this room; both may be empty.
    """

    client: str
    user: str = ""
    name: str = ""
    info: msgspec.Raw = NOTHING
    room_info: msgspec.Raw = NOTHING


class Counts(msgspec.Struct, frozen=True):
    """How many are in a room: someone with three tabs is one user and three clients; all unknown are one user."""

    clients: int
    users: int


class PresenceChanged(msgspec.Struct, frozen=True):
    """Who came and who went since the last such event."""

    joined: tuple[Member, ...] = ()
    left: tuple[Member, ...] = ()


Command = Publish | sdk_messages.Command | Invalid
Event = Publication | Delta | Acknowledged | Failed | Gap | PresenceChanged | sdk_messages.Reply


def encode_message(message: Any) -> bytes:
    """Encode what an application publishes as JSON in UTF-8.

    Raises TypeError with a text for people for what JSON cannot hold: other types, NaN, infinities, lone surrogates.
    """
    try:
        encoded = msgspec.json.encode(message)
        # msgspec writes NaN and infinities as null; where there is no null there was none.
        if b"null" in encoded:
            json.dumps(msgspec.to_builtins(message, str_keys=True), allow_nan=False)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise TypeError(f"a message must be something JSON can hold, not {message!r:.80}: {error}") from error
    return encoded
