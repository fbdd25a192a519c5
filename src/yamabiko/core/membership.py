"""One connection in one room: from joining, through what it missed, to live."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from yamabiko.core.errors import SLOW
from yamabiko.core.messages import NOTHING, Event, Gap, Member, Position, Publication, Stream, before, is_after
from yamabiko.core.room import LocalRoom
from yamabiko.core.sdk.messages import Extras
from yamabiko.core.sdk.views import client_info

if TYPE_CHECKING:
    from yamabiko.core.connection import Connection
    from yamabiko.core.interfaces import Broker, Codec

PAGE = 100
"""Publications read from history at a time."""
BURST_BYTES = 64 * 1024
"""Written to a newcomer in one go; then its socket is waited for."""
HELD_BYTES_AT_MOST = 256 * 1024
"""Held for a newcomer; beyond, a room with history lets them go and reads them again, any other closes it."""


class Membership(ABC):
    """A place in a room. Until `catch_up` has run publications are held, then they are written as they come.

    Subclasses know what their protocol asks of the past, and how it is told what cannot be had any more.
    """

    __slots__ = (
        "_extras",
        "_held",
        "_held_bytes",
        "_page",
        "_position",
        "connection",
        "has_left",
        "is_announced",
        "is_live",
        "may_publish",
        "room",
        "wants_presence",
    )

    def __init__(self, connection: Connection, room: LocalRoom, *, may_publish: bool, wants_presence: bool) -> None:
        self.connection = connection
        self.room = room
        self.may_publish = may_publish
        self.wants_presence = wants_presence and room.rules.presence
        self.is_live = False
        self.is_announced = False
        self.has_left = False
        self._extras: bytes | None = None
        self._held: list[Publication | Gap] = []
        self._held_bytes = 0
        self._page: Stream | None = None
        self._position: Position | None = None

    @property
    def codec(self) -> Codec:
        return self.connection.codec

    @property
    def takes_deltas(self) -> bool:
        """Whether this member has the publication before the next, and wants to hear what has changed since."""
        return False

    @property
    def room_info(self) -> msgspec.Raw:
        """JSON that is told to others of this place in the room."""
        return NOTHING

    @property
    def wants_list(self) -> bool:
        """Whether to begin with the list of who is there."""
        return False

    @property
    def member(self) -> Member:
        connection = self.connection
        return Member(connection.client, connection.user_id, connection.user_name, connection.info, self.room_info)

    @property
    def extras(self) -> bytes:
        """What this member's publications carry for the SDK protocol: who it is."""
        if self._extras is None:
            self._extras = msgspec.json.encode(Extras(client_info(self.member)))
        return self._extras

    def forget_extras(self) -> None:
        """Say anew with the next publication who this member is: something of it has changed."""
        self._extras = None

    @property
    def is_lasting(self) -> bool:
        return self.connection.is_open and not self.has_left

    def write(self, *events: Event) -> None:
        codec, room = self.codec, self.room.name
        self.connection.transport.write(*[codec.encode(event, room) for event in events])

    def leave(self) -> None:
        """Take nothing more from the room."""
        self.has_left = True
        self.room.leave(self)

    @abstractmethod
    def has_had_one(self) -> None:
        """Take note of the first live publication, where it matters."""

    @abstractmethod
    def tell_gap(self, position: Position) -> None:
        """Tell the peer that publications are missing, and that what comes next comes after `position`."""

    @property
    def _has_overrun(self) -> bool:
        return self._held_bytes > HELD_BYTES_AT_MOST

    def hold(self, event: Publication | Gap) -> None:
        """Keep an event until the newcomer goes live."""
        if self._has_overrun:
            return
        self._held.append(event)
        self._held_bytes += 100 + (len(event.data) if isinstance(event, Publication) else 0)
        if self._has_overrun:
            self._held.clear()
            if self.room.history is None:
                self.connection.close(SLOW)

    async def catch_up(self, broker: Broker) -> None:
        """Write what was missed, then what was held, and go live. The connection must have its transport.

        Does nothing more once this has ended. Raises NotAvailable if the broker cannot be reached.
        """
        has_tried_again = False
        while self.is_lasting:
            if self._page is not None:
                await self._write(self._page)
            if self._has_everything() or (has_tried_again and self._brought_nothing()):
                self._go_live()
                return
            self._page = await self._next_page(broker)
            has_tried_again = True

    def _has_everything(self) -> bool:
        """Tell whether what was read and what is held are all there is; if not, the rest is in the broker's history."""
        if not self.is_lasting:
            return False
        if self._page is None:
            return True
        position = self._position
        if position is None or position != self._page.top or self._has_overrun:
            return False
        for event in self._held:
            if isinstance(event, Gap) or event.position is None:
                return False
            if not self._is_written(event):
                if event.position != after(position):
                    return False
                position = event.position
        return self.room.is_reached_by(position)

    def _brought_nothing(self) -> bool:
        """Tell whether the broker has no more than we have, though the room has heard more: what it lost is a gap."""
        return self._page is not None and not self._page.publications and not self._has_overrun

    async def _next_page(self, broker: Broker) -> Stream:
        history = self.room.history
        assert history is not None
        if self._has_overrun:
            self._held_bytes = 0
        return await broker.read(self.room.name, history, since=self._position, limit=PAGE)

    async def _write(self, page: Stream) -> None:
        """Write a page in bursts; what it does not reach back to is told as a gap."""
        if not page.is_whole:
            self.tell_gap(page.beginning)
        for burst in bursts(page.publications):
            if not self.is_lasting:
                return
            self.write(*burst)
            await self.connection.transport.drained()
        self._position = page.publications[-1].position if page.publications else page.top

    def _go_live(self) -> None:
        if not self.is_lasting:
            return
        for event in self._held:
            if not self._is_written(event):
                self._write_held(event)
        self._held.clear()
        self._page = None
        missed = self.room.delivered
        if self._position is not None and missed is not None and is_after(missed, self._position):
            self.tell_gap(missed)
            self._position = missed
        if not self.is_lasting:  # some protocols end it where there is a gap
            return
        self.is_live = True
        self.room.go_live(self, self._position)

    def _write_held(self, event: Publication | Gap) -> None:
        position, had = event.position, self._position
        if isinstance(event, Gap):
            self.tell_gap(event.position)
        else:
            if position is not None and had is not None and position != after(had):
                self.tell_gap(before(position))
            if self.is_lasting:
                self.write(event)
        self._position = position

    def _is_written(self, event: Publication | Gap) -> bool:
        position, written = event.position, self._position
        if position is None or written is None or position.epoch != written.epoch:
            return False
        return position.offset <= written.offset


def bursts(publications: list[Publication]) -> Iterator[list[Publication]]:
    """Yield publications in pieces of about BURST_BYTES."""
    burst: list[Publication] = []
    burst_bytes = 0
    for publication in publications:
        burst.append(publication)
        burst_bytes += len(publication.data)
        if burst_bytes > BURST_BYTES:
            yield burst
            burst, burst_bytes = [], 0
    if burst:
        yield burst


def split(publications: list[Publication], at_most_bytes: int) -> tuple[list[Publication], list[Publication]]:
    """Split off what comes first and has at most so many bytes."""
    total = 0
    for number, publication in enumerate(publications):
        total += len(publication.data) + len(publication.extras)
        if total > at_most_bytes:
            return publications[:number], publications[number:]
    return publications, []


def after(position: Position) -> Position:
    return Position(position.epoch, position.offset + 1)
