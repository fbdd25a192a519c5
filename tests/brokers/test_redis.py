"""One Redis: what a publish costs there, how its data age, and what it may hear from others."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest
import uvloop

from tests.brokers.witness import Witness
from tests.contract.broker_kinds import Bench, redis_at
from tests.redis_server import RedisServer
from tests.redis_server import redis_server as redis_server
from yamabiko.brokers.redis import RedisBroker, feed
from yamabiko.core.errors import NotAvailable, PublishFailed
from yamabiko.core.interfaces import PresenceStore
from yamabiko.core.messages import Counts, History, Member, Position, Publication

pytestmark = pytest.mark.redis

HISTORY = History(size=10, ttl=timedelta(hours=1))
DAY_MS = 86_400_000


@pytest.fixture
async def bench(redis_server: RedisServer) -> AsyncIterator[Bench]:
    async with redis_at(redis_server.url) as bench:
        yield bench


def prefix_of(bench: Bench) -> str:
    return bench.broker._prefix


def calls_of(server: RedisServer, command: str) -> int:
    for row in server.ask("INFO", "commandstats").decode().splitlines():
        if row.startswith(f"cmdstat_{command}:"):
            return int(row.split("calls=")[1].split(",")[0])
    return 0


def reads_of(server: RedisServer) -> int:
    rows = server.ask("INFO", "stats").decode().splitlines()
    return next(int(row.split(":")[1]) for row in rows if row.startswith("total_reads_processed:"))


async def in_thread(server: RedisServer, *words: str | int):
    return await asyncio.to_thread(server.ask, *words)


@pytest.mark.parametrize("options", [{}, {"key": "k"}], ids=["without a key", "with a key"])
async def test_a_publish_is_one_command_on_one_connection(bench, redis_server, options):
    await bench.publish("room", "first", HISTORY)
    await in_thread(redis_server, "CONFIG", "RESETSTAT")
    await bench.publish("room", "second", HISTORY, **options)
    assert calls_of(redis_server, "evalsha") == 1
    assert calls_of(redis_server, "eval") == calls_of(redis_server, "script|load") == 0


async def test_what_is_published_in_one_turn_of_the_loop_leaves_in_one_write(bench, redis_server):
    await bench.publish("room", "first", HISTORY)
    counts = [reads_of(redis_server), reads_of(redis_server)]
    await asyncio.gather(*(bench.publish("room", number, HISTORY) for number in range(20)))
    counts.append(reads_of(redis_server))
    asking = counts[1] - counts[0]
    assert counts[2] - counts[1] == 1 + asking


async def test_more_than_a_server_should_take_at_once_is_given_to_it_in_parts(bench, redis_server):
    await bench.broker.subscribe("room")
    await bench.publish("room", "first", HISTORY)
    await in_thread(redis_server, "CONFIG", "RESETSTAT")
    positions = await asyncio.gather(*(bench.publish("room", number, HISTORY) for number in range(250)))
    positions += await asyncio.gather(*(bench.publish("room", "x" * 200_000, HISTORY) for _ in range(4)))
    assert [position.offset for position in positions] == list(range(2, 256))
    assert calls_of(redis_server, "evalsha") == 3 + 2
    assert (await bench.heard(255))[1:251] == list(range(250))


async def test_what_is_alike_but_for_its_key_history_or_room_is_told_apart(bench):
    other = History(size=1, ttl=timedelta(hours=2))
    asked = [("a", HISTORY, ""), ("a", HISTORY, "k"), ("a", HISTORY, "k"), ("a", other, ""), ("b", HISTORY, "k")]
    positions = await asyncio.gather(*(bench.publish(room, 1, history, key=key) for room, history, key in asked))
    assert positions[1] == positions[2]
    assert sorted(position.offset for position in (positions[0], *positions[2:4])) == [1, 2, 3]
    assert positions[4].offset == 1


async def test_a_publisher_that_stops_waiting_does_not_disturb_those_it_was_sent_with(bench):
    await bench.publish("room", 0, HISTORY)
    tasks = [asyncio.create_task(bench.publish("room", number, HISTORY)) for number in range(5)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [result.offset for number, result in enumerate(results) if number != 1] == [2, 4, 5, 6]


async def test_publications_of_one_turn_are_numbered_in_the_order_they_were_begun(bench):
    positions = await asyncio.gather(*(bench.publish("room", number, HISTORY) for number in range(10)))
    assert [position.offset for position in positions] == list(range(1, 11))


async def test_who_only_publishes_listens_to_nothing(bench, redis_server):
    await bench.publish("room", "hello", HISTORY)
    assert await in_thread(redis_server, "CLIENT", "LIST", "TYPE", "pubsub") == b""
    await bench.broker.subscribe("room")
    assert len((await in_thread(redis_server, "CLIENT", "LIST", "TYPE", "pubsub")).splitlines()) == 1


async def test_all_rooms_are_heard_on_one_connection(bench, redis_server):
    await asyncio.gather(*(bench.broker.subscribe(f"room/{number}") for number in range(200)))
    assert len((await in_thread(redis_server, "CLIENT", "LIST", "TYPE", "pubsub")).splitlines()) == 1
    for number in range(200):
        await bench.publish(f"room/{number}", number)
    assert sorted(await bench.heard(200)) == list(range(200))


async def test_scripts_that_redis_has_forgotten_are_sent_again(bench, redis_server):
    first = await bench.publish("room", 1, HISTORY)
    await in_thread(redis_server, "SCRIPT", "FLUSH")
    assert await bench.publish("room", 2, HISTORY) == Position(first.epoch, 2)
    await in_thread(redis_server, "SCRIPT", "FLUSH")
    assert len((await bench.broker.read("room", HISTORY, limit=10)).publications) == 2


@pytest.mark.parametrize("history", [HISTORY, None], ids=["with history", "without"])
async def test_everything_that_is_kept_expires(bench, redis_server, history):
    await bench.publish("room", "hello", history, key="k")
    keys = await in_thread(redis_server, "KEYS", f"*{prefix_of(bench)}*")
    left = {key.rpartition(b":")[2].decode(): redis_server.ask("PTTL", key.decode()) for key in keys}
    hour = 3_600_000
    longest = {"log": hour, "keys": hour, "key-order": hour, "numbers": hour + DAY_MS}
    if history is None:
        longest = {"keys": 300_000, "key-order": 300_000}
    assert left.keys() == longest.keys()
    assert all(longest[name] - 60_000 < left[name] <= longest[name] for name in left)


async def test_reading_keeps_the_numbers_of_a_silent_room(bench, redis_server):
    await bench.broker.read("room", HISTORY, limit=0)
    key = f"{{{prefix_of(bench)}:room}}:numbers"
    await in_thread(redis_server, "PEXPIRE", key, 60_000)
    await bench.broker.read("room", HISTORY, limit=0)
    assert redis_server.ask("PTTL", key) > DAY_MS


async def test_without_a_clock_of_its_own_what_expires_is_told_by_the_clock_of_redis(redis_server):
    broker = RedisBroker.from_url(redis_server.url, prefix=uuid4().hex)
    short = History(size=10, ttl=timedelta(milliseconds=1))
    await broker.publish("room", b"1", history=short)
    last = await broker.publish("room", b"2", history=HISTORY)
    while len((await broker.read("room", HISTORY, limit=10)).publications) == 2:
        pass
    assert (await broker.read("room", HISTORY, limit=10)).publications[0].position == last
    await broker.close()


async def test_a_log_is_not_much_larger_than_its_messages(bench, redis_server):
    history = History(size=1000, ttl=timedelta(hours=1))
    for _ in range(20):
        await asyncio.gather(*(bench.publish("room", "x" * 98, history, user="alice") for _ in range(100)))
    used = await in_thread(redis_server, "MEMORY", "USAGE", f"{{{prefix_of(bench)}:room}}:log", "SAMPLES", 0)
    assert len((await bench.broker.read("room", history, limit=5000)).publications) == 1000
    assert used < 1000 * (1.5 * 100 + 200)


async def test_a_room_that_is_forgotten_takes_no_room_and_its_numbers_are_kept_as_long_as_before(bench, redis_server):
    long = History(size=10, ttl=timedelta(days=7))
    await bench.publish("room", "hello", long)
    await bench.broker.forget("room")
    base = f"{{{prefix_of(bench)}:room}}"
    assert await in_thread(redis_server, "EXISTS", f"{base}:log") == 0
    assert redis_server.ask("PTTL", f"{base}:numbers") > 7 * DAY_MS
    await bench.broker.forget("nothing was ever published here")
    assert len(await in_thread(redis_server, "KEYS", f"*{prefix_of(bench)}*")) == 1


async def test_what_was_kept_before_there_were_extras_is_read(bench, redis_server):
    last = await bench.publish("room", "hello", HISTORY)
    base = f"{{{prefix_of(bench)}:room}}"
    await in_thread(redis_server, "XADD", f"{base}:log", f"{last.offset + 1}-9999999999999", "", '5 alice"old"')
    await in_thread(redis_server, "HSET", f"{base}:numbers", "offset", last.offset + 1)
    page = await bench.broker.read("room", HISTORY, limit=10)
    assert page.publications[1] == Publication(b'"old"', Position(last.epoch, 2), "alice")


async def test_keys_that_are_forgotten_take_no_room(bench, redis_server):
    tiny = History(size=1, ttl=timedelta(days=1))
    await asyncio.gather(*(bench.publish("room", 1, tiny, key=f"key {number}") for number in range(100)))
    bench.now += 301
    for number in range(10):
        await bench.publish("room", 2, tiny, key=f"another {number}")
    for name in ("HLEN", "keys"), ("LLEN", "key-order"):
        assert await in_thread(redis_server, name[0], f"{{{prefix_of(bench)}:room}}:{name[1]}") == 10


@pytest.mark.parametrize("room", ["}", "}x", "a}b", "a{b}c", "{", "山彦/100% *?[x] \\", "x" * 255])
async def test_a_room_of_any_name_is_published_read_and_heard(bench, room):
    await bench.broker.subscribe(room)
    await bench.publish(room, "hello", HISTORY, key="k")
    await bench.heard(1)
    assert bench.in_room(room) == ["hello"]
    assert len((await bench.broker.read(room, HISTORY, limit=10)).publications) == 1


@pytest.mark.parametrize("message", ["", " ", "x" * 300_000, "3 abc", "\x7f 0 "])
@pytest.mark.parametrize("user", ["", " ", "alice", "5 bob", "山彦 "])
async def test_users_and_messages_are_told_apart_whatever_they_are(bench, user, message):
    await bench.broker.subscribe("room")
    await bench.publish("room", message, HISTORY, user=user)
    await bench.heard(1)
    kept = (await bench.broker.read("room", HISTORY, limit=1)).publications[0]
    for publication in (bench.delivered[0][1], kept):
        assert (publication.user, json.loads(publication.data)) == (user, message)


async def test_what_is_delivered_has_the_position_that_the_publisher_was_told(bench):
    await bench.broker.subscribe("room")
    position = await bench.publish("room", "hello", HISTORY)
    await bench.heard(1)
    assert bench.delivered[0][1].position == position


async def test_processes_that_publish_at_once_are_heard_in_the_order_of_the_history(bench):
    other = bench.another()
    await bench.broker.subscribe("room")
    history = History(size=200)
    await asyncio.gather(
        *(
            broker.publish("room", b"%d" % number, history=history)
            for number in range(100)
            for broker in (bench.broker, other)
        )
    )
    await bench.heard(200)
    page = await bench.broker.read("room", history, limit=200)
    assert [publication for _, publication in bench.delivered] == page.publications
    await other.close()


async def test_databases_of_one_server_do_not_hear_each_other(redis_server):
    heard: list[Publication] = []
    brokers = [RedisBroker.from_url(redis_server.url[:-1] + db, prefix="same") for db in "01"]
    for broker in brokers:
        broker.start(Witness(lambda room, publication: heard.append(publication)))
        await broker.subscribe("room")
    for number, broker in enumerate(brokers):
        await broker.publish("room", b"%d" % number, history=HISTORY)
        assert len((await broker.read("room", HISTORY, limit=10)).publications) == 1
    async with asyncio.timeout(5):
        while len(heard) < 2:
            await brokers[0].publish("elsewhere", b"0", history=None)
    assert [publication.data for publication in heard] == [b"0", b"1"]
    for broker in brokers:
        await broker.close()


@pytest.mark.parametrize("payload", ["", "hello", "a b", "e x 0 1", "e 1 9", "é 1 0 1"])
async def test_a_foreign_message_in_a_channel_is_logged_and_the_feed_lives_on(bench, redis_server, payload, caplog):
    await bench.broker.subscribe("room")
    await in_thread(redis_server, "PUBLISH", f"{{{prefix_of(bench)}:room}}:live:0", payload)
    await bench.publish("room", "hello")
    assert await bench.heard(1) == ["hello"]
    assert "to room room through Redis is no publication" in caplog.text


async def test_an_error_of_whoever_is_delivered_to_does_not_stop_the_feed(redis_server, caplog):
    heard = asyncio.Event()

    def take(room: str, publication: Publication) -> None:
        if publication.data == b"2":
            heard.set()
        raise RuntimeError("as asked")

    broker = RedisBroker.from_url(redis_server.url, prefix=uuid4().hex)
    broker.start(Witness(take))
    await broker.subscribe("room")
    await broker.publish("room", b"1", history=None)
    await broker.publish("room", b"2", history=None)
    async with asyncio.timeout(5):
        await heard.wait()
    assert "could not be delivered" in caplog.text
    await broker.close()


def test_after_close_another_loop_can_go_on(redis_server):
    broker = RedisBroker.from_url(redis_server.url, prefix=uuid4().hex)
    broker.start(Witness())

    async def publish() -> int:
        await broker.subscribe("room")
        position = await broker.publish("room", b"1", history=HISTORY)
        await broker.close()
        return position.offset

    assert [asyncio.run(publish()) for _ in range(3)] == [1, 2, 3]


def test_uvloop_will_do(redis_server):
    async def publish() -> bytes:
        broker, heard = RedisBroker.from_url(redis_server.url, prefix=uuid4().hex), asyncio.Queue()
        broker.start(Witness(lambda room, publication: heard.put_nowait(publication)))
        await broker.subscribe("room")
        await broker.publish("room", b"1", history=HISTORY)
        async with asyncio.timeout(5):
            publication = await heard.get()
        await broker.close()
        return publication.data

    assert uvloop.run(publish()) == b"1"


async def test_close_waits_for_what_is_under_way(bench):
    publishing = asyncio.create_task(bench.publish("room", "hello", HISTORY))
    while not (lines := bench.broker._lines) or not lines._lines:  # noqa: ASYNC110  (there is no event for it)
        await asyncio.sleep(0)
    await bench.broker.close()
    assert (await publishing).offset == 1


async def test_a_user_with_the_rights_that_are_documented_can_do_everything(bench, redis_server):
    prefix = uuid4().hex
    rights = ("resetkeys", f"~{{{prefix}:*", "resetchannels", f"&{{{prefix}:*", "-@all", *ACL_COMMANDS)
    await in_thread(redis_server, "ACL", "SETUSER", "rooms", "on", ">secret", *rights)
    broker = RedisBroker.from_url(redis_server.url.replace("//", "//rooms:secret@"), prefix=prefix)
    broker.start(bench.witness)
    await broker.subscribe("room")
    await broker.publish("room", b"1", history=None)
    await broker.publish("room", b"2", history=HISTORY, key="k")
    assert await bench.heard(2) == [1, 2]
    assert len((await broker.read("room", HISTORY, limit=10)).publications) == 1
    await broker.forget("room")
    await broker.listen()
    await broker.tell_nodes(b"hello")
    await bench.witness.until(lambda: bench.witness.messages == [b"hello"])
    await use_all_of(broker.presence)
    await broker.close()


async def use_all_of(presence: PresenceStore) -> None:
    await presence.come("room", [Member("a"), Member("b")])
    await presence.go("room", ["a"])
    assert await presence.renew(["room"]) == []
    assert (await presence.present("room"), await presence.count("room")) == ([Member("b")], Counts(1, 1))
    await presence.lose("alice", "a", seconds=10)
    assert await presence.reclaim("alice") == "a"


ACL_COMMANDS = ["+eval", "+evalsha", "+time", "+publish", "+subscribe", "+unsubscribe", "+ping", "+info", "+pexpire"]
ACL_COMMANDS += ["+hget", "+hmget", "+hset", "+hdel", "+del", "+xadd", "+xtrim", "+xrange", "+xrevrange"]
ACL_COMMANDS += ["+rpush", "+lpop", "+lindex", "+lpush", "+lrange", "+lrem", "+ltrim", "+exists", "+pttl"]
ACL_COMMANDS += ["+zadd", "+zrem", "+zscore", "+zrange", "+zrangebyscore", "+hincrby", "+hlen", "+hscan"]


async def test_a_user_without_rights_to_listen_is_told_in_the_log(redis_server, caplog, monkeypatch):
    await in_thread(redis_server, "ACL", "SETUSER", "deaf", "on", ">secret", "~*", "+@all", "-subscribe")
    broker = RedisBroker.from_url(redis_server.url.replace("//", "//deaf:secret@"), timeout_seconds=0.3)
    broker.start(Witness())
    with pytest.raises(NotAvailable):
        await broker.subscribe("room")
    assert "its ACL does not let this user do it (NOPERM)" in caplog.text
    await broker.close()


@pytest.mark.parametrize(("login", "code"), [("//nobody:hunter2@", "WRONGPASS"), ("//:hunter2@", "ERR")])
async def test_a_wrong_password_is_told_at_once_and_never_said(redis_server, caplog, login, code):
    caplog.set_level(logging.DEBUG)
    broker = RedisBroker.from_url(redis_server.url.replace("//", login), timeout_seconds=30)
    broker.start(Witness())
    async with asyncio.timeout(5):
        with pytest.raises(PublishFailed, match=f"refuses the login.*{code}.*nothing was published") as failure:
            await broker.publish("room", b"1", history=HISTORY)
        with pytest.raises(NotAvailable):
            await broker.read("room", HISTORY, limit=1)
    assert "refuses the login" in caplog.text
    for text in (str(failure.value), repr(failure.value.__cause__), caplog.text, repr(broker), repr(vars(broker))):
        assert "hunter2" not in text
    await broker.close()


async def test_a_daily_look_keeps_the_numbers_of_rooms_with_members(redis_server, monkeypatch):
    monkeypatch.setattr(feed, "PING_SECONDS", 0.01)
    monkeypatch.setattr(feed, "RENEW_SECONDS", 0.02)
    broker = RedisBroker.from_url(redis_server.url)
    witness = Witness()
    broker.start(witness)
    await broker.subscribe("room")
    await witness.until(lambda: witness.misses > 0)
    await broker.close()
