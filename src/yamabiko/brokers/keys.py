"""Idempotency keys: what has been published under which key, for a while."""

from __future__ import annotations

from collections import OrderedDict

from yamabiko.core.messages import Position

KEPT_SECONDS = 300.0
"""How long a key is remembered at least."""


class Keys:
    """Positions by key, each until its time; keys that live equally long cost nothing to expire."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, tuple[float, Position | None]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def remember(self, key: str, position: Position | None, *, until: float) -> None:
        self._entries[key] = (until, position)

    def position(self, key: str) -> Position | None:
        return self._entries[key][1]

    def forget(self, key: str) -> None:
        self._entries.pop(key, None)

    def expire(self, now: float) -> None:
        while self._entries and next(iter(self._entries.values()))[0] <= now:
            self._entries.popitem(last=False)
