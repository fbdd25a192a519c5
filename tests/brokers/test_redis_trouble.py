"""Redis in trouble: killed, stopped, full, demoted; what is refused meanwhile, and what is found afterwards."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.contract.broker_kinds import Bench, redis_at
from tests.loopback import serving
from tests.redis_server import RedisServer, server_program, until
from yamabiko.brokers.redis import feed, lines
from yamabiko.brokers.redis.line import Login
from yamabiko.brokers.redis.names import names_of
from yamabiko.brokers.redis.troubles import Unreachable
from yamabiko.core.errors import NotAvailable, PublishFailed
from yamabiko.core.messages import History, Position

pytestmark = pytest.mark.redis

HISTORY = History(size=100, ttl=timedelta(hours=1))
PATIENCE_SECONDS = 10

Start = Callable[..., RedisServer]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start servers of this test's own, with options."""
    started: list[RedisServer] = []

    def start(**options: str) -> RedisServer:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        server = RedisServer(server_program(), folder, **options)
        server.start()
        started.append(server)
        return server

    yield start
    for server in started:
        if server.is_running:
            os.kill(server.pid, signal.SIGCONT)
        server.stop()


@pytest.fixture
def server(start: Start) -> RedisServer:
    return start()


@pytest.fixture
async def bench(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(feed, "PING_SECONDS", 0.05)
    async with redis_at(server.url, mend=lambda: server.is_running or server.start()) as bench:
        bench.broker._timeout_seconds = 0.4
        yield bench


@pytest.fixture
def durable(start: Start) -> RedisServer:
    """A server that has written to disk whatever it has acknowledged."""
    return start(appendonly="yes", appendfsync="always")


@pytest.fixture
async def durable_bench(durable: RedisServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(feed, "PING_SECONDS", 0.05)
    async with redis_at(durable.url, mend=lambda: durable.is_running or durable.start()) as bench:
        yield bench


async def kill(server: RedisServer) -> None:
    """Kill a server, and let the loop notice it."""
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(time.sleep, 0)


async def kill_and_start(server: RedisServer) -> None:
    await kill(server)
    await asyncio.to_thread(server.start)


async def messages_since(bench: Bench, position: Position | None) -> tuple[list[Any], bool]:
    page = await bench.broker.read("room", HISTORY, since=position, limit=100)
    return [json.loads(publication.data) for publication in page.publications], page.is_whole


async def has_missed(bench: Bench, times: int = 1) -> None:
    await bench.witness.until(lambda: bench.misses >= times)


async def refused(bench: Bench, reason: str, **options: Any) -> str:
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(PublishFailed, match=reason) as failure:
            await bench.publish("room", "refused", HISTORY, **options)
    return str(failure.value)


# Killed


async def test_after_a_kill_the_feed_is_taken_up_and_told_once_for_all_rooms(bench, server):
    for number in range(50):
        await bench.broker.subscribe(f"room/{number}")
    await kill_and_start(server)
    await has_missed(bench)
    for number in range(50):
        await bench.publish(f"room/{number}", number)
    await bench.heard(50)
    assert bench.misses == 1


async def test_what_others_publish_while_the_feed_is_cut_is_found_in_order_and_whole(bench, server, monkeypatch):
    other = bench.another()
    await bench.broker.subscribe("room")
    before = await bench.publish("room", 0, HISTORY)
    await bench.heard(1)
    monkeypatch.setattr(feed, "FIRST_PAUSE_SECONDS", 0.2)
    await asyncio.to_thread(server.ask, "CLIENT", "KILL", "TYPE", "pubsub")
    for number in range(1, 6):
        await other.publish("room", b"%d" % number, history=HISTORY)
    await has_missed(bench)
    assert await messages_since(bench, before) == ([1, 2, 3, 4, 5], True)
    await other.close()


async def test_a_restart_that_loses_nothing_keeps_positions_good_and_numbers_go_on(durable_bench, durable):
    bench = durable_bench
    positions = [await bench.publish("room", number, HISTORY, key=str(number)) for number in range(1, 4)]
    await kill_and_start(durable)
    assert (await bench.publish("room", 4, HISTORY)).offset == 4
    assert await messages_since(bench, positions[0]) == ([2, 3, 4], True)
    assert await bench.publish("room", 3, HISTORY, key="3") == positions[2]


async def test_positions_are_good_over_many_restarts(durable_bench, durable):
    bench = durable_bench
    positions = []
    for number in range(1, 5):
        positions.append(await bench.publish("room", number, HISTORY))
        await kill_and_start(durable)
    for number, position in enumerate(positions, 1):
        assert await messages_since(bench, position) == (list(range(number + 1, 5)), True)


async def test_a_restart_that_loses_everything_shows_as_a_new_epoch(bench, server):
    old = [await bench.publish("room", number, HISTORY) for number in range(3)]
    await kill_and_start(server)
    new = await bench.publish("room", "new", HISTORY)
    assert (new.offset, new.epoch != old[0].epoch) == (1, True)
    assert await messages_since(bench, old[0]) == (["new"], False)


async def test_what_a_restart_has_lost_is_told_though_numbers_have_passed_it_since(bench, server):
    """Redis comes back with the data of its last save, as it does with `save` or after a failover to a late replica."""
    known = await bench.publish("room", "kept", HISTORY)
    await asyncio.to_thread(server.ask, "SAVE")
    lost = [await bench.publish("room", f"lost {number}", HISTORY) for number in range(3)]
    await kill_and_start(server)
    for number in range(5):
        await bench.publish("room", f"new {number}", HISTORY)
    news = [f"new {number}" for number in range(5)]
    assert await messages_since(bench, known) == (news, True)
    for position in lost:
        assert await messages_since(bench, position) == (["kept", *news], False)


async def test_a_flush_of_everything_shows_as_a_new_epoch(bench, server):
    old = await bench.publish("room", "old", HISTORY)
    await asyncio.to_thread(server.ask, "FLUSHALL")
    page = await bench.broker.read("room", HISTORY, since=old, limit=10)
    assert (page.is_whole, page.top.offset, page.top.epoch != old.epoch) == (False, 0, True)


async def test_numbers_that_were_evicted_begin_anew_and_take_the_log_with_them(bench, server):
    await bench.publish("room", "old", HISTORY)
    await asyncio.to_thread(server.ask, "DEL", f"{{{bench.broker._prefix}:room}}:numbers")
    assert (await bench.publish("room", "new", HISTORY)).offset == 1
    assert (await messages_since(bench, None))[0] == ["new"]


async def test_a_log_that_was_evicted_is_a_gap_and_numbers_go_on(bench, server):
    position = await bench.publish("room", "old", HISTORY)
    await bench.publish("room", "evicted", HISTORY)
    await asyncio.to_thread(server.ask, "DEL", f"{{{bench.broker._prefix}:room}}:log")
    assert await bench.publish("room", "new", HISTORY) == Position(position.epoch, 3)
    assert await messages_since(bench, position) == (["new"], False)


async def test_a_publish_waits_for_a_redis_that_is_back_in_time(bench, server):
    bench.broker._timeout_seconds = PATIENCE_SECONDS
    await kill(server)
    publishing = asyncio.create_task(bench.publish("room", "hello", HISTORY))
    await asyncio.sleep(0)
    server.start()
    assert (await publishing).offset == 1


async def test_while_redis_is_away_everything_is_refused_in_time_with_one_line_in_the_log(bench, server, caplog):
    await kill(server)
    async with asyncio.timeout(PATIENCE_SECONDS):
        results = await asyncio.gather(
            *(bench.publish("room", number, HISTORY) for number in range(100)), return_exceptions=True
        )
        with pytest.raises(NotAvailable, match="Redis cannot be reached"):
            await bench.broker.read("room", HISTORY, limit=1)
    assert {type(result) for result in results} == {PublishFailed}
    assert "nothing was published" in str(results[0])
    assert caplog.text.count("Redis cannot be used") == 1
    assert "Traceback" not in caplog.text


async def test_when_it_works_again_the_log_says_so_once(bench, server, caplog):
    caplog.set_level(logging.INFO)
    await kill(server)
    await refused(bench, "cannot be reached")
    server.start()
    await bench.publish("room", 1, HISTORY)
    await bench.publish("room", 2, HISTORY)
    assert caplog.text.count("it works again") == 1


async def test_a_room_left_while_redis_is_away_is_not_heard_afterwards(bench, server):
    await bench.broker.subscribe("left")
    await bench.broker.subscribe("room")
    await kill(server)
    await bench.broker.unsubscribe("left")
    server.start()
    await has_missed(bench)
    await bench.publish("left", "to nobody")
    await bench.publish("room", "hello")
    assert await bench.heard(1) == ["hello"]


async def test_a_room_that_could_not_be_subscribed_is_not_subscribed_later(bench, server):
    await bench.broker.subscribe("room")
    await kill(server)
    with pytest.raises(NotAvailable):
        await bench.broker.subscribe("refused")
    server.start()
    await has_missed(bench)
    assert server.ask("PUBSUB", "CHANNELS") == [f"{{{bench.broker._prefix}:room}}:live:0".encode()]


async def test_a_second_join_that_fails_does_not_end_the_first_ones_subscription(bench, server):
    await bench.broker.subscribe("room")
    await kill(server)
    with pytest.raises(NotAvailable):
        await bench.broker.subscribe("room")
    server.start()
    await has_missed(bench)
    await bench.publish("room", "hello")
    assert await bench.heard(1) == ["hello"]


async def test_a_connection_that_was_cut_unseen_while_it_was_idle_costs_nothing(durable_bench, durable, monkeypatch):
    monkeypatch.setattr(lines, "IDLE_SECONDS", -1)
    await durable_bench.publish("room", 1, HISTORY)
    durable.stop()
    durable.start()
    assert (await durable_bench.publish("room", 2, HISTORY)).offset == 2


class NowhereServers:
    """A cluster without a node for any slot."""

    is_sharded, can_change, login = True, False, Login()

    def __init__(self) -> None:
        self.searches = 0

    def of(self, tag: str) -> None:
        return None

    def doubt(self) -> None: ...

    async def be_sure(self, deadline: float) -> None:
        self.searches += 1


async def test_a_slot_that_nobody_has_is_waited_for_without_haste(caplog):
    servers = NowhereServers()
    nowhere = feed.Feed(servers, 0.3, lambda room, payload: None, lambda: None)
    with pytest.raises(Unreachable):
        await nowhere.subscribe(names_of("room", prefix="p", db=0))
    assert servers.searches < 20
    assert "no server of the cluster has the slot" in caplog.text
    await nowhere.close()


async def test_the_feed_outlives_what_nobody_expected(bench, server, caplog):
    await bench.broker.subscribe("room")
    bench.witness.missed = lambda: 1 / 0
    await kill_and_start(server)
    await bench.broker.subscribe("another")
    await bench.publish("room", "hello")
    assert await bench.heard(1) == ["hello"]
    assert "has met what it did not expect" in caplog.text


# Stopped: it answers nothing, and no connection ends


async def test_a_stopped_redis_refuses_in_time_and_says_that_it_may_have_been_published(bench, server):
    await bench.publish("room", "first", HISTORY)
    os.kill(server.pid, signal.SIGSTOP)
    text = await refused(bench, "did not answer in time")
    assert "may or may not have been published, and may be sent again under the same id or key" in text
    with pytest.raises(NotAvailable):
        await bench.broker.read("room", HISTORY, limit=1)


async def test_what_was_sent_to_a_stopped_redis_is_published_once_when_its_key_is_repeated(bench, server):
    await bench.publish("room", "first", HISTORY)
    await bench.broker.subscribe("room")
    os.kill(server.pid, signal.SIGSTOP)
    await refused(bench, "did not answer in time", key="k")
    os.kill(server.pid, signal.SIGCONT)
    until(lambda: server.ask("PING"))
    assert (await bench.publish("room", "refused", HISTORY, key="k")).offset == 2
    assert (await messages_since(bench, None))[0] == ["first", "refused"]


async def test_the_feed_notices_a_stopped_redis_and_is_taken_up_when_it_goes_on(bench, server, caplog):
    await bench.broker.subscribe("room")
    os.kill(server.pid, signal.SIGSTOP)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while "cannot be heard" not in caplog.text:  # noqa: ASYNC110  (there is no event for it)
            await asyncio.sleep(0.01)
    os.kill(server.pid, signal.SIGCONT)
    await has_missed(bench)
    await bench.publish("room", "hello")
    assert "hello" in await bench.heard(1)


# Refusing


async def test_a_full_redis_refuses_publishes_and_what_it_keeps_can_still_be_read(bench, server, caplog):
    await bench.broker.subscribe("room")
    await bench.publish("room", "kept", HISTORY)
    await asyncio.to_thread(server.ask, "CONFIG", "SET", "maxmemory", "1")
    text = await refused(bench, r"its memory is full \(maxmemory\) \(OOM\)", key="k")
    assert "nothing was published" in text
    await asyncio.to_thread(server.ask, "CONFIG", "SET", "maxmemory", "0")
    await bench.publish("room", "again", HISTORY, key="k")
    assert await bench.heard(2) == ["kept", "again"]


async def test_a_demoted_redis_refuses_in_time_and_is_used_when_it_is_the_primary_again(bench, server):
    await bench.publish("room", 1, HISTORY)
    connections = set(bench.broker._lines._lines.values())
    await asyncio.to_thread(server.ask, "REPLICAOF", "127.0.0.1", "1")
    text = await refused(bench, r"replica and takes no writes \(READONLY\)")
    assert "nothing was published" in text
    # The address may lead to another server by now, so a new connection is tried.
    assert not connections & set(bench.broker._lines._lines.values())
    await asyncio.to_thread(server.ask, "REPLICAOF", "NO", "ONE")
    assert (await bench.publish("room", 2, HISTORY)).offset == 2


async def test_a_redis_that_cannot_save_says_so(start):
    server = await asyncio.to_thread(start, save="3600 1")
    async with redis_at(server.url) as bench:
        await bench.publish("room", 1, HISTORY)
        (server.folder / "dump.rdb").mkdir()
        server.ask("BGSAVE")
        await asyncio.to_thread(until, lambda: b"rdb_last_bgsave_status:err" in server.ask("INFO", "persistence"))
        await refused(bench, r"cannot save to its disk \(MISCONF\)")


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"+OK\r\n" * 9])
async def test_something_else_at_the_address_is_refused_in_time(greeting):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(greeting)

    async with serving(answer) as port, redis_at(f"redis://127.0.0.1:{port}") as bench:
        bench.broker._timeout_seconds = 0.2
        await refused(bench, "cannot be reached|does not speak")


@pytest.mark.parametrize(("key", "expected"), [("", {1}), ("k", set(range(2, 100)))], ids=["no key", "key"])
async def test_what_may_have_been_published_is_sent_again_only_under_a_key(key, expected):
    """The connection breaks whenever a publication has been sent on it."""
    sent = 0

    async def greet_and_break(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.read(1000)
        writer.write(b"$0\r\n\r\n")
        if b"EVALSHA" in await reader.read(1000):
            sent += 1

    async with serving(greet_and_break) as port, redis_at(f"redis://127.0.0.1:{port}") as bench:
        bench.broker._timeout_seconds = 1
        await refused(bench, "may or may not have been published", key=key)
    assert sent in expected


async def test_what_comes_late_for_a_room_that_was_left_is_not_heard_by_who_has_just_joined_it():
    async def answer_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Confirm the end of a subscription when the next one is asked for, and have the last message just before."""
        await reader.read(1000)
        writer.write(b"$0\r\n\r\n")
        writer.write(reply(b"subscribe", await channel_in(reader)))
        channel = await channel_in(reader)
        await channel_in(reader)
        writer.write(reply(b"message", channel, b'- 0 0 "late"') + reply(b"unsubscribe", channel))
        writer.write(reply(b"subscribe", channel) + reply(b"message", channel, b'- 0 0 "new"'))
        await reader.read()

    async with serving(answer_late) as port, redis_at(f"redis://127.0.0.1:{port}") as bench:
        await bench.broker.subscribe("room")
        await bench.broker.unsubscribe("room")
        await bench.broker.subscribe("room")
        assert await bench.heard(1) == ["new"]


async def channel_in(reader: asyncio.StreamReader) -> bytes:
    """Read a command of two words and return the second."""
    return [await reader.readline() for _ in range(5)][-1].strip()


def reply(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


async def test_close_ends_what_waits_for_a_redis_that_is_away(bench, server):
    bench.broker._timeout_seconds = PATIENCE_SECONDS
    await kill(server)
    waiting = [
        asyncio.create_task(bench.publish("room", "hello", HISTORY)),
        asyncio.create_task(bench.broker.subscribe("room")),
    ]
    await asyncio.sleep(0)
    async with asyncio.timeout(2):
        await bench.broker.close()
        results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [PublishFailed, NotAvailable]
