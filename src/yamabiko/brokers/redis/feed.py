"""What Redis says to this process: one line for all rooms, or one for each node of a cluster.

The rooms wanted are compared with the rooms subscribed, and what differs is settled: a new room, a broken line, a slot
that has moved are all the same. What had to be subscribed again may have missed something, which is told.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import hiredis

from yamabiko.brokers.redis.line import Endpoint, Line, open_line
from yamabiko.brokers.redis.names import RoomNames
from yamabiko.brokers.redis.servers import Servers, endpoint_in
from yamabiko.brokers.redis.troubles import Denied, Trouble, TroubleLog, Unreachable, code_of, meaning_of

logger = logging.getLogger("yamabiko")

PING_SECONDS = 1.0
"""How often the servers are asked whether they live. One that is paused is noticed after this and the timeout."""
FIND_SECONDS = 5.0
"""How often Sentinel or the cluster is asked whether a server has been replaced."""
RENEW_SECONDS = 12 * 3600.0
"""How often rooms are told to look, by which the numbers of silent ones are kept; those last a day."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 1.0

Take = Callable[[str, bytes], None]
"""Takes a room and what came on its channel."""


class Feed:
    def __init__(self, servers: Servers, timeout_seconds: float, take: Take, missed: Callable[[], None]) -> None:
        self._servers = servers
        self._timeout_seconds = timeout_seconds
        self._take = take
        self._missed = missed
        self._verbs = ("SSUBSCRIBE", "SUNSUBSCRIBE") if servers.is_sharded else ("SUBSCRIBE", "UNSUBSCRIBE")
        self._wanted: dict[bytes, RoomNames] = {}
        self._places: dict[bytes, Line] = {}
        self._lines: dict[Endpoint, Line] = {}
        self._unsettled: dict[bytes, RoomNames] = {}
        self._leaving: set[tuple[Line, bytes]] = set()
        self._lost: set[bytes] = set()
        self._waiting: defaultdict[bytes, list[asyncio.Future[None]]] = defaultdict(list)
        self._work = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._log = TroubleLog("publications of Redis cannot be heard")
        self._loop = asyncio.get_running_loop()
        self._next_ping = self._next_find = 0.0
        self._next_renewal = self._loop.time() + RENEW_SECONDS

    async def subscribe(self, names: RoomNames) -> None:
        """Hear a room. Raises Unreachable if Redis has not confirmed it in time."""
        channel = names.channel
        self._wanted[channel] = names
        try:
            await self._is_settled(names)
        except BaseException:
            if channel not in self._waiting and channel not in self._places and channel not in self._lost:
                self._wanted.pop(channel, None)
            raise

    async def want(self, names: RoomNames) -> None:
        """Hear a room from now on, once that can be; wait for it no longer than for any answer. Never raises."""
        self._wanted[names.channel] = names
        try:
            await self._is_settled(names)
        except Unreachable as trouble:
            logger.debug("what is wanted of Redis will be heard later: %s", trouble)

    async def unsubscribe(self, names: RoomNames) -> None:
        channel = names.channel
        self._wanted.pop(channel, None)
        self._lost.discard(channel)
        if channel in self._places or channel in self._waiting:
            await self._is_settled(names)

    async def close(self) -> None:
        self._wanted.clear()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
            self._keeper = None
        for waiting in list(self._waiting.values()):
            for future in waiting:
                if not future.done():
                    future.set_exception(Unreachable("the connection to Redis was closed"))
        self._places.clear()
        lines, self._lines = list(self._lines.values()), {}
        await asyncio.gather(*(line.end() for line in lines))

    async def _is_settled(self, names: RoomNames) -> None:
        """Wait until what is wanted of a room is so."""
        channel = names.channel
        future: asyncio.Future[None] = self._loop.create_future()
        waiting = self._waiting[channel]
        waiting.append(future)
        self._unsettle(names)
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep())
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await future
        except TimeoutError as error:
            raise Unreachable("Redis has not confirmed the subscription in time") from error
        finally:
            waiting.remove(future)
            if not waiting and self._waiting.get(channel) is waiting:
                del self._waiting[channel]

    def _unsettle(self, names: RoomNames) -> None:
        self._unsettled[names.channel] = names
        self._work.set()

    async def _keep(self) -> None:
        """Settle what is to be settled, for ever; after trouble, again and again with growing pauses."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                await self._wait_for_work()
                if self._unsettled:
                    await self._settle()
            except Exception as error:  # nothing may end the task on which every room depends
                self._tell(error)
                self._servers.doubt()
                await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  (nothing secret)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                self._work.set()
            else:
                self._log.is_well()
                pause = FIRST_PAUSE_SECONDS

    def _tell(self, error: Exception) -> None:
        if isinstance(error, Trouble):
            self._log.trouble(error)
        else:
            logger.error("the feed of Redis has met what it did not expect", exc_info=error)

    async def _wait_for_work(self) -> None:
        """Wait until something is unsettled; look after the lines meanwhile."""
        while not self._work.is_set():
            try:
                async with asyncio.timeout(PING_SECONDS):
                    await self._work.wait()
            except TimeoutError:
                await self._look_after_lines()
        self._work.clear()
        if self._loop.time() >= self._next_ping:
            await self._look_after_lines()

    async def _look_after_lines(self) -> None:
        now = self._loop.time()
        self._next_ping = now + PING_SECONDS
        for line in self._lines.values():  # one that does not answer breaks off and is lost
            line.ask(("PING",), now + self._timeout_seconds).add_done_callback(_heed_not)
        if now >= self._next_renewal:
            self._next_renewal = now + RENEW_SECONDS
            self._missed()
        if self._servers.can_change and now >= self._next_find:
            self._next_find = now + FIND_SECONDS
            try:
                await self._servers.find(now + self._timeout_seconds)
            except Trouble as trouble:  # as long as the lines live, nothing is amiss
                logger.debug("where Redis is cannot be asked: %s", trouble)
            else:
                self._unsettle_what_has_moved()

    def _unsettle_what_has_moved(self) -> None:
        for channel, line in self._places.items():
            names = self._wanted.get(channel)
            if names is not None and self._servers.of(names.tag) != line.endpoint:
                self._lost.add(channel)
                self._unsettle(names)

    async def _settle(self) -> None:
        """Make everything unsettled as it is wanted. Raises Trouble; what could not be made so remains unsettled."""
        channels, self._unsettled = self._unsettled, {}
        try:
            if any(self._servers.of(names.tag) is None for names in channels.values()):
                await self._servers.find(self._deadline())
            self._leave(channels)
            results = await asyncio.gather(
                *(self._enter(endpoint, group) for endpoint, group in self._to_enter(channels).items()),
                return_exceptions=True,
            )
        finally:
            for channel, names in channels.items():
                if (channel in self._wanted) != (channel in self._places):
                    self._unsettle(names)
            self._tell_waiting(channels)
        self._tell_missed(channels)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        if any(channel in self._wanted and self._servers.of(names.tag) is None for channel, names in channels.items()):
            raise Unreachable("no server of the cluster has the slot of this room")

    def _leave(self, channels: dict[bytes, RoomNames]) -> None:
        """Take leave of what is not wanted, or no longer there; what still comes before the answer is not heard."""
        for channel, names in channels.items():
            line = self._places.get(channel)
            if line is None or (channel in self._wanted and self._servers.of(names.tag) == line.endpoint):
                continue
            del self._places[channel]
            self._leaving.add((line, channel))
            line.ask((self._verbs[1], channel), self._deadline()).add_done_callback(_heed_not)

    def _to_enter(self, channels: dict[bytes, RoomNames]) -> dict[Endpoint, list[bytes]]:
        groups: defaultdict[Endpoint, list[bytes]] = defaultdict(list)
        for channel, names in channels.items():
            endpoint = self._servers.of(names.tag)
            if channel in self._wanted and channel not in self._places and endpoint is not None:
                groups[endpoint].append(channel)
        return groups

    async def _enter(self, endpoint: Endpoint, channels: list[bytes]) -> None:
        line = self._lines.get(endpoint)
        if line is None or not line.is_open:
            line = self._lines[endpoint] = await open_line(
                endpoint, self._servers.login, deadline=self._deadline(), hear=self._hear, is_lost=self._has_lost
            )
        deadline = self._deadline()
        asked = [line.ask((self._verbs[0], channel), deadline) for channel in channels]
        refusal: Exception | None = None
        for channel, reply in zip(channels, await asyncio.gather(*asked), strict=True):
            if not isinstance(reply, hiredis.ReplyError):
                self._places[channel] = line
                continue
            refusal = reply
            if code_of(reply) == "MOVED" and channel in self._wanted:
                self._servers.moved(self._wanted[channel].tag, endpoint_in(reply, line.endpoint))
        if refusal is not None:
            raise Denied(f"Redis at {line.endpoint} refuses a subscription: {meaning_of(refusal)}")

    def _tell_waiting(self, channels: dict[bytes, RoomNames]) -> None:
        for channel in channels:
            if channel not in self._unsettled:
                for future in self._waiting.get(channel, ()):
                    if not future.done():
                        future.set_result(None)

    def _tell_missed(self, channels: dict[bytes, RoomNames]) -> None:
        regained = {channel for channel in channels if channel in self._lost and channel in self._places}
        if regained:
            self._lost -= regained
            self._missed()

    def _hear(self, line: Line, reply: list[Any]) -> bool:
        """Take what nobody has asked for: a message, or that the slot of a room has left this node."""
        kind = reply[0]
        if kind in (b"message", b"smessage"):
            names = self._wanted.get(reply[1])
            if names is not None and (line, reply[1]) not in self._leaving:
                self._take(names.room, reply[2])
            return True
        if kind in (b"unsubscribe", b"sunsubscribe"):
            if (line, reply[1]) not in self._leaving:
                self._lose(reply[1])
                return True
            self._leaving.discard((line, reply[1]))
        return False

    def _has_lost(self, line: Line) -> None:
        """Have everything that was on a line subscribed anew."""
        if self._lines.get(line.endpoint) is line:
            del self._lines[line.endpoint]
        self._leaving = {(place, channel) for place, channel in self._leaving if place is not line}
        for channel in [channel for channel, place in self._places.items() if place is line]:
            self._lose(channel)
        self._servers.doubt()

    def _lose(self, channel: bytes) -> None:
        self._places.pop(channel, None)
        names = self._wanted.get(channel)
        if names is not None:
            self._lost.add(channel)
            self._unsettle(names)

    def _deadline(self) -> float:
        return self._loop.time() + self._timeout_seconds


def _heed_not(future: asyncio.Future[Any]) -> None:
    """Take note of an error, so that the loop does not complain: a line that breaks is noticed by itself."""
    if not future.cancelled():
        future.exception()
