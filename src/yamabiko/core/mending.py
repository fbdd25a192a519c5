"""Bringing the members of a room what the broker did not deliver to them, from its history."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from yamabiko.core.errors import NotAvailable
from yamabiko.core.messages import History, Position, Publication, Stream, before, is_after_or_at, is_next

if TYPE_CHECKING:
    from yamabiko.core.interfaces import Broker, Runtime
    from yamabiko.core.room import LocalRoom

logger = logging.getLogger("yamabiko")

PAGE = 100
HELD_BYTES_AT_MOST = 256 * 1024
"""Held while history is read; beyond, what is held is let go of and read again."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 5.0
"""Between attempts to read, while the broker cannot be reached."""


class Mending:
    """One room's: reads what is missing and delivers it, then what came meanwhile, then is over."""

    def __init__(self, room: LocalRoom, history: History, broker: Broker, runtime: Runtime) -> None:
        self._room = room
        self._history = history
        self._broker = broker
        self._runtime = runtime
        self._held: list[Publication] = []
        self._held_bytes = 0
        self._pause_seconds = FIRST_PAUSE_SECONDS

    def hold(self, publication: Publication) -> None:
        """Keep a publication that something is missing before."""
        self._held.append(publication)
        self._held_bytes += 100 + len(publication.data)

    async def run(self) -> None:
        """Mend the room, or try again later where the broker cannot be reached. A room that all have left is let be."""
        while not self._room.is_empty:
            has_overrun = self._held_bytes > HELD_BYTES_AT_MOST
            if has_overrun:
                self._let_go()
            since = self._room.delivered
            try:
                page = await self._page_after(since)
            except NotAvailable as refusal:
                logger.warning("room %s cannot be brought up to date for now: %s", self._room.name, refusal)
                self._try_later()
                return
            has_news = self._deliver(page, since)
            self._deliver_held()
            if not self._held and self._has_all_of(page):
                break
            if not has_news and not has_overrun:
                self._give_up_on_first(page)
        self._let_go()
        self._room.is_mended()

    async def _page_after(self, since: Position | None) -> Stream:
        try:
            return await self._broker.read(self._room.name, self._history, since=since, limit=PAGE)
        except NotAvailable:
            raise
        except Exception as error:
            raise NotAvailable(repr(error)) from error

    def _try_later(self) -> None:
        self._runtime.call_later(self._pause_seconds, lambda: self._runtime.spawn(self.run()))
        self._pause_seconds = min(self._pause_seconds * 2, LONGEST_PAUSE_SECONDS)

    def _deliver(self, page: Stream, since: Position | None) -> bool:
        """Deliver what a page brings, and tell what it does not reach back to; return whether it brought anything."""
        had = self._room.delivered
        if had is None or not is_after_or_at(had, page.beginning):
            if page.is_whole and had == since:  # only numbered anew
                self._room.go_on_from(page.beginning)
            else:
                self._room.skip_to(page.beginning)
        for publication in page.publications:
            self._deliver_one(publication)
        return self._room.delivered != had

    def _deliver_one(self, publication: Publication) -> None:
        position, had = publication.position, self._room.delivered
        if position is None or had is None or is_after_or_at(had, position):
            return
        if not is_next(position, had):
            self._room.skip_to(before(position))
        self._room.deliver(publication)

    def _deliver_held(self) -> None:
        """Deliver what was held, as far as nothing is missing before it."""
        held, self._held, self._held_bytes = self._held, [], 0
        for publication in held:
            position, had = publication.position, self._room.delivered
            assert position is not None
            assert had is not None
            if is_next(position, had):
                self._room.deliver(publication)
            elif not is_after_or_at(had, position):
                self.hold(publication)

    def _has_all_of(self, page: Stream) -> bool:
        return self._room.delivered is not None and is_after_or_at(self._room.delivered, page.top)

    def _give_up_on_first(self, page: Stream) -> None:
        """History has no more, though the room has heard more: what is missing before that is lost.

        Something of another epoch than the history's is from before a loss, and lost itself.
        """
        first = self._held[0].position if self._held else None
        if first is not None and first.epoch == page.top.epoch:
            self._room.skip_to(before(first))
        else:
            del self._held[:1]

    def _let_go(self) -> None:
        self._held.clear()
        self._held_bytes = 0
