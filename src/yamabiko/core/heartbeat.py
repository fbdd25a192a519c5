"""Who is due for a ping and who has gone silent: one wheel for all peers, no timer per connection."""

from __future__ import annotations

from itertools import cycle
from typing import Generic, Protocol, TypeVar


class Peer(Protocol):
    is_heard: bool
    """Set by the peer's transport whenever something arrives; cleared here when a ping is due."""


P = TypeVar("P", bound=Peer)


class Heartbeat(Generic[P]):
    """A wheel with one slot a second: a slot's peers are pinged every `interval` seconds and checked `timeout` later.

    `tick` is called about once a second with the time; it makes up for late calls. `timeout` is below `interval`.
    """

    def __init__(self, *, interval: int, timeout: int) -> None:
        if not 0 < timeout < interval:
            raise ValueError(f"the pong timeout ({timeout} s) must be shorter than the ping interval ({interval} s)")
        self.interval, self.timeout = interval, timeout
        self._slots: list[set[P]] = [set() for _ in range(interval)]
        self._next_slot = cycle(range(interval))
        self._slot_of: dict[P, int] = {}
        self._second: int | None = None

    def __len__(self) -> int:
        return len(self._slot_of)

    def add(self, peer: P) -> None:
        """Begin to watch `peer`; peers are spread evenly, so the first ping comes within `interval`."""
        peer.is_heard = True
        slot = self._slot_of[peer] = next(self._next_slot)
        self._slots[slot].add(peer)

    def discard(self, peer: P) -> None:
        slot = self._slot_of.pop(peer, None)
        if slot is not None:
            self._slots[slot].discard(peer)

    def tick(self, now: float) -> tuple[list[P], list[P]]:
        """Return who is due for a ping and who has not been heard since the last one.

        A late tick pings but accuses nobody, now or later: answers may wait unread while the loop is busy elsewhere.
        """
        seconds = self._seconds_until(int(now))
        due = [peer for second in seconds for peer in self._slots[second % self.interval]]
        if len(seconds) > 2:
            for peer in self._slot_of:
                peer.is_heard = True
            return due, []
        silent = [peer for second in seconds for peer in self._asked(second) if not peer.is_heard]
        for peer in due:
            peer.is_heard = False
        return due, silent

    def _asked(self, second: int) -> set[P]:
        """Return those whose time to answer is over."""
        return self._slots[(second - self.timeout) % self.interval]

    def _seconds_until(self, now: int) -> range:
        """Return the seconds to work off, at most one turn of the wheel, so that nobody is pinged twice."""
        first = now if self._second is None else max(self._second + 1, now - self.interval + 1)
        self._second = max(now, first - 1)
        return range(first, now + 1)
