"""What many want at once is attempted once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from yamabiko.brokers.redis.troubles import Denied, Trouble, Unreachable

HOLDS_SECONDS = 0.1
"""How long the outcome of an attempt is good enough for whoever wants the same."""


class Shared:
    """Attempts of one kind, one after the other, and no storm of them however many want one."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._failure: Trouble | None = None
        self._holds_until = 0.0

    async def attempt(self, make: Callable[[], Awaitable[None]], deadline: float) -> None:
        """Make an attempt, which keeps the deadline itself, or have the outcome of one that has just ended.

        Raises the Trouble of it, or Unreachable. That something is denied holds for nobody else: they do not ask again.
        """
        try:
            async with asyncio.timeout_at(deadline):
                await self._turn.acquire()
        except TimeoutError as error:
            raise Unreachable("Redis cannot be reached: it did not answer in time") from error
        try:
            if asyncio.get_running_loop().time() >= self._holds_until:
                await self._make(make)
        finally:
            self._turn.release()
        if self._failure is not None:
            raise type(self._failure)(str(self._failure)) from self._failure

    async def _make(self, make: Callable[[], Awaitable[None]]) -> None:
        self._failure = None
        try:
            await make()
        except Denied:
            raise
        except Trouble as trouble:
            self._failure = trouble
        self._holds_until = asyncio.get_running_loop().time() + HOLDS_SECONDS
