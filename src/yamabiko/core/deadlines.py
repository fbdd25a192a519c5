"""What is due at some time: one heap for all, looked at once a second."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable
from itertools import count

logger = logging.getLogger("yamabiko")

FEWEST_TO_CLEAR = 64


class Deadline:
    """Something to do at a time, unless it is cancelled before; then it holds on to nothing."""

    __slots__ = ("_callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback: Callable[[], None] | None = callback

    @property
    def is_cancelled(self) -> bool:
        return self._callback is None

    def cancel(self) -> None:
        self._callback = None

    def meet(self) -> None:
        """Do what is to be done, once. A mistake there is logged, so that it holds up nobody else."""
        callback, self._callback = self._callback, None
        if callback is not None:
            try:
                callback()
            except Exception:
                logger.exception("what was due could not be done")


class Deadlines:
    """`tick` is called about once a second with the time; what is due by then is done, in the order of its times."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Deadline]] = []
        self._order = count()
        self._cleared_at = FEWEST_TO_CLEAR

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, when: float, callback: Callable[[], None]) -> Deadline:
        if len(self._heap) >= self._cleared_at:
            self._clear()
        deadline = Deadline(callback)
        heapq.heappush(self._heap, (when, next(self._order), deadline))
        return deadline

    def tick(self, now: float) -> None:
        while self._heap and (self._heap[0][0] <= now or self._heap[0][2].is_cancelled):
            heapq.heappop(self._heap)[2].meet()

    def _clear(self) -> None:
        """Forget what is cancelled: a token may be good for days, and its connection be closed after a second."""
        self._heap = [entry for entry in self._heap if not entry[2].is_cancelled]
        heapq.heapify(self._heap)
        self._cleared_at = max(2 * len(self._heap), FEWEST_TO_CLEAR)
