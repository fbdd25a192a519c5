"""One timer a loop for the pings of all peers, and for those who do not take what they are sent."""

from __future__ import annotations

import asyncio
from typing import Protocol
from weakref import WeakKeyDictionary

from yamabiko.core.heartbeat import Heartbeat
from yamabiko.transports.limits import Limits
from yamabiko.transports.stalls import Behind, Stalls


class Pinged(Protocol):
    is_heard: bool

    def ping(self) -> None: ...

    def is_silent(self) -> None:
        """Take the news that nothing has come back since the last ping."""


class Pulse:
    """Ticks once a second while it has anybody to watch."""

    def __init__(self, limits: Limits) -> None:
        self._heartbeat: Heartbeat[Pinged] = Heartbeat(
            interval=limits.ping_interval_seconds, timeout=limits.pong_timeout_seconds
        )
        self._stalls = Stalls(limits.write_timeout_seconds)
        self._is_ticking = False

    def watch(self, peer: Pinged) -> None:
        self._heartbeat.add(peer)
        self._start()

    def forget(self, peer: Pinged) -> None:
        self._heartbeat.discard(peer)

    def watch_writing(self, peer: Behind) -> None:
        """See that a peer goes on taking what waits for it, until nothing does."""
        self._stalls.add(peer, asyncio.get_running_loop().time())
        self._start()

    def _start(self) -> None:
        if not self._is_ticking:
            self._is_ticking = True
            self._tick()

    def _tick(self) -> None:
        self._is_ticking = bool(self._heartbeat or self._stalls)
        if not self._is_ticking:
            return
        loop = asyncio.get_running_loop()
        loop.call_later(1, self._tick)
        now = loop.time()
        for stalled in self._stalls.tick(now):
            stalled.is_stalled()
        due, silent = self._heartbeat.tick(now)
        for peer in silent:
            peer.is_silent()
        for peer in due:
            peer.ping()


_pulses: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Limits, Pulse]] = WeakKeyDictionary()


def pulse(limits: Limits) -> Pulse:
    """Return the pulse of the running loop for sockets with these limits."""
    of_loop = _pulses.setdefault(asyncio.get_running_loop(), {})
    return of_loop.setdefault(limits, Pulse(limits))
