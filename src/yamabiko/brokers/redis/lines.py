"""Asking Redis: the open lines of this process, and what is done when an answer is none."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from functools import partial
from typing import Any

import hiredis

from yamabiko.brokers.redis.line import Endpoint, Line, open_line
from yamabiko.brokers.redis.scripts import Request
from yamabiko.brokers.redis.servers import Servers, endpoint_in
from yamabiko.brokers.redis.shared import Shared
from yamabiko.brokers.redis.troubles import (
    ELSEWHERE,
    NOT_YET,
    PASSING,
    Broken,
    Denied,
    NotYet,
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
    """One line to each server. One that is open is used without a question; doubt is cleared before one is opened."""

    def __init__(self, servers: Servers, timeout_seconds: float) -> None:
        self._servers = servers
        self._timeout_seconds = timeout_seconds
        self._lines: dict[Endpoint, Line] = {}
        self._retired: set[Line] = set()
        self._opening: defaultdict[Endpoint, Shared] = defaultdict(Shared)
        self._is_closed = False

    async def ask(self, request: Request, *, may_repeat: bool) -> Any:
        """Return the answer to `request`; what was certainly not done is asked again while there is time.

        What may have been done is asked again only if it may be repeated. Raises Trouble.
        """
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + self._timeout_seconds, FIRST_PAUSE_SECONDS
        is_again = False
        while True:
            try:
                return await self._ask_once(request, deadline, is_again=is_again)
            except Unreachable as trouble:
                last: Trouble = trouble
            except Broken as trouble:
                last = trouble
            if not isinstance(last, NotYet):
                self._servers.doubt()
            if (isinstance(last, Broken) and not may_repeat) or loop.time() + pause >= deadline:
                raise last
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            is_again = True

    async def close(self) -> None:
        """Wait for what is under way, then end all lines."""
        self._is_closed = True
        lines = [*self._lines.values(), *self._retired]
        await asyncio.gather(*(line.finished() for line in lines))
        await asyncio.gather(*(line.end() for line in lines))

    async def _ask_once(self, request: Request, deadline: float, *, is_again: bool) -> Any:
        """Ask, and follow where the answer leads. Raises Unreachable if it was not done, Broken if it may have been."""
        line = None if is_again else self._line_to(self._servers.of(request.tag))
        if line is None:
            line = await self._opened(request.tag, deadline)
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
            endpoint = endpoint_in(error, line.endpoint)
            self._servers.moved(request.tag, endpoint)
            line = await self._open(endpoint, deadline)
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
            self._retire(line)
        if code in NOT_YET:
            raise NotYet(text) from reply
        if code in PASSING or code in ("MOVED", "ASK", "NOSCRIPT"):
            raise Unreachable(text) from reply
        raise Denied(text) from reply

    def _retire(self, line: Line) -> None:
        """Ask nothing more on a line; what was asked there is still answered."""
        if self._lines.get(line.endpoint) is line:
            del self._lines[line.endpoint]
            self._retired.add(line)
            line.end_when_answered()

    def _line_to(self, endpoint: Endpoint | None) -> Line | None:
        line = self._lines.get(endpoint) if endpoint is not None else None
        return line if line is not None and line.is_open else None

    async def _opened(self, tag: str, deadline: float) -> Line:
        """Return an open line to the server that has the slot of `tag`; if it is in doubt, that is found out first."""
        self._refuse_if_closed()
        await self._servers.be_sure(deadline)
        endpoint = self._servers.of(tag)
        if endpoint is None:
            raise Unreachable("no server of the cluster has the slot of this room")
        return await self._open(endpoint, deadline)

    async def _open(self, endpoint: Endpoint, deadline: float) -> Line:
        if self._line_to(endpoint) is None:
            await self._opening[endpoint].attempt(partial(self._open_anew, endpoint, deadline), deadline)
        self._refuse_if_closed()
        line = self._line_to(endpoint)
        if line is None:
            raise Unreachable(f"Redis at {endpoint} cannot be reached: it has ended the connection at once")
        return line

    async def _open_anew(self, endpoint: Endpoint, deadline: float) -> None:
        if self._line_to(endpoint) is not None:  # opened while this waited for its turn
            return
        line = await open_line(endpoint, self._servers.login, deadline=deadline, is_lost=self._retired.discard)
        self._lines[endpoint] = line
        if self._is_closed:
            await line.end()

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
