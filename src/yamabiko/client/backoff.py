"""How long to wait before the next attempt: exponential, with full jitter."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

FIRST_CEILING_SECONDS = 0.5
LAST_CEILING_SECONDS = 20.0
STABLE_SECONDS = 5.0


@dataclass
class Backoff:
    """Doubles a ceiling with each failure and draws the delay evenly below it.

    Full jitter spreads the peers of a restarted server over the whole time, so that they do not come at once.
    """

    draw: Callable[[float, float], float] = random.uniform
    failures: int = 0

    def next_delay(self, at_least: float = 0.0) -> float:
        """Return seconds; `at_least` is what the server asked for, believed up to the last ceiling."""
        doublings = min(self.failures, 16)
        ceiling = min(LAST_CEILING_SECONDS, FIRST_CEILING_SECONDS * 2**doublings)
        self.failures += 1
        return max(self.draw(0, ceiling), min(at_least, LAST_CEILING_SECONDS))

    def connection_lived(self, seconds: float) -> None:
        """Begin anew after a connection that held; one that broke at once counts as a failure."""
        if seconds >= STABLE_SECONDS:
            self.failures = 0
