"""One visit to a room: what is said and heard, from the first connection to the closing handshake."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Protocol

from yamabiko.client.bookmark import Bookmark
from yamabiko.client.changes import Changes
from yamabiko.client.link import Break, Link
from yamabiko.client.masking import masked_url
from yamabiko.client.outbox import Outbox
from yamabiko.client.screen import Screen, presence_line, quoted
from yamabiko.client.signals import ending_signals_call
from yamabiko.client.wire import Ack, Gap, Position, Presence, Publication, Refusal, decode

FAREWELL_SECONDS = 3.0
SETTLE_SECONDS = 1.0


class Source(Protocol):
    """Where the lines come from."""

    @property
    def is_answerable(self) -> bool:
        """Whether a line that was not published makes the visit a failure: a script wants to know."""

    async def read(self, visit: Visit) -> None:
        """Say every line; return when there is nothing more to say, or the reader wants to leave."""


class Visit:
    def __init__(self, link: Link, *, screen: Screen, bookmark: Bookmark, outbox: Outbox) -> None:
        self.link = link
        self.screen = screen
        self.bookmark = bookmark
        self.outbox = outbox
        self.changes = Changes()
        self.failures = 0
        self._shown = 0
        self._last_accepted: Position | None = None
        self._last_break = ""
        self._times_asked_to_leave = 0
        self._keeping: asyncio.Task[Break | None] | None = None

    async def stay(self, source: Source) -> int:
        """Talk until somebody wants to leave or the room is lost; return the exit code."""
        with ending_signals_call(self.ask_to_leave):
            self._keeping = asyncio.create_task(self.link.keep(self))
            await self._until_one_of(self._keeping, source.read(self), self._wish_to_leave())
            if not self._keeping.done():
                await self._wait_for_answers()
            return self._take_stock(source)

    async def end(self) -> None:
        """Perform the closing handshake, and wait for what keeps the connection."""
        await self.link.close()
        if self._keeping is not None and not self._keeping.done():
            # Between two attempts there is no connection to close, only a wait to be cut short.
            if not self.link.is_open:
                self._keeping.cancel()
            await asyncio.wait([self._keeping])

    def ask_to_leave(self) -> None:
        self._times_asked_to_leave += 1
        self.changes.tell()

    async def say(self, text: str) -> None:
        """Publish `text`, waiting while too many messages are unanswered."""
        await self.changes.until(lambda: self.outbox.has_room)
        self.say_now(text)

    def say_now(self, text: str) -> None:
        """Publish `text`; raise OverflowError while too many messages are unanswered."""
        self.outbox.add(text)
        self.link.send_soon()

    async def all_is_said(self) -> None:
        """Wait until the server has answered for every message, and give our own copies time to arrive."""
        await self.changes.until(lambda: self.link.has_been_open and not self.outbox)
        await self.changes.until_or(SETTLE_SECONDS, self._has_seen_everything)

    # What the link asks and tells.

    def query(self) -> dict[str, str]:
        return self.bookmark.query()

    def connected(self) -> None:
        self.outbox.rewind()
        self.screen.note(self._greeting())
        self.bookmark.visit()
        self._last_break = ""
        self.changes.tell()

    def interrupted(self, reason: str) -> None:
        # Once per outage and reason: a server that stays away for hours shall not fill the screen.
        if reason != self._last_break:
            self._last_break = reason
            self.screen.note(f"not connected ({reason}); trying again until it works")

    def disconnected(self) -> None:
        self.changes.tell()

    def unsent(self) -> Iterator[str]:
        return self.outbox.take_unsent()

    def received(self, payload: str | bytes) -> None:
        match decode(payload):
            case Publication() as publication:
                self._heard(publication)
            case Ack() as ack:
                self._accepted(ack)
            case Refusal() as refusal:
                self._refused(refusal)
            case Gap() as gap:
                self.screen.note(self._missed(gap))
                self.bookmark.skip_to(gap)
            case Presence() as presence:
                self.screen.note(presence_line(presence))
        self.changes.tell()

    def _heard(self, publication: Publication) -> None:
        if self.bookmark.is_new(publication):
            self._shown += 1
            self.screen.show(publication)

    def _accepted(self, ack: Ack) -> None:
        if self.outbox.answered(ack.id) is not None:
            self.bookmark.learn_from(ack)
            self._last_accepted = ack.position

    def _refused(self, refusal: Refusal) -> None:
        text = None if refusal.id is None else self.outbox.answered(refusal.id)
        subject = "the server says" if text is None else f"not published: {quoted(text)}"
        self.failures += 1
        self.screen.note(f"{subject}: {refusal.message} ({refusal.code})")

    def _greeting(self) -> str:
        if not self.bookmark.has_visited:
            return f"connected to {masked_url(self.link.address.url)}"
        position = self.bookmark.resumes_after
        if position is not None:
            return f"reconnected; resuming after message {position.offset}"
        if self.bookmark.query():
            return "reconnected; showing what the room has kept"
        return "reconnected; whether anything was published meanwhile is not known"

    def _missed(self, gap: Gap) -> str:
        seen = self.bookmark.resumes_after
        if seen is not None and seen.epoch != gap.position.epoch:
            return "the room began anew meanwhile: messages may have been missed"
        return f"messages were missed: the room goes on after {gap.position.offset}"

    async def _wish_to_leave(self) -> None:
        await self.changes.until(lambda: self._times_asked_to_leave > 0)

    async def _until_one_of(self, keeping: asyncio.Task[Break | None], *others: Coroutine[None, None, None]) -> None:
        """Wait for the first to end, and stop the others; the connection is kept for the farewell."""
        tasks = [asyncio.create_task(other) for other in others]
        try:
            await asyncio.wait([keeping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for ended in [keeping, *tasks]:
            if ended.done() and not ended.cancelled():
                ended.result()

    async def _wait_for_answers(self) -> None:
        """Give the last messages a few seconds; a second wish to leave cuts them short."""
        if not self._is_waiting_for_answers():
            return
        number = count(len(self.outbox), "message")
        self.screen.note(f"waiting for the server to confirm {number}; Ctrl+C leaves at once")
        await self.changes.until_or(FAREWELL_SECONDS, lambda: not self._is_waiting_for_answers())

    def _is_waiting_for_answers(self) -> bool:
        return bool(self.outbox) and self.link.is_open and self._times_asked_to_leave < 2

    def _has_seen_everything(self) -> bool:
        own_copies_came = self._last_accepted is None or self.bookmark.reaches(self._last_accepted)
        return own_copies_came and self._shown >= self.bookmark.history

    def _take_stock(self, source: Source) -> int:
        """Say what is left undone, and return the exit code."""
        lost = self._keeping.result() if self._keeping is not None and self._keeping.done() else None
        if lost is not None:
            self.screen.note(lost.reason)
        if self.outbox:
            self.screen.note(f"not confirmed by the server: {count(len(self.outbox), 'message')}")
        if lost is not None:
            return 1
        return 1 if source.is_answerable and (self.failures or self.outbox) else 0


def count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
