"""What Redis says to this process: one line for all rooms, or one for each node of a cluster.

The rooms wanted are compared with the rooms subscribed, and what differs is settled, at each server beside the others:
a new room, a broken line, a slot that has moved are all the same. What had to be subscribed again may have missed
something, which is told.
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
    """A channel is unsettled if it is wanted and has no place: no line on which its server has confirmed it."""

    def __init__(self, servers: Servers, timeout_seconds: float, take: Take, missed: Callable[[], None]) -> None:
        self._servers = servers
        self._timeout_seconds = timeout_seconds
        self._take = take
        self._missed = missed
        self._verbs = ("SSUBSCRIBE", "SUNSUBSCRIBE") if servers.is_sharded else ("SUBSCRIBE", "UNSUBSCRIBE")
        self._lines: dict[Endpoint, Line] = {}
        self._wanted: dict[bytes, RoomNames] = {}
        self._held: set[bytes] = set()
        """Those that somebody was told to have: they have missed something if they are subscribed anew."""
        self._places: dict[bytes, Line] = {}
        self._leaving: set[tuple[Line, bytes]] = set()
        self._waiting: defaultdict[bytes, list[asyncio.Future[None]]] = defaultdict(list)
        self._unsettled: defaultdict[Endpoint | None, dict[bytes, RoomNames]] = defaultdict(dict)
        self._keepers: dict[Endpoint | None, asyncio.Task[None]] = {}
        """One for each server at which something is unsettled, and one for what has no known server."""
        self._in_trouble: set[Endpoint | None] = set()
        self._watchers: list[asyncio.Task[None]] = []
        self._log = TroubleLog("publications of Redis cannot be heard")
        self._loop = asyncio.get_running_loop()
        self._next_renewal = self._loop.time() + RENEW_SECONDS

    async def subscribe(self, names: RoomNames) -> None:
        """Hear a room. Raises Unreachable if Redis has not confirmed it in time."""
        channel = names.channel
        self._wanted[channel] = names
        try:
            await self._is_settled(names)
            if channel in self._wanted:
                self._held.add(channel)
        finally:
            self._let_go(channel)

    async def want(self, names: RoomNames) -> None:
        """Hear a room from now on, once that can be; wait for it no longer than for any answer. Never raises."""
        self._wanted[names.channel] = names
        try:
            await self._is_settled(names)
        except Unreachable as trouble:
            logger.debug("what is wanted of Redis will be heard later: %s", trouble)
        finally:
            self._held.add(names.channel)

    async def unsubscribe(self, names: RoomNames) -> None:
        channel = names.channel
        self._want_no_more(channel)
        if channel in self._waiting:  # it may just be subscribed
            try:
                await self._is_settled(names)
            finally:
                self._let_go(channel)

    async def close(self) -> None:
        self._wanted.clear()
        for future in [future for waiting in self._waiting.values() for future in waiting if not future.done()]:
            future.set_exception(Unreachable("the connection to Redis was closed"))
        if tasks := [*self._watchers, *self._keepers.values()]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        self._places.clear()
        lines, self._lines = list(self._lines.values()), {}
        await asyncio.gather(*(line.end() for line in lines))

    async def _is_settled(self, names: RoomNames) -> None:
        """Wait until what is wanted of a room is so."""
        channel = names.channel
        if channel in self._places:
            return
        future: asyncio.Future[None] = self._loop.create_future()
        waiting = self._waiting[channel]
        waiting.append(future)
        self._unsettle(names)
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
        """Have a room settled by the keeper of its server."""
        endpoint = self._servers.of(names.tag)
        self._unsettled[endpoint][names.channel] = names
        if endpoint not in self._keepers:
            self._keepers[endpoint] = asyncio.create_task(self._keep(endpoint))
        if not self._watchers:
            self._watchers = [asyncio.create_task(self._watch_lines()), asyncio.create_task(self._watch_servers())]

    def _let_go(self, channel: bytes) -> None:
        """Want a channel no more if nobody has it or waits for it."""
        if channel not in self._held and channel not in self._waiting:
            self._want_no_more(channel)

    def _want_no_more(self, channel: bytes) -> None:
        self._wanted.pop(channel, None)
        self._held.discard(channel)
        self._leave(channel)

    def _leave(self, channel: bytes) -> None:
        """Take leave of a channel if it has a place; what still comes before the answer is not heard."""
        line = self._places.pop(channel, None)
        if line is not None:
            self._leaving.add((line, channel))
            line.ask((self._verbs[1], channel), self._deadline()).add_done_callback(_heed_not)

    def _arrive(self, line: Line, channel: bytes) -> None:
        """Take a line as the place of a channel, and the only one, if it is still wanted."""
        if self._places.get(channel) is not line:
            self._leave(channel)
        self._places[channel] = line
        if channel not in self._wanted:
            self._leave(channel)

    def _lose(self, line: Line, channel: bytes) -> None:
        if self._places.get(channel) is line:
            del self._places[channel]
            if names := self._wanted.get(channel):
                self._unsettle(names)

    async def _keep(self, endpoint: Endpoint | None) -> None:
        """Settle what is unsettled at a server until nothing is; after trouble again and again with growing pauses."""
        pause = 0.0
        while self._unsettled.get(endpoint):
            try:
                await self._settle(endpoint, is_again=pause > 0)
            except Exception as error:  # nothing may end the task on which every room here depends
                self._tell(error)
                self._in_trouble.add(endpoint)
                self._servers.doubt()
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS) or FIRST_PAUSE_SECONDS
                await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  (nothing secret)
            else:
                pause = 0.0
                self._in_trouble.discard(endpoint)
                if not self._in_trouble:
                    self._log.is_well()
        self._in_trouble.discard(endpoint)
        del self._keepers[endpoint]

    def _tell(self, error: Exception) -> None:
        if isinstance(error, Trouble):
            self._log.trouble(error)
        else:
            logger.error("the feed of Redis has met what it did not expect", exc_info=error)

    async def _settle(self, endpoint: Endpoint | None, *, is_again: bool) -> None:
        """Subscribe at a server what is unsettled there. Raises Trouble; what is not subscribed remains unsettled."""
        channels = self._unsettled.pop(endpoint)
        try:
            if is_again or self._line_to(endpoint) is None:
                await self._servers.be_sure(self._deadline())
            there = [names for names in channels.values() if self._servers.of(names.tag) == endpoint]
            await self._enter(endpoint, [names for names in there if self._is_missing(names.channel)])
        finally:
            for channel, names in channels.items():
                if self._is_missing(channel):
                    self._unsettle(names)
                else:
                    self._tell_waiting(channel)

    def _is_missing(self, channel: bytes) -> bool:
        return channel in self._wanted and channel not in self._places

    async def _enter(self, endpoint: Endpoint | None, rooms: list[RoomNames]) -> None:
        """Subscribe rooms, which `_hear` places; tell if some of them may have missed something. Raises Trouble."""
        if not rooms:
            return
        if endpoint is None:
            raise Unreachable("no server of the cluster has the slot of this room")
        line = self._line_to(endpoint) or await self._open(endpoint)
        deadline = self._deadline()
        lost = [names.channel for names in rooms if names.channel in self._held]
        replies = await asyncio.gather(*(line.ask((self._verbs[0], names.channel), deadline) for names in rooms))
        if any(channel in self._places for channel in lost):
            self._missed()
        refusals = [(names, reply) for names, reply in zip(rooms, replies, strict=True) if _is_error(reply)]
        for names, refusal in refusals:
            if code_of(refusal) == "MOVED":
                self._servers.moved(names.tag, endpoint_in(refusal, endpoint))
        if refusals:
            raise Denied(f"Redis at {endpoint} refuses a subscription: {meaning_of(refusals[-1][1])}")

    def _line_to(self, endpoint: Endpoint | None) -> Line | None:
        line = self._lines.get(endpoint) if endpoint is not None else None
        return line if line is not None and line.is_open else None

    async def _open(self, endpoint: Endpoint) -> Line:
        self._lines[endpoint] = line = await open_line(
            endpoint,
            self._servers.login,
            deadline=self._deadline(),
            hear=self._hear,
            is_lost=self._has_lost,
            patience_seconds=self._timeout_seconds,
        )
        return line

    def _tell_waiting(self, channel: bytes) -> None:
        for future in self._waiting.get(channel, ()):
            if not future.done():
                future.set_result(None)

    async def _watch_lines(self) -> None:
        """Ask now and then whether the servers live, and have rooms look whether they have missed something."""
        while True:
            await asyncio.sleep(PING_SECONDS)
            for line in self._lines.values():  # one that does not answer breaks off and is lost
                line.ask(("PING",), self._deadline()).add_done_callback(_heed_not)
            if self._loop.time() >= self._next_renewal:
                self._next_renewal = self._loop.time() + RENEW_SECONDS
                try:
                    self._missed()
                except Exception as error:
                    self._tell(error)

    async def _watch_servers(self) -> None:
        """Ask now and then whether a server has been replaced, and follow what has moved."""
        while self._servers.can_change:
            await asyncio.sleep(FIND_SECONDS)
            try:
                await self._servers.find(self._deadline())
            except Trouble as trouble:  # as long as the lines live, nothing is amiss
                logger.debug("where Redis is cannot be asked: %s", trouble)
            else:
                self._follow_what_has_moved()

    def _follow_what_has_moved(self) -> None:
        for channel, line in list(self._places.items()):
            names = self._wanted[channel]
            if self._servers.of(names.tag) not in (line.endpoint, None):
                self._leave(channel)
                self._unsettle(names)

    def _hear(self, line: Line, reply: Any) -> bool:
        """Take what nobody has asked for: a message, or that the slot of a room has left this node.

        Where a channel is follows from what comes in its order: whoever waits for an answer has it only a turn later.
        """
        if not isinstance(reply, list):
            return _is_error(reply) and self._hear_error(line, reply)
        kind, channel = reply[0], reply[1]
        if kind in (b"message", b"smessage"):
            names = self._wanted.get(channel)
            if names is not None and (line, channel) not in self._leaving:
                self._take(names.room, reply[2])
            return True
        if kind in (b"subscribe", b"ssubscribe"):
            self._arrive(line, channel)
        elif kind in (b"unsubscribe", b"sunsubscribe"):
            if line.first_asked != (self._verbs[1], channel):
                self._lose(line, channel)
                return True
            self._leaving.discard((line, channel))
        return False

    def _hear_error(self, line: Line, error: Exception) -> bool:
        """Tell whether nobody awaits this error.

        A node that a slot leaves just when we take leave of its room says the farewell first, and then to us that the
        slot has moved. The farewell passes for the answer if ours was the next to be answered.
        """
        verb, *channels = line.first_asked or ("",)
        if verb == self._verbs[1]:
            self._leaving.discard((line, channels[0]))
        return code_of(error) == "MOVED" and verb not in self._verbs

    def _has_lost(self, line: Line) -> None:
        """Have everything that was on a line subscribed anew."""
        if self._lines.get(line.endpoint) is line:
            del self._lines[line.endpoint]
        self._leaving = {(place, channel) for place, channel in self._leaving if place is not line}
        self._servers.doubt()
        for channel in [channel for channel, place in self._places.items() if place is line]:
            self._lose(line, channel)

    def _deadline(self) -> float:
        return self._loop.time() + self._timeout_seconds


def _heed_not(future: asyncio.Future[Any]) -> None:
    """Take note of an error, so that the loop does not complain: a line that breaks is noticed by itself."""
    if not future.cancelled():
        future.exception()


def _is_error(reply: Any) -> bool:
    return isinstance(reply, hiredis.ReplyError)
