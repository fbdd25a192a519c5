"""Waiting for a fact to become true, without asking again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Changes:
    """Whoever changes a fact tells; whoever waits for one looks again."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def tell(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def until(self, is_fact: Callable[[], bool]) -> None:
        while not is_fact():
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.add(waiter)
            try:
                await waiter
            finally:
                self._waiting.discard(waiter)

    async def until_or(self, seconds: float, is_fact: Callable[[], bool]) -> bool:
        """Wait `seconds` at most; return whether it became true."""
        try:
            async with asyncio.timeout(seconds):
                await self.until(is_fact)
        except TimeoutError:
            return is_fact()
        return True
