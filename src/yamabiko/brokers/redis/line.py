"""One connection to one server: what is asked in a turn of the loop leaves in one write, answers come in order.

The wire is RESP2, read by hiredis. A client of a whole library's breadth costs nine times as much a message.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, NamedTuple, cast

import hiredis

from yamabiko.brokers.redis.scripts import Word
from yamabiko.brokers.redis.troubles import Broken, Denied, Unreachable, code_of, meaning_of

ITEMS_AT_ONCE, BYTES_AT_ONCE = 100, 256 * 1024
"""How much one run of a script is given: the server does nothing else meanwhile."""

Hear = Callable[["Line", Any], bool]
"""Takes a reply, before whoever asked has it, and tells whether it was one that nobody had asked for."""


Item = tuple[tuple[Word, ...], asyncio.Future[Any]]
"""What is asked as one with others, and who waits for its part of the answer."""


class Endpoint(NamedTuple):
    """A server's host and port, or the path of its Unix socket and port 0."""

    host: str
    port: int

    def __str__(self) -> str:
        if not self.port:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Login:
    """How to present oneself to a server."""

    user: str = ""
    password: str = field(default="", repr=False)
    db: int = 0
    tls: ssl.SSLContext | None = None

    def words(self) -> list[tuple[Word, ...]]:
        words: list[tuple[Word, ...]] = []
        if self.password:
            words.append(("AUTH", self.user, self.password) if self.user else ("AUTH", self.password))
        if self.db:
            words.append(("SELECT", self.db))
        return words


class Asked(NamedTuple):
    """Who waits for a reply, each for its part of it if they asked together."""

    words: Sequence[Word]
    futures: Sequence[asyncio.Future[Any]]
    deadline: float
    is_together: bool = False

    def answer(self, reply: Any) -> None:
        parts = reply if self.is_together and isinstance(reply, list) else repeat(reply)
        for future, part in zip(self.futures, parts):  # noqa: B905  (one reply may be for all)
            if not future.done():  # whoever asked may have stopped waiting
                future.set_result(part)

    def fail(self, reason: str) -> None:
        for future in self.futures:
            if not future.done():
                future.set_exception(Broken(reason))


class Line(asyncio.Protocol):
    """`run` names the run of the server at the other end, if it tells; `heard_at` is on the loop's clock.

    As long as something else was heard within `patience_seconds`, an answer may come later than its deadline.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        hear: Hear | None = None,
        is_lost: Callable[[Line], None] | None = None,
        patience_seconds: float = 0.0,
    ):
        self.endpoint = endpoint
        self.run = ""
        self._hear = hear
        self._is_lost = is_lost
        self._patience_seconds = patience_seconds
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        self._together: dict[tuple[Word, ...], list[Item]] = {}
        self._asked: deque[Asked] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._reason = f"Redis at {endpoint} has ended the connection"
        self._ends_when_answered = False
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._deadline = self.heard_at = self._loop.time()

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def first_asked(self) -> Sequence[Word]:
        """The words that the next answer is for, none if nothing is awaited."""
        return self._asked[0].words if self._asked else ()

    def ask(self, words: Sequence[Word], deadline: float) -> asyncio.Future[Any]:
        """Send a command; the future has the reply, which may be a hiredis.ReplyError, or raises Broken.

        `deadline` is a time of the loop: a server that has not answered by then has all that was asked of it broken.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        if not self.is_open:
            future.set_exception(Broken(self._reason))
            return future
        self._will_send(deadline)
        self._unsent.append(packed(words))
        self._asked.append(Asked(words, (future,), deadline))
        return future

    def ask_together(self, words: tuple[Word, ...], item: tuple[Word, ...], deadline: float) -> asyncio.Future[Any]:
        """Send a command with `item`, as one with all of this turn that has the same words; the future has its part."""
        future: asyncio.Future[Any] = self._loop.create_future()
        if not self.is_open:
            future.set_exception(Broken(self._reason))
            return future
        self._will_send(deadline)
        self._deadline = min(self._deadline, deadline) if self._together else deadline
        self._together.setdefault(words, []).append((item, future))
        return future

    async def greet(self, login: Login, deadline: float) -> None:
        """Present oneself and learn the server's run. Raises Denied or Broken."""
        asked = [self.ask(words, deadline) for words in (*login.words(), ("INFO", "server"))]
        *replies, info = await asyncio.gather(*asked)
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                why = meaning_of(reply).replace(login.password or "\0", "...")
                raise Denied(f"Redis at {self.endpoint} refuses the login: {why}")
        if not isinstance(info, hiredis.ReplyError):
            self.run = _run_in(info)
        elif code_of(info) == "NOAUTH":
            raise Denied(f"Redis at {self.endpoint} refuses the login: {meaning_of(info)}")

    async def finished(self) -> None:
        """Wait until everything that was asked is answered or broken."""
        self._send()
        if futures := [future for asked in self._asked for future in asked.futures if not future.done()]:
            await asyncio.wait(futures)

    def end_when_answered(self) -> None:
        """End once everything that was asked is answered; nothing more is to be asked."""
        self._ends_when_answered = True
        self._end_if_answered()

    def break_off(self, reason: str) -> None:
        """End at once; what is not answered is broken."""
        if not self._ended.done():
            self._reason = reason
        if self._transport is not None:
            self._transport.abort()

    async def end(self) -> None:
        self.break_off(f"the connection to Redis at {self.endpoint} was closed")
        if self._transport is not None:
            await self._ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._loop.time()
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                self._take(reply)
        except (hiredis.ProtocolError, IndexError):
            self.break_off(f"what is at {self.endpoint} does not speak the protocol of Redis")
        if self._ends_when_answered:
            self._end_if_answered()

    def connection_lost(self, error: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._pack_together()
        self._unsent.clear()
        while self._asked:
            self._asked.popleft().fail(self._reason)
        self._ended.set_result(None)
        if self._is_lost is not None:
            self._is_lost(self)

    def _take(self, reply: Any) -> None:
        if self._hear is not None and self._hear(self, reply):
            return
        self._asked.popleft().answer(reply)

    def _end_if_answered(self) -> None:
        if not self._asked and not self._together:
            self.break_off(f"the connection to Redis at {self.endpoint} is no longer used")

    def _will_send(self, deadline: float) -> None:
        if not self._unsent and not self._together:
            self._loop.call_soon(self._send)
        if self._watch is None or deadline < self._watch.when():
            self._watch_until(deadline)

    def _send(self) -> None:
        self._pack_together()
        if self._transport is not None and self._unsent:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def _pack_together(self) -> None:
        """Make one command of those that are alike, or a few where there is much in them."""
        together, self._together = self._together, {}
        for words, asked in together.items():
            for part in in_parts(asked):
                self._pack(words, part)

    def _pack(self, words: tuple[Word, ...], part: list[Item]) -> None:
        futures = [future for _, future in part]
        try:
            self._unsent.append(packed([*words, *(word for item, _ in part for word in item)]))
        except UnicodeError as error:  # half a surrogate pair: what was asked together with it is not to suffer
            if len(part) > 1:
                for each in part:
                    self._pack(words, [each])
            elif not futures[0].done():
                futures[0].set_exception(error)
        else:
            self._asked.append(Asked(words, futures, self._deadline, is_together=True))

    def _watch_until(self, deadline: float) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watch = self._loop.call_at(deadline, self._look)

    def _look(self) -> None:
        """Break off if something was not answered in time; look again when the next thing is due."""
        self._watch = None
        self._pack_together()  # it is waited for too
        if not self._asked:
            return
        due = max(min(asked.deadline for asked in self._asked), self.heard_at + self._patience_seconds)
        if due <= self._loop.time():
            self.break_off(f"Redis at {self.endpoint} did not answer in time")
        else:
            self._watch_until(due)


async def open_line(
    endpoint: Endpoint,
    login: Login,
    *,
    deadline: float,
    hear: Hear | None = None,
    is_lost: Callable[[Line], None] | None = None,
    patience_seconds: float = 0.0,
) -> Line:
    """Connect and greet. Raises Unreachable, or Denied for a login that the server does not take."""
    line = Line(endpoint, hear, is_lost, patience_seconds)
    try:
        async with asyncio.timeout_at(deadline):
            await _connect(line, login.tls)
            await line.greet(login, deadline)
    except BaseException as error:
        line.break_off(f"Redis at {endpoint} was not greeted")
        if isinstance(error, OSError | Broken | UnicodeError):  # the last one for a host that can be no name
            raise Unreachable(f"Redis at {endpoint} cannot be reached: {_why(error)}") from error
        raise
    return line


async def _connect(line: Line, tls: ssl.SSLContext | None) -> None:
    loop, (host, port) = asyncio.get_running_loop(), line.endpoint
    if not port:
        await loop.create_unix_connection(lambda: line, host)
    else:
        await loop.create_connection(lambda: line, host, port, ssl=tls)


def packed(words: Sequence[Word]) -> bytes:
    command: Any = tuple(words)
    wire: bytes = hiredis.pack_command(command)
    return wire


def in_parts(asked: list[Item]) -> Iterator[list[Item]]:
    """Yield what was asked in parts that a server can take at once."""
    if len(asked) == 1:
        yield asked
        return
    part: list[Item] = []
    size = 0
    for each in asked:
        if len(part) == ITEMS_AT_ONCE or size > BYTES_AT_ONCE:
            yield part
            part, size = [], 0
        part.append(each)
        size += sum(len(word) for word in each[0] if not isinstance(word, int))
    yield part


def _why(error: BaseException) -> str:
    return str(error) or "it did not answer in time"


def _run_in(info: bytes) -> str:
    for row in info.decode("utf-8", "replace").splitlines():
        name, _, value = row.partition(":")
        if name == "run_id":
            return value
    return ""
