"""The connections to Redis, against servers on loopback that answer just what a test wants, or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

import hiredis
import pytest

from tests.loopback import serving
from yamabiko.brokers.redis import feed as feeds
from yamabiko.brokers.redis import shared
from yamabiko.brokers.redis.feed import Feed
from yamabiko.brokers.redis.line import Endpoint, Line, Login, open_line
from yamabiko.brokers.redis.lines import Lines
from yamabiko.brokers.redis.names import RoomNames, names_of
from yamabiko.brokers.redis.scripts import Request
from yamabiko.brokers.redis.servers import SLOTS, Cluster, OneServer, Sentinels, Servers, slot_of
from yamabiko.brokers.redis.troubles import Broken, Unreachable

SOON_SECONDS = 5
LONG_SECONDS = 60
"""A timeout that no test lives to see."""

Answer = Callable[[list[bytes], "Connection"], bytes | None]


class Connection:
    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.say = writer.write
        self.close = writer.close
        self.is_over = asyncio.Event()


class Scripted:
    """A server that answers what `answer` says, and nothing where that says None. It notes what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[tuple[bytes, ...]] = []
        self.connections: list[Connection] = []
        self._news = asyncio.Event()

    def count(self, *words: bytes) -> int:
        return sum(asked[: len(words)] == words for asked in self.asked)

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(SOON_SECONDS):
            while not is_so():
                self._news.clear()
                await self._news.wait()

    async def was_asked(self, *words: bytes, times: int = 1) -> None:
        await self.until(lambda: self.count(*words) >= times)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection, parser = Connection(writer), hiredis.Reader()
        self.connections.append(connection)
        try:
            while data := await reader.read(65536):
                parser.feed(data)
                while (words := parser.gets()) is not False:
                    self.asked.append(tuple(words))
                    self._news.set()
                    connection.say(self.answer(words, connection) or b"")
        finally:
            connection.is_over.set()
            self._news.set()


def array(*parts: bytes) -> bytes:
    return b"*%d\r\n" % len(parts) + b"".join(parts)


def text(word: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(word), word)


def number(value: int) -> bytes:
    return b":%d\r\n" % value


def told(kind: bytes, channel: bytes, last: bytes = number(1)) -> bytes:
    return array(text(kind), text(channel), last)


def as_usual(words: list[bytes], connection: Connection) -> bytes:
    verb = words[0]
    if verb == b"INFO":
        return text(b"run_id:1\r\n")
    if verb.endswith(b"SUBSCRIBE"):
        return told(verb.lower(), words[1])
    if verb == b"DO":
        return array(*map(text, words[1:]))
    return number(1) if verb.endswith(b"PUBLISH") else b"+OK\r\n"


@asynccontextmanager
async def scripted(answer: Answer = as_usual) -> AsyncIterator[tuple[Scripted, Endpoint]]:
    server = Scripted(answer)
    async with serving(server.talk) as port:
        yield server, Endpoint("127.0.0.1", port)


class Halves:
    """A cluster of two nodes with half of the slots each."""

    def __init__(self) -> None:
        self.is_map_told = True
        self.nodes = [Scripted(self.answer), Scripted(self.answer)]

    def answer(self, words: list[bytes], connection: Connection) -> bytes | None:
        if words[0] != b"CLUSTER":
            return as_usual(words, connection)
        if not self.is_map_told:
            return None
        middle = SLOTS // 2
        bounds = ((0, middle - 1), (middle, SLOTS - 1))
        parts = (
            array(number(first), number(last), array(text(host.encode()), number(port)))
            for (first, last), (host, port) in zip(bounds, self.endpoints, strict=True)
        )
        return array(*parts)

    def rooms_at(self, node: int, count: int) -> list[RoomNames]:
        rooms = (names_of(str(name), prefix="p", db=0) for name in range(1000))
        return [names for names in rooms if slot_of(names.tag) * 2 // SLOTS == node][:count]


@pytest.fixture
async def halves() -> AsyncIterator[Halves]:
    halves = Halves()
    async with serving(halves.nodes[0].talk) as first, serving(halves.nodes[1].talk) as second:
        halves.endpoints = [Endpoint("127.0.0.1", port) for port in (first, second)]
        yield halves


class Hearing:
    """A feed, and what came of it."""

    def __init__(self, servers: Servers, timeout_seconds: float) -> None:
        self.heard: list[bytes] = []
        self.misses = 0
        self.feed = Feed(servers, timeout_seconds, lambda room, payload: self.heard.append(payload), self._missed)

    def _missed(self) -> None:
        self.misses += 1


@asynccontextmanager
async def hearing(servers: Servers, timeout_seconds: float = LONG_SECONDS) -> AsyncIterator[Hearing]:
    hearing = Hearing(servers, timeout_seconds)
    yield hearing
    await hearing.feed.close()


@asynccontextmanager
async def asking(servers: Servers, timeout_seconds: float = LONG_SECONDS) -> AsyncIterator[Lines]:
    lines = Lines(servers, timeout_seconds)
    yield lines
    await lines.close()


@asynccontextmanager
async def line_to(endpoint: Endpoint) -> AsyncIterator[Line]:
    line = await open_line(endpoint, Login(), deadline=asyncio.get_running_loop().time() + LONG_SECONDS)
    yield line
    await line.end()


def publish(lines: Lines, tag: str = "room") -> Awaitable[object]:
    return lines.ask(Request(tag, ("SPUBLISH", "channel", "hello")), may_repeat=False)


async def soon(*waits: Awaitable[object]) -> list[object]:
    async with asyncio.timeout(SOON_SECONDS):
        return await asyncio.gather(*waits)


async def in_the_end(waits: Iterable[Awaitable[object]]) -> set[type]:
    """Return what kinds of results there are."""
    async with asyncio.timeout(SOON_SECONDS):
        return {type(result) for result in await asyncio.gather(*waits, return_exceptions=True)}


def room(name: str) -> RoomNames:
    return names_of(name, prefix="p", db=0)


def silent_about(*verbs: bytes) -> Answer:
    return lambda words, connection: None if words[0] in verbs else as_usual(words, connection)


def naming(primary: Endpoint) -> Answer:
    """Answer as a Sentinel."""
    named = array(text(primary.host.encode()), text(b"%d" % primary.port))
    return lambda words, connection: named if words[0] == b"SENTINEL" else as_usual(words, connection)


# One line


async def test_what_is_asked_in_the_turn_in_which_something_else_was_due_is_broken_in_time_too():
    async with scripted() as (server, endpoint), line_to(endpoint) as line:
        loop = asyncio.get_running_loop()
        due, asked = loop.time() + 0.05, loop.create_future()

        def ask() -> None:
            asked.set_result(line.ask_together(("DO",), ("late",), loop.time() + 0.05))

        loop.call_at(due, ask)  # before the line looks, for it was to be called first
        assert await line.ask_together(("DO",), ("in time",), due) == b"in time"
        server.answer = silent_about(b"DO")
        with pytest.raises(Broken, match="did not answer in time"):
            await soon(await asked)
        await soon(line.finished())


async def test_a_word_that_is_no_text_is_refused_and_what_was_asked_with_it_is_answered():
    async with scripted() as (_, endpoint), line_to(endpoint) as line:
        deadline = asyncio.get_running_loop().time() + LONG_SECONDS
        asked = [line.ask_together(("DO",), (word,), deadline) for word in ("a", "\ud800", "b")]
        with pytest.raises(UnicodeEncodeError):
            await soon(asked[1])
        assert await soon(asked[0], asked[2]) == [b"a", b"b"]


# Asking


async def test_what_a_node_cannot_do_yet_is_repeated_and_no_map_is_asked_for(halves):
    refusals = [b"-TRYAGAIN moving\r\n", b"-LOADING wait\r\n", b"-BUSY script\r\n"]

    def answer(words: list[bytes], connection: Connection) -> bytes | None:
        return refusals.pop() if words[0] == b"SPUBLISH" and refusals else halves.answer(words, connection)

    halves.nodes[0].answer = halves.nodes[1].answer = answer
    async with asking(Cluster(halves.endpoints[:1], Login())) as lines:
        assert await soon(publish(lines)) == [1]
    assert refusals == []
    assert sum(node.count(b"CLUSTER") for node in halves.nodes) == 1


async def test_a_node_in_trouble_does_not_hold_up_what_is_asked_of_the_others(halves):
    (well,), (ill,) = halves.rooms_at(0, 1), halves.rooms_at(1, 1)
    async with asking(Cluster(halves.endpoints[:1], Login())) as lines:
        await soon(publish(lines, well.tag), publish(lines, ill.tag))
        halves.is_map_told = False
        halves.nodes[1].answer = lambda words, connection: connection.close()
        assert await in_the_end([publish(lines, ill.tag)]) == {Broken}
        assert await soon(*(publish(lines, well.tag) for _ in range(10))) == [1] * 10


async def test_many_who_look_for_the_primary_are_told_by_few_questions():
    async with scripted() as (_, away):
        pass
    async with scripted(naming(away)) as (sentinel, at):
        async with asking(Sentinels([at], "rooms", Login()), timeout_seconds=0.5) as lines:
            assert await in_the_end(publish(lines) for _ in range(50)) == {Unreachable}
        assert sentinel.count(b"SENTINEL") < 10


async def test_many_who_ask_a_server_that_is_away_make_few_attempts_to_reach_it():
    async with scripted(lambda words, connection: connection.close()) as (server, endpoint):
        async with asking(OneServer(endpoint, Login()), timeout_seconds=0.5) as lines:
            assert await in_the_end(publish(lines) for _ in range(50)) == {Unreachable}
        assert 1 < len(server.connections) < 10


async def test_who_has_its_turn_late_takes_the_line_that_was_opened_meanwhile(monkeypatch):
    monkeypatch.setattr(shared, "HOLDS_SECONDS", 0)  # as if the loop had been held since
    async with scripted() as (server, endpoint), asking(OneServer(endpoint, Login())) as lines:
        assert await soon(*(publish(lines) for _ in range(5))) == [1] * 5
        assert len(server.connections) == 1


async def test_what_was_asked_of_a_primary_before_it_said_that_it_is_none_is_asked_of_the_next():
    def answer(words: list[bytes], connection: Connection) -> bytes | None:
        return None if connection is server.connections[0] and words[0] == b"SPUBLISH" else as_usual(words, connection)

    async with scripted(answer) as (server, endpoint), asking(OneServer(endpoint, Login())) as lines:
        publishing = [asyncio.create_task(publish(lines)) for _ in range(2)]
        await server.was_asked(b"SPUBLISH", times=2)
        demoted = server.connections[0]
        demoted.say(b"-READONLY replica\r\n")
        await server.was_asked(b"SPUBLISH", times=3)
        demoted.say(b"-READONLY replica\r\n")
        assert await soon(*publishing) == [1, 1]
        await soon(demoted.is_over.wait())


# Hearing


async def test_a_silent_node_does_not_hold_up_joins_on_the_others(halves):
    async with hearing(Cluster(halves.endpoints[:1], Login())) as here:
        halves.nodes[1].answer = silent_about(b"SSUBSCRIBE")
        waiting = asyncio.create_task(here.feed.subscribe(halves.rooms_at(1, 1)[0]))
        await halves.nodes[1].was_asked(b"SSUBSCRIBE")
        await soon(*(here.feed.subscribe(names) for names in halves.rooms_at(0, 5)))
        assert not waiting.done()
    assert await in_the_end([waiting]) == {Unreachable}


async def test_a_join_that_is_given_up_takes_leave_of_its_room_once_that_is_confirmed():
    async with (
        scripted(silent_about(b"SUBSCRIBE")) as (server, endpoint),
        hearing(OneServer(endpoint, Login())) as here,
    ):
        given_up, waiting = (asyncio.create_task(here.feed.subscribe(room(name))) for name in ("a", "b"))
        await server.was_asked(b"SUBSCRIBE", times=2)
        given_up.cancel()
        assert await in_the_end([given_up]) == {asyncio.CancelledError}
        server.connections[0].say(told(b"subscribe", room("a").channel))
        await server.was_asked(b"UNSUBSCRIBE", room("a").channel)
        server.connections[0].say(told(b"subscribe", room("b").channel))
        await soon(waiting)
        assert server.count(b"UNSUBSCRIBE") == 1


async def test_an_answer_that_is_late_behind_messages_does_not_end_the_connection_and_silence_does(monkeypatch):
    monkeypatch.setattr(feeds, "PING_SECONDS", 0.01)
    timeout_seconds, tick_seconds = 0.2, 0.02
    async with (
        scripted(silent_about(b"PING")) as (server, endpoint),
        hearing(OneServer(endpoint, Login()), timeout_seconds) as here,
    ):
        await here.feed.subscribe(room("a"))
        message = told(b"message", room("a").channel, text(b"hello"))
        loop = asyncio.get_running_loop()
        done, end = loop.create_future(), loop.time() + 3 * timeout_seconds

        def tell() -> None:
            server.connections[0].say(message)
            loop.call_later(tick_seconds, tell) if loop.time() < end else done.set_result(None)

        tell()
        await soon(done)
        assert (len(server.connections), here.misses, len(here.heard) > 5) == (1, 0, True)
        await server.was_asked(b"SUBSCRIBE", times=2)


async def test_a_connection_that_breaks_right_behind_the_confirmation_is_taken_up():
    def answer(words: list[bytes], connection: Connection) -> bytes | None:
        reply = as_usual(words, connection)
        return reply + b"?\r\n" if words[0] == b"SUBSCRIBE" and len(server.connections) == 1 else reply

    async with scripted(answer) as (server, endpoint), hearing(OneServer(endpoint, Login())) as here:
        await soon(here.feed.subscribe(room("a")))
        await server.was_asked(b"SUBSCRIBE", times=2)


async def test_joins_do_not_wait_for_sentinels_that_are_silent(monkeypatch):
    monkeypatch.setattr(feeds, "PING_SECONDS", 0.01)
    monkeypatch.setattr(feeds, "FIND_SECONDS", 0.01)
    async with (
        scripted() as (_, primary),
        scripted(naming(primary)) as (sentinel, at),
        hearing(Sentinels([at], "rooms", Login())) as here,
    ):
        await here.feed.subscribe(room("a"))
        sentinel.answer, before = silent_about(b"SENTINEL"), sentinel.count(b"SENTINEL")
        await sentinel.was_asked(b"SENTINEL", times=before + 1)
        await soon(here.feed.subscribe(room("b")))


async def test_a_farewell_of_the_server_s_own_before_ours_is_answered_is_no_answer_to_what_was_asked_earlier():
    async with scripted() as (server, endpoint), hearing(OneServer(endpoint, Login())) as here:
        await here.feed.subscribe(room("left"))
        server.answer = silent_about(b"SUBSCRIBE", b"UNSUBSCRIBE")
        joining = asyncio.create_task(here.feed.subscribe(room("joined")))
        await server.was_asked(b"SUBSCRIBE", room("joined").channel)
        await here.feed.unsubscribe(room("left"))
        await server.was_asked(b"UNSUBSCRIBE")
        server.connections[0].say(told(b"unsubscribe", room("left").channel))
        server.connections[0].say(told(b"subscribe", room("joined").channel) + b"-MOVED 1 127.0.0.1:1\r\n")
        await soon(joining)
        await joins_as_usual(server, here)


async def test_a_farewell_of_the_server_s_own_just_where_ours_would_be_answered_is_followed_by_no_answer_to_others():
    async with scripted() as (server, endpoint), hearing(OneServer(endpoint, Login())) as here:
        await here.feed.subscribe(room("left"))
        server.answer = silent_about(b"UNSUBSCRIBE")
        await here.feed.unsubscribe(room("left"))
        await server.was_asked(b"UNSUBSCRIBE")
        server.connections[0].say(told(b"unsubscribe", room("left").channel) + b"-MOVED 1 127.0.0.1:1\r\n")
        await joins_as_usual(server, here)


async def joins_as_usual(server: Scripted, here: Hearing) -> None:
    """See that the connection goes on, and that the room that was left can be joined and heard on it again."""
    server.answer = as_usual
    await soon(here.feed.subscribe(room("left")))
    server.connections[0].say(told(b"message", room("left").channel, text(b"hello")))
    await soon(here.feed.subscribe(room("another")))
    assert (here.heard, len(server.connections), here.misses) == ([b"hello"], 1, 0)
