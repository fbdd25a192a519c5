"""One timer for the pings and deadlines of all adopted sockets of a loop."""

from __future__ import annotations

import asyncio
from typing import Protocol
from weakref import WeakKeyDictionary

from yamabiko.core.heartbeat import Heartbeat
from yamabiko.transports.limits import Limits


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
        self._is_ticking = False

    def watch(self, peer: Pinged) -> None:
        self._heartbeat.add(peer)
        if not self._is_ticking:
            self._is_ticking = True
            self._tick()

    def forget(self, peer: Pinged) -> None:
        self._heartbeat.discard(peer)

    def _tick(self) -> None:
        self._is_ticking = bool(self._heartbeat)
        if not self._is_ticking:
            return
        loop = asyncio.get_running_loop()
        loop.call_later(1, self._tick)
        due, silent = self._heartbeat.tick(loop.time())
        for peer in silent:
            peer.is_silent()
        for peer in due:
            peer.ping()


_pulses: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Limits, Pulse]] = WeakKeyDictionary()


def pulse(limits: Limits) -> Pulse:
    """Return the pulse of the running loop for sockets with these limits."""
    of_loop = _pulses.setdefault(asyncio.get_running_loop(), {})
    return of_loop.setdefault(limits, Pulse(limits))
