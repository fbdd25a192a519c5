"""One connection in one room: from joining, through what it missed, to live."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from yamabiko.core.errors import SLOW, NotAvailable
from yamabiko.core.messages import Failed, Gap, Join, Member, Position, Publication, Stream, before, is_after
from yamabiko.core.room import LocalRoom

if TYPE_CHECKING:
    from yamabiko.core.connection import Connection
    from yamabiko.core.interfaces import Broker

PAGE = 100
"""Publications read from history at a time."""
NEWEST_AT_MOST = 300
BURST_BYTES = 64 * 1024
"""Written to a newcomer in one go; then its socket is waited for."""
HELD_BYTES_AT_MOST = 256 * 1024
"""Held for a newcomer; beyond, a room with history lets them go and reads them again, any other closes it."""


class Membership:
    """Made by `Connection.join`. Until `catch_up` has run publications are held, then written as they come."""

    __slots__ = (
        "_held",
        "_held_bytes",
        "_page",
        "_position",
        "connection",
        "is_announced",
        "is_live",
        "join",
        "may_publish",
        "room",
    )

    def __init__(self, connection: Connection, room: LocalRoom, join: Join, *, may_publish: bool) -> None:
        self.connection = connection
        self.room = room
        self.join = join
        self.may_publish = may_publish
        self.is_live = False
        self.is_announced = False
        self._held: list[Publication | Gap] = []
        self._held_bytes = 0
        self._page: Stream | None = None
        self._position: Position | None = None

    @property
    def wants_presence(self) -> bool:
        return self.join.wants_presence

    @property
    def member(self) -> Member:
        return Member(self.connection.client, self.connection.user_name)

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

    async def begin(self, broker: Broker) -> None:
        """Hold publications from now on and read the first page of what was asked for.

        Raises NotAvailable if the broker cannot be reached.
        """
        self.room.hold_for(self)
        await broker.subscribe(self.room.name)
        history, join = self.room.history, self.join
        if history is None:
            return
        if join.since is not None:
            self._page = await broker.read(self.room.name, history, since=join.since, limit=PAGE)
        else:
            self._page = await broker.read(self.room.name, history, limit=min(join.history, NEWEST_AT_MOST))

    async def catch_up(self, broker: Broker) -> None:
        """Write what was missed, then what was held, and go live. The connection must have its transport.

        Does nothing more once the connection is closed. Raises NotAvailable if the broker cannot be reached.
        """
        self._refuse_what_cannot_be()
        has_tried_again = False
        while self.connection.is_open:
            if self._page is not None:
                await self._write(self._page)
            if self._has_everything() or (has_tried_again and self._brought_nothing()):
                self._go_live()
                return
            self._page = await self._next_page(broker)
            has_tried_again = True

    def _refuse_what_cannot_be(self) -> None:
        refusals = list(self.join.invalid)
        if self.room.history is None and (self.join.since is not None or self.join.history):
            refusals.append(NotAvailable("this room keeps no history; messages come from now on"))
        if self.join.wants_presence and not self.room.rules.presence:
            refusals.append(NotAvailable("this room does not tell who is present"))
        for refusal in refusals:
            self.connection.write(Failed(refusal))

    def _has_everything(self) -> bool:
        """Tell whether what was read and what is held are all there is; if not, the rest is in the broker's history."""
        if not self.connection.is_open:
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
            self.connection.write(Gap(page.beginning))
        for burst in bursts(page.publications):
            self.connection.write(*burst)
            await self.connection.transport.drained()
        self._position = page.publications[-1].position if page.publications else page.top

    def _go_live(self) -> None:
        if not self.connection.is_open:
            return
        for event in self._held:
            if not self._is_written(event):
                self._write_held(event)
        self._held.clear()
        self._page = None
        missed = self.room.delivered
        if self._position is not None and missed is not None and is_after(missed, self._position):
            self.connection.write(Gap(missed))
            self._position = missed
        self.is_live = True
        self.room.go_live(self, self._position)

    def _write_held(self, event: Publication | Gap) -> None:
        position, had = event.position, self._position
        if position is not None and had is not None and isinstance(event, Publication) and position != after(had):
            self.connection.write(Gap(before(position)))
        self.connection.write(event)
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


def after(position: Position) -> Position:
    return Position(position.epoch, position.offset + 1)
