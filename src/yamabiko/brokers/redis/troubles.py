"""What can go wrong with Redis, in words for people. No text here holds a password: Redis may say it back.

Trouble
+-- Unreachable     nothing was done yet: it may work later
|   +-- NotYet      the right server was asked, and is not ready
+-- Broken          the line broke, or nothing came in time: what was asked may have been done
+-- Denied          Redis refuses; asking again changes nothing
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

logger = logging.getLogger("yamabiko")

TOLD_AGAIN_SECONDS = 10.0

PASSING = {"BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY", "TRYAGAIN"}
"""Codes with which Redis has not done what it was asked and may do it soon."""
NOT_YET = {"BUSY", "LOADING", "TRYAGAIN"}
"""Those of them that cast no doubt on which server to ask."""
ELSEWHERE = {"MASTERDOWN", "READONLY"}
"""Codes of a server that is no longer the one to ask."""
MEANINGS = {
    "BUSY": "it is busy with somebody's script",
    "CLUSTERDOWN": "the cluster is down",
    "LOADING": "it is loading its data",
    "MASTERDOWN": "it is a replica that has lost its primary",
    "MISCONF": "it takes no writes, because it cannot save to its disk",
    "NOAUTH": "it asks for a password: redis://USER:PASSWORD@HOST",
    "NOPERM": "its ACL does not let this user do it",
    "NOREPLICAS": "it has too few replicas to take writes",
    "OOM": "its memory is full (maxmemory)",
    "READONLY": "it is a replica and takes no writes",
    "TRYAGAIN": "a slot of the cluster is being moved",
    "WRONGPASS": "user name or password are wrong",
}


class Trouble(Exception):
    """Redis did not do what it was asked."""


class Unreachable(Trouble): ...


class NotYet(Unreachable): ...


class Broken(Trouble): ...


class Denied(Trouble): ...


def code_of(error: Exception) -> str:
    return str(error).split(" ", 1)[0]


def meaning_of(error: Exception) -> str:
    """Say an error reply of Redis in words that hold nothing of what was sent, which Redis may quote."""
    code = code_of(error)
    if code in MEANINGS:
        return f"{MEANINGS[code]} ({code})"
    return f"it answers {str(error).split(', with args', 1)[0]:.120}"


class TroubleLog:
    """Tells of one kind of trouble in the log, not more often than every ten seconds, and when it is over."""

    def __init__(self, subject: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._subject = subject
        self._clock = clock
        self._told_at = -TOLD_AGAIN_SECONDS
        self._is_in_trouble = False

    def trouble(self, trouble: Trouble) -> None:
        now = self._clock()
        self._is_in_trouble = True
        if now >= self._told_at + TOLD_AGAIN_SECONDS:
            self._told_at = now
            logger.warning("%s: %s", self._subject, trouble)

    def is_well(self) -> None:
        if self._is_in_trouble:
            self._is_in_trouble = False
            logger.info("%s: it works again", self._subject)
