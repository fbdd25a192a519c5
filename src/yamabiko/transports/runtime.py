"""The asyncio loop as the core's `Runtime`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine

logger = logging.getLogger("yamabiko")


class AsyncioRuntime:
    """Owns the tasks it starts: it holds them until they end, reports their failures, and can wait for them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._report)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(seconds, callback)

    def now(self) -> float:
        return time.monotonic()

    async def finished(self, *, within_seconds: float) -> None:
        """Wait until nothing is running any more; what does not end in time is cancelled, and named in the log."""
        deadline = asyncio.get_running_loop().time() + within_seconds
        while self._tasks and (left := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._tasks, timeout=left)
        for task in self._tasks:
            logger.warning("did not end in %s s and is cancelled: %r", within_seconds, task.get_coro())
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_seconds)

    def _report(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a background task failed", exc_info=task.exception())
