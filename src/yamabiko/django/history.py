"""Reading what rooms have kept, from anywhere in a project."""

from __future__ import annotations

from typing import Any

import msgspec

from yamabiko.core.messages import Position, Publication, Stream
from yamabiko.core.names import room_name
from yamabiko.django.publish import refuse_on_loop
from yamabiko.django.service import service


class Kept(msgspec.Struct, frozen=True):
    """One message that a room has kept. `user` is its publisher's name, empty if that is not known."""

    message: Any
    position: Position
    user: str = ""


class HistoryPage(msgspec.Struct, frozen=True):
    """A page of a room's history.

    `top` is the position of the room's newest message, kept or not. `is_whole` is False if messages right after the
    asked position are no longer kept, or were numbered in another epoch.
    """

    messages: list[Kept]
    top: Position
    is_whole: bool = True


def history(room: str, *, since: Position | None = None, limit: int = 100, reverse: bool = False) -> HistoryPage:
    """Return at most `limit` messages of `room`: the oldest that are kept, or the first after `since`.

    In reverse the newest come first, or those before `since`. No Room class is asked for leave. Raises UnknownRoom,
    NotAvailable for a room that keeps no history and for a broker that cannot be reached, ValueError for a limit below
    0, and YamabikoError when called where only `await ahistory(...)` can be.
    """
    refuse_on_loop("history")
    name = _checked(room, limit)
    return _page(service().run(service().read(name, since=since, limit=limit, reverse=reverse)))


async def ahistory(room: str, *, since: Position | None = None, limit: int = 100, reverse: bool = False) -> HistoryPage:
    """Return a page of a room's history, as `history` does, from async code."""
    name = _checked(room, limit)
    return _page(await service().read(name, since=since, limit=limit, reverse=reverse))


def _checked(room: str, limit: int) -> str:
    if limit < 0:
        raise ValueError(f"limit is a number of messages from 0, not {limit}")
    name = room_name(room)
    service().node.rules(name)  # an unknown room is told here, whoever has its history
    return name


def _page(stream: Stream) -> HistoryPage:
    return HistoryPage([_kept(publication) for publication in stream.publications], stream.top, stream.is_whole)


def _kept(publication: Publication) -> Kept:
    assert publication.position is not None
    return Kept(msgspec.json.decode(publication.data), publication.position, publication.user)
