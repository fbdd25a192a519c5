"""Idempotency keys: what has been published under which key, for a while."""

from __future__ import annotations

from collections import OrderedDict

from yamabiko.core.messages import Position

KEPT_SECONDS = 300.0
"""How long a key is remembered at least."""


class Keys:
    """Positions by key, oldest first."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, tuple[float, Position | None]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def remember(self, key: str, position: Position | None, *, now: float) -> None:
        self._entries[key] = (now, position)

    def position(self, key: str) -> Position | None:
        return self._entries[key][1]

    def expire(self, now: float, *, kept_from: int = 0) -> None:
        """Forget keys older than five minutes, unless history has what was published under them: `kept_from` and on."""
        while self._entries:
            at, position = next(iter(self._entries.values()))
            if now < at + KEPT_SECONDS or (position is not None and position.offset >= kept_from):
                return
            self._entries.popitem(last=False)
