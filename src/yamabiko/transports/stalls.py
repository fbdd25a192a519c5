"""Who takes nothing of what waits for it: looked at once a second, no timer per connection."""

from __future__ import annotations

from typing import Protocol


class Behind(Protocol):
    """A peer for whom something waits."""

    @property
    def is_behind(self) -> bool:
        """Whether something still waits."""

    @property
    def taken(self) -> object:
        """What differs from before once the peer has taken something of what waits for it."""

    def is_stalled(self) -> None:
        """Take the news that the peer has taken nothing for the whole timeout."""


LATE_SECONDS = 1.5
"""If so much has passed since the last tick, it may be we who have not written."""


class Stalls:
    """Times are on the loop's clock, in seconds. Peers that have caught up are forgotten."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._behind: dict[Behind, tuple[object, float]] = {}
        """What each had taken, and since when it has not been more."""
        self._ticked_at = 0.0

    def __len__(self) -> int:
        return len(self._behind)

    def add(self, peer: Behind, now: float) -> None:
        """Begin to watch a peer that is behind, unless it is watched already."""
        if peer not in self._behind:
            self._behind[peer] = peer.taken, now

    def tick(self, now: float) -> list[Behind]:
        """Return who is stalled, and forget them. A late tick accuses nobody."""
        is_late, self._ticked_at = now - self._ticked_at >= LATE_SECONDS, now
        stalled = []
        for peer, (taken, since) in list(self._behind.items()):
            if not peer.is_behind:
                del self._behind[peer]
            elif is_late or peer.taken != taken:
                self._behind[peer] = peer.taken, now
            elif now - since >= self._timeout:
                del self._behind[peer]
                stalled.append(peer)
        return stalled
