"""Redis as several servers: a cluster whose slots move and whose nodes die, and a primary that Sentinel replaces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.contract.broker_kinds import Bench, redis_at
from tests.redis_server import SLOTS, Cluster, RedisServer, Watched, server_program
from tests.redis_server import redis_cluster as redis_cluster
from yamabiko.brokers.redis import feed
from yamabiko.brokers.redis.servers import slot_of
from yamabiko.core.errors import PublishFailed
from yamabiko.core.messages import History, Position

pytestmark = pytest.mark.redis

HISTORY = History(size=100, ttl=timedelta(hours=1))
PATIENCE_SECONDS = 20


@pytest.fixture
async def bench(redis_cluster: Cluster) -> AsyncIterator[Bench]:
    async with redis_at(redis_cluster.url) as bench:
        yield bench


@pytest.fixture
def own_watched(tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(server_program(), tmp_path, patience_ms=300)
    yield watched
    watched.stop()


def listeners_of(server: RedisServer) -> int:
    return len(server.ask("CLIENT", "LIST", "TYPE", "pubsub").splitlines())


def node_of(cluster: Cluster, bench: Bench, room: str) -> int:
    return slot_of(f"{bench.broker._prefix}:{room}") * 3 // SLOTS


def rooms_on_each_node(cluster: Cluster, bench: Bench) -> list[str]:
    return [next(f"{n}" for n in range(1000) if node_of(cluster, bench, f"{n}") == node) for node in range(3)]


async def publish_at_last(bench: Bench, room: str, message: object) -> Position:
    """Publish under one key until it is accepted."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                return await bench.publish(room, message, HISTORY, key=str(message))
            except PublishFailed:
                continue


@pytest.mark.parametrize("tag", ["yamabiko:room", "a:b}c", "山彦:x"])
def test_a_room_s_slot_is_the_one_that_redis_gives_its_keys(redis_cluster, tag):
    assert slot_of(tag) == redis_cluster.nodes[0].ask("CLUSTER", "KEYSLOT", f"{{{tag}}}:log")


async def test_rooms_are_spread_over_the_nodes_and_each_is_heard_on_its_own(bench, redis_cluster):
    before = [listeners_of(node) for node in redis_cluster.nodes]
    rooms = rooms_on_each_node(redis_cluster, bench)
    for room in rooms:
        await bench.broker.subscribe(room)
        await bench.publish(room, room, HISTORY)
    assert sorted(await bench.heard(3)) == sorted(rooms)
    assert [listeners_of(node) for node in redis_cluster.nodes] == [count + 1 for count in before]
    for number, node in enumerate(redis_cluster.nodes):
        assert node.ask("EXISTS", f"{{{bench.broker._prefix}:{rooms[number]}}}:log") == 1


async def test_a_url_with_one_node_is_enough(redis_cluster):
    async with redis_at(f"redis+cluster://127.0.0.1:{redis_cluster.nodes[2].port}") as bench:
        for room in rooms_on_each_node(redis_cluster, bench):
            assert (await bench.publish(room, "hello", HISTORY)).offset == 1


async def test_a_slot_that_moves_is_followed_by_publishers_and_by_the_feed(bench, redis_cluster, monkeypatch):
    monkeypatch.setattr(feed, "FIND_SECONDS", 3600)  # the node itself says that the slot has left
    source, target, third = redis_cluster.nodes
    room = rooms_on_each_node(redis_cluster, bench)[0]
    await bench.broker.subscribe(room)
    await bench.publish("elsewhere", "to know the slots")
    slot, name = slot_of(f"{bench.broker._prefix}:{room}"), target.ask("CLUSTER", "MYID")
    for node in (target, source, third):
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", name)
    await bench.witness.until(lambda: bench.misses > 0)
    await bench.publish(room, "after the move", HISTORY)
    assert await bench.heard(1) == ["after the move"]
    assert target.ask("EXISTS", f"{{{bench.broker._prefix}:{room}}}:log") == 1


async def test_a_publisher_takes_a_nodes_word_for_where_a_slot_is_and_asks_for_no_map(bench, redis_cluster):
    source, target, third = redis_cluster.nodes
    room = rooms_on_each_node(redis_cluster, bench)[0]
    await bench.publish("elsewhere", "to know the slots")
    slot, name = slot_of(f"{bench.broker._prefix}:{room}"), target.ask("CLUSTER", "MYID")
    for node in (target, source, third):
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", name)
        node.ask("CONFIG", "RESETSTAT")
    assert (await bench.publish(room, "after the move", HISTORY)).offset == 1
    assert not any(b"cmdstat_cluster|slots" in node.ask("INFO", "commandstats") for node in (source, target, third))


async def test_while_a_slot_moves_its_rooms_are_asked_for_where_they_are(bench, redis_cluster):
    source, target, third = redis_cluster.nodes
    room = rooms_on_each_node(redis_cluster, bench)[0]
    base = f"{{{bench.broker._prefix}:{room}}}"
    slot, name = slot_of(base.strip("{}")), target.ask("CLUSTER", "MYID")
    assert (await bench.publish(room, 1, HISTORY)).offset == 1
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.ask("CLUSTER", "MYID"))
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", name)
    assert (await bench.publish(room, 2, HISTORY)).offset == 2
    keys = (f"{base}:numbers", f"{base}:log")
    assert source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys) == b"OK"
    assert (await bench.publish(room, 3, HISTORY)).offset == 3
    for node in (target, source, third):
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", name)
    assert (await bench.publish(room, 4, HISTORY)).offset == 4
    assert target.ask("XLEN", f"{base}:log") == 4


async def test_a_node_that_dies_and_comes_back_is_missed_and_taken_up(redis_cluster, monkeypatch):
    monkeypatch.setattr(feed, "PING_SECONDS", 0.05)
    node = redis_cluster.nodes[1]
    async with redis_at(redis_cluster.url, mend=lambda: node.is_running or node.start()) as bench:
        rooms = rooms_on_each_node(redis_cluster, bench)
        for room in rooms:
            await bench.broker.subscribe(room)
            await bench.publish(room, "before", HISTORY)
        await bench.heard(3)
        await asyncio.to_thread(node.stop)
        async with asyncio.timeout(PATIENCE_SECONDS):
            with pytest.raises(PublishFailed):
                await bench.publish(rooms[1], "lost", HISTORY)
        await asyncio.to_thread(node.start)
        await publish_at_last(bench, rooms[1], "after")
        await bench.witness.until(lambda: bench.misses > 0)
        for room in (rooms[0], rooms[2]):
            assert (await publish_at_last(bench, room, "after")).offset == 2
    await asyncio.to_thread(redis_cluster.wait)


async def test_a_failover_is_followed_and_what_was_replicated_is_kept(own_watched, monkeypatch):
    monkeypatch.setattr(feed, "PING_SECONDS", 0.05)
    async with redis_at(own_watched.url) as bench:
        await bench.broker.subscribe("room")
        first = await bench.publish("room", "before", HISTORY)
        await bench.heard(1)
        own_watched.primary.ask("WAIT", 1, 5000)
        await asyncio.to_thread(own_watched.primary.stop)
        assert (await publish_at_last(bench, "room", "after")).offset == 2
        await bench.witness.until(lambda: bench.misses > 0)
        page = await bench.broker.read("room", HISTORY, since=first, limit=10)
        assert ([publication.data for publication in page.publications], page.is_whole) == ([b'"after"'], True)
        await bench.publish("room", "heard", HISTORY)
        await bench.witness.until(lambda: "heard" in bench.messages)


async def test_a_publisher_that_listens_to_nothing_follows_a_failover_too(own_watched):
    async with redis_at(own_watched.url) as bench:
        await bench.publish("room", "before", HISTORY)
        own_watched.primary.ask("WAIT", 1, 5000)
        await asyncio.to_thread(own_watched.primary.stop)
        assert (await publish_at_last(bench, "room", "after")).offset == 2


async def test_while_no_sentinel_answers_the_primary_that_was_named_last_is_used(own_watched):
    async with redis_at(own_watched.url) as bench:
        await bench.publish("room", 1, HISTORY)
        await asyncio.to_thread(own_watched.sentinel.stop)
        await asyncio.to_thread(own_watched.primary.ask, "CLIENT", "KILL", "TYPE", "normal")
        assert (await publish_at_last(bench, "room", 2)).offset == 2


async def test_a_service_that_sentinel_does_not_know_is_told(own_watched):
    url = own_watched.url.replace("/rooms", "/other")
    async with redis_at(url) as bench:
        bench.broker._timeout_seconds = 0.2
        with pytest.raises(PublishFailed, match="knows no 'other'"):
            await bench.publish("room", 1, HISTORY)
