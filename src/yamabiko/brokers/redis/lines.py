"""Asking Redis: the open lines of this process, and what is done when an answer is none."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import hiredis

from yamabiko.brokers.redis.line import Endpoint, Line, open_line
from yamabiko.brokers.redis.scripts import Request
from yamabiko.brokers.redis.servers import Servers, endpoint_in
from yamabiko.brokers.redis.troubles import (
    ELSEWHERE,
    PASSING,
    Broken,
    Denied,
    Trouble,
    Unreachable,
    code_of,
    meaning_of,
)

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.01, 0.2
"""Between attempts to do what Redis has certainly not done."""
IDLE_SECONDS = 15.0
"""After this a line is asked whether it still leads anywhere: what is between may have forgotten it and tell nobody."""


class Lines:
    def __init__(self, servers: Servers, timeout_seconds: float) -> None:
        self._servers = servers
        self._timeout_seconds = timeout_seconds
        self._lines: dict[Endpoint, Line] = {}
        self._opening: defaultdict[Endpoint | None, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._is_closed = False

    async def ask(self, request: Request, *, may_repeat: bool) -> Any:
        """Return the answer to `request`; what was certainly not done is asked again while there is time.

        What may have been done is asked again only if it may be repeated. Raises Trouble.
        """
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + self._timeout_seconds, FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self._ask_once(request, deadline)
            except Unreachable as trouble:
                last: Trouble = trouble
            except Broken as trouble:
                last = trouble
            self._servers.doubt()
            if (isinstance(last, Broken) and not may_repeat) or loop.time() + pause >= deadline:
                raise last
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def close(self) -> None:
        """Wait for what is under way, then end all lines."""
        self._is_closed = True
        lines = list(self._lines.values())
        await asyncio.gather(*(line.finished() for line in lines))
        await asyncio.gather(*(line.end() for line in lines))

    async def _ask_once(self, request: Request, deadline: float) -> Any:
        """Ask, and follow where the answer leads. Raises Unreachable if it was not done, Broken if it may have been."""
        line = self._line(request.tag) or await self._opened(request.tag, deadline)
        if deadline - self._timeout_seconds > line.heard_at + IDLE_SECONDS:
            await self._prove(line, deadline)
        reply = await _ask_at(line, request, deadline)
        if not isinstance(reply, hiredis.ReplyError):
            return reply
        return await self._follow(reply, line, request, deadline)

    async def _prove(self, line: Line, deadline: float) -> None:
        """See that a line is alive, in half of the time, so that there is some left for another one."""
        try:
            await line.ask(("PING",), deadline - self._timeout_seconds / 2)
        except Broken as trouble:
            raise Unreachable(str(trouble)) from trouble

    async def _follow(self, error: Exception, line: Line, request: Request, deadline: float) -> Any:
        """Ask again where an error points to, or with the script that is not known there."""
        reply: Any = error
        is_asking = False
        if code_of(error) == "MOVED":
            self._servers.moved(request.tag, endpoint_in(error, line.endpoint))
            line = await self._opened(request.tag, deadline)
            reply = await _ask_at(line, request, deadline)
        elif code_of(error) == "ASK":
            is_asking = True
            line = await self._open(endpoint_in(error, line.endpoint), deadline)
            reply = await _ask_here(line, request, deadline, is_asking=True)
        if isinstance(reply, hiredis.ReplyError) and code_of(reply) == "NOSCRIPT":
            reply = await _ask_here(line, request, deadline, is_asking=is_asking, with_source=True)
        if isinstance(reply, hiredis.ReplyError):
            self._raise(reply, line)
        return reply

    def _raise(self, reply: Exception, line: Line) -> None:
        text = f"Redis at {line.endpoint} refuses: {meaning_of(reply)}"
        code = code_of(reply)
        if code in ELSEWHERE:
            line.break_off(text)
        if code in PASSING or code in ("MOVED", "ASK", "NOSCRIPT"):
            raise Unreachable(text) from reply
        raise Denied(text) from reply

    def _line(self, tag: str) -> Line | None:
        endpoint = self._servers.of(tag)
        line = self._lines.get(endpoint) if endpoint is not None else None
        return line if line is not None and line.is_open else None

    async def _opened(self, tag: str, deadline: float) -> Line:
        self._refuse_if_closed()
        try:
            async with asyncio.timeout_at(deadline):
                if self._servers.of(tag) is None:
                    async with self._opening[None]:
                        if self._servers.of(tag) is None:
                            await self._servers.find(deadline)
                endpoint = self._servers.of(tag)
                if endpoint is None:
                    raise Unreachable("no server of the cluster has the slot of this room")
                return await self._open(endpoint, deadline)
        except TimeoutError as error:
            raise Unreachable("Redis cannot be reached: it did not answer in time") from error

    async def _open(self, endpoint: Endpoint, deadline: float) -> Line:
        async with self._opening[endpoint]:
            line = self._lines.get(endpoint)
            if line is None or not line.is_open:
                line = await open_line(endpoint, self._servers.login, deadline=deadline)
                self._lines[endpoint] = line
            if self._is_closed:
                await line.end()
            self._refuse_if_closed()
            return line

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise Denied("the connection to Redis was closed")


def _ask_at(line: Line, request: Request, deadline: float) -> asyncio.Future[Any]:
    words = request.words(line.run)
    return line.ask_together(words, request.item, deadline) if request.item else line.ask(words, deadline)


async def _ask_here(
    line: Line, request: Request, deadline: float, *, is_asking: bool, with_source: bool = False
) -> Any:
    if is_asking:  # for the next command only, which therefore has to follow at once
        line.ask(("ASKING",), deadline).add_done_callback(lambda future: future.cancelled() or future.exception())
    reply = await line.ask((*request.words(line.run, with_source=with_source), *request.item), deadline)
    return reply[0] if request.item and isinstance(reply, list) else reply
