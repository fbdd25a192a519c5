"""A listener that works: it remembers what a broker brings, and wakes whoever waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from yamabiko.core.messages import PresenceChanged, Publication

WAIT_SECONDS = 10.0


class Witness:
    """What was `delivered`, how often something was missed, how presence changed, and what was said to all nodes.

    `take` is called with each publication instead, if it is given.
    """

    def __init__(self, take: Callable[[str, Publication], None] | None = None) -> None:
        self.delivered: list[tuple[str, Publication]] = []
        self.misses = 0
        self.changes: list[tuple[str, PresenceChanged]] = []
        self.messages: list[bytes] = []
        self.news = asyncio.Event()
        self._take = take

    def deliver(self, room: str, publication: Publication) -> None:
        self.news.set()
        if self._take is not None:
            self._take(room, publication)
        else:
            self.delivered.append((room, publication))

    def missed(self) -> None:
        self.misses += 1
        self.news.set()

    def presence_changed(self, room: str, changed: PresenceChanged) -> None:
        self.changes.append((room, changed))
        self.news.set()

    def heard(self, message: bytes) -> None:
        self.messages.append(message)
        self.news.set()

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for what makes it so."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not is_so():
                self.news.clear()
                await self.news.wait()
