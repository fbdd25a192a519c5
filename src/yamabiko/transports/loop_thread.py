"""An event loop in a thread, for a process that has none of its own running."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from threading import Thread
from typing import Any

STOP_SECONDS = 5.0


class LoopThread:
    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = Thread(target=self.loop.run_forever, name="yamabiko", daemon=True)
        self._thread.start()

    def stop(self, last_work: Coroutine[Any, Any, None]) -> None:
        """Run `last_work`, then end the loop and its thread."""
        try:
            asyncio.run_coroutine_threadsafe(last_work, self.loop).result(STOP_SECONDS)
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(STOP_SECONDS)
            if not self._thread.is_alive():
                self.loop.close()
