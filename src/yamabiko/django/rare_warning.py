"""Warnings that strangers could otherwise fill the log with."""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import inf
from time import monotonic

logger = logging.getLogger("yamabiko")

TOLD_AGAIN_SECONDS = 60.0


class RareWarning:
    """Something that is told in the log once a minute at most, with how often it has happened since."""

    def __init__(self, what: str, clock: Callable[[], float] = monotonic) -> None:
        self._what = what
        self._clock = clock
        self._told = -inf
        self._times = 0

    def tell(self, detail: str) -> None:
        """Tell it, with what was special this time: no secret; it takes one line, and is cut where it is long."""
        self._times += 1
        if self._told + TOLD_AGAIN_SECONDS <= self._clock():
            since = f" ({self._times} since the last such line)" if self._times > 1 else ""
            logger.warning("%s: %.200s%s", self._what, repr(detail)[1:-1], since)
            self._told, self._times = self._clock(), 0
