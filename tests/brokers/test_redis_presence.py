"""Presence in one Redis: what it costs there, how its data age, and what becomes of it when Redis loses some."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from tests.contract.broker_kinds import Bench, redis_at
from tests.redis_server import RedisServer, server_program
from tests.redis_server import redis_server as redis_server
from yamabiko.brokers.redis.presence import ROOMS_AT_ONCE
from yamabiko.core.errors import NotAvailable
from yamabiko.core.interfaces import LEASE_SECONDS
from yamabiko.core.messages import Counts, Member

pytestmark = pytest.mark.redis

ALICE, BOB = Member("a1", "alice", "Alice"), Member("b1", "bob")
TEN_MINUTES_MS = 600_000
BYTES_OF_AN_EVENT = 256 * 1024


@pytest.fixture
async def bench(redis_server: RedisServer) -> AsyncIterator[Bench]:
    async with redis_at(redis_server.url) as bench:
        yield bench


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of this test's own that has on disk what it is told to save, and finds it when it starts again."""
    server = RedisServer(server_program(), tmp_path, dbfilename="kept.rdb")
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def own_bench(own_server: RedisServer) -> AsyncIterator[Bench]:
    async with redis_at(own_server.url) as bench:
        await bench.broker.subscribe("room")
        yield bench


async def in_thread(server: RedisServer, *words: str | int):
    return await asyncio.to_thread(server.ask, *words)


async def restart(bench: Bench, server: RedisServer) -> None:
    """Kill and start a server, and return when it is heard again."""
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)
    await bench.witness.until(lambda: bench.misses > 0)


def base_of(bench: Bench) -> str:
    return f"{{{bench.broker._prefix}:room}}"


def scripts_run_by(server: RedisServer) -> int:
    rows = server.ask("INFO", "commandstats").decode().splitlines()
    calls = [row.split("calls=")[1].split(",")[0] for row in rows if row.startswith("cmdstat_evalsha:")]
    return int(calls[0]) if calls else 0


def told(bench: Bench) -> tuple[list[Member], list[Member]]:
    changes = [changed for _, changed in bench.witness.changes]
    return [each for changed in changes for each in changed.joined], [
        each for changed in changes for each in changed.left
    ]


async def test_those_who_come_in_one_turn_of_the_loop_are_one_command_and_told_together(bench, redis_server):
    presence = bench.broker.presence
    await bench.broker.subscribe("room")
    await presence.come("room", [ALICE])
    await in_thread(redis_server, "CONFIG", "RESETSTAT")
    members = [Member(f"c{number}") for number in range(50)]
    await asyncio.gather(*(presence.come("room", [member]) for member in members))
    await bench.witness.until(lambda: len(bench.witness.changes) == 2)
    assert list(bench.witness.changes[1][1].joined) == members
    assert scripts_run_by(redis_server) == 1


async def test_ten_thousand_members_come_and_are_taken_out_in_parts_and_so_they_are_told(bench, redis_server):
    presence, other = bench.broker.presence, bench.another()
    info = msgspec.Raw(b'"%0200d"' % 0)
    members = [Member(f"client {number}", f"user {number}", info=info) for number in range(10_000)]
    await bench.broker.subscribe("room")
    await presence.come("room", [ALICE])
    await in_thread(redis_server, "CONFIG", "RESETSTAT")
    await other.presence.come("room", members)
    await bench.witness.until(lambda: len(told(bench)[0]) == 10_001)
    assert scripts_run_by(redis_server) == 100
    bench.now += LEASE_SECONDS
    await presence.come("room", [ALICE])
    await in_thread(redis_server, "CONFIG", "RESETSTAT")
    assert await presence.count("room") == Counts(1, 1)
    await bench.witness.until(lambda: len(told(bench)[1]) == 10_000)
    assert scripts_run_by(redis_server) >= 15
    assert max(len(msgspec.json.encode(changed)) for _, changed in bench.witness.changes) < BYTES_OF_AN_EVENT
    await other.close()


async def test_large_members_are_told_in_parts(bench):
    presence = bench.broker.presence
    members = [Member(f"c{number}", info=msgspec.Raw(b'"%0100000d"' % 0)) for number in range(5)]
    await bench.broker.subscribe("room")
    await asyncio.gather(*(presence.come("room", [member]) for member in members))
    await presence.go("room", [member.client for member in members])
    await bench.witness.until(lambda: len(told(bench)[1]) == 5)
    assert told(bench) == (members, members)
    assert all(len(changed.joined) + len(changed.left) <= 2 for _, changed in bench.witness.changes)


async def test_a_page_of_presence_is_as_long_as_need_be(bench):
    members = [Member(f"client {number}") for number in range(2_500)]
    await bench.broker.presence.come("room", members)
    found = await bench.broker.presence.present("room")
    assert sorted(member.client for member in found) == sorted(member.client for member in members)


async def test_everything_expires_when_no_node_is_left_and_clients_after_what_counts_them(bench, redis_server):
    await bench.broker.presence.come("room", [ALICE])
    await bench.broker.presence.lose("room", "a1", seconds=60)
    base, lease = base_of(bench), int(LEASE_SECONDS * 1000)
    keys = {key.decode() for key in await in_thread(redis_server, "KEYS", f"*{bench.broker._prefix}*")}
    (clients,) = (key for key in keys if key.startswith(f"{base}:nodes:"))
    assert keys == {f"{base}:nodes", f"{base}:users", f"{base}:lost", clients}
    left = {key: redis_server.ask("PTTL", key) for key in keys}
    for counted in (f"{base}:nodes", f"{base}:users"):
        assert lease < left[counted] <= lease + TEN_MINUTES_MS
        assert left[counted] + lease < left[clients]
    assert 50_000 < left[f"{base}:lost"] <= 60_000


async def test_a_lost_client_of_a_user_is_kept_as_long_as_the_one_that_is_kept_longest(bench, redis_server):
    for seconds in (60, 5):
        await bench.broker.presence.lose("room", str(seconds), seconds=seconds)
    assert redis_server.ask("PTTL", f"{base_of(bench)}:lost") > 50_000


async def test_a_room_that_all_have_left_takes_little_and_not_for_long(bench, redis_server):
    await bench.broker.presence.come("room", [ALICE, BOB])
    await bench.broker.presence.go("room", ["a1", "b1"])
    keys = await in_thread(redis_server, "KEYS", f"*{bench.broker._prefix}*")
    assert [key.decode() for key in keys] == [f"{base_of(bench)}:nodes"]
    assert redis_server.ask("PTTL", f"{base_of(bench)}:nodes") <= LEASE_SECONDS * 1000


async def test_after_redis_has_lost_everything_a_renewal_says_where_to_come_again(bench, redis_server):
    presence = bench.broker.presence
    await presence.come("room", [ALICE])
    await in_thread(redis_server, "FLUSHALL")
    assert await presence.renew(["room"]) == ["room"]
    assert await presence.count("room") == Counts(0, 0)
    await presence.come("room", [ALICE])
    assert (await presence.renew(["room"]), await presence.present("room")) == ([], [ALICE])


async def test_after_a_restart_that_brings_back_old_data_everybody_is_right_again(own_bench, own_server):
    """After the data were saved Bob came and Carol left: Bob comes again, and Carol goes with the old lease."""
    presence, carol = own_bench.broker.presence, Member("c1", "carol")
    await presence.come("room", [ALICE, carol])
    await in_thread(own_server, "SAVE")
    await presence.go("room", ["c1"])
    await presence.come("room", [BOB])
    await restart(own_bench, own_server)
    own_bench.witness.changes.clear()
    assert await presence.renew(["room"]) == ["room"]
    await presence.come("room", [ALICE, BOB])
    await own_bench.witness.until(lambda: told(own_bench) == ([BOB], []))
    own_bench.now += LEASE_SECONDS - 1
    assert await presence.renew(["room"]) == []
    own_bench.now += 1
    assert await presence.renew(["room"]) == []
    await own_bench.witness.until(lambda: told(own_bench) == ([BOB], [carol]))
    assert sorted(await presence.present("room"), key=lambda each: each.client) == [ALICE, BOB]
    assert await presence.count("room") == Counts(2, 2)


async def test_a_node_that_paused_for_longer_than_its_lease_while_nobody_looked_has_lost_nothing(bench):
    presence = bench.broker.presence
    await presence.come("room", [ALICE])
    await bench.broker.subscribe("room")
    bench.now += 10 * LEASE_SECONDS
    assert await presence.present("room") == [ALICE]
    assert await presence.renew(["room"]) == []
    bench.now += 10 * LEASE_SECONDS
    await presence.come("room", [BOB])
    await bench.witness.until(lambda: told(bench) == ([BOB], []))


async def test_without_a_clock_of_its_own_leases_end_by_the_clock_of_redis(redis_server):
    async with redis_at(redis_server.url) as bench:
        bench.broker._clock = None
        other = bench.another()
        other._clock = None
        await other.presence.come("room", [BOB])
        assert await bench.broker.presence.count("room") == Counts(1, 1)
        await other.presence.renew(["room"], seconds=0.001)
        async with asyncio.timeout(5):
            while await bench.broker.presence.count("room") != Counts(0, 0):
                pass
        await other.close()


async def test_a_renewal_of_a_thousand_rooms_goes_on_beside_everything_else(bench, monkeypatch):
    presence, rooms = bench.broker.presence, [f"room/{number}" for number in range(1000)]
    await asyncio.gather(*(presence.come(room, [ALICE]) for room in rooms))
    asked_in_turns, has_ended, ask = [0], False, presence._ask

    def counted_ask(request):
        asked_in_turns[-1] += 1
        return ask(request)

    async def look() -> None:
        while not has_ended:
            await asyncio.sleep(0)
            asked_in_turns.append(0)

    monkeypatch.setattr(presence, "_ask", counted_ask)
    looking = asyncio.create_task(look())
    assert await presence.renew(rooms) == []
    has_ended = True
    await looking
    assert sum(asked_in_turns) == len(rooms)
    assert max(asked_in_turns) <= ROOMS_AT_ONCE


async def test_a_renewal_tells_that_one_of_its_rooms_could_not_be_asked_for(own_bench, own_server):
    await own_bench.broker.presence.come("room", [ALICE])
    await in_thread(own_server, "SET", f"{{{own_bench.broker._prefix}:broken}}:nodes", "no set")
    own_bench.now += LEASE_SECONDS
    with pytest.raises(NotAvailable):
        await own_bench.broker.presence.renew(["broken", "room"])
    other = own_bench.another()
    assert await other.presence.count("room") == Counts(1, 1)
    await other.close()


@pytest.mark.parametrize("payload", ["+ + ", "+ + hello", "+ + 0 hello", '+ + {"joined":[{}]}'])
async def test_what_is_neither_presence_nor_a_publication_is_logged_and_the_feed_lives_on(
    bench, redis_server, payload, caplog
):
    await bench.broker.subscribe("room")
    await in_thread(redis_server, "PUBLISH", f"{base_of(bench)}:live:0", payload)
    await bench.publish("room", "hello")
    assert await bench.heard(1) == ["hello"]
    assert "cannot be read" in caplog.text


async def test_an_error_of_whoever_is_told_does_not_stop_the_feed(bench, caplog):
    await bench.broker.listen()
    bench.witness.heard = lambda message: 1 / 0
    bench.witness.presence_changed = lambda room, changed: 1 / 0
    await bench.broker.subscribe("room")
    await bench.broker.tell_nodes(b"hello")
    await bench.broker.presence.come("room", [ALICE])
    await bench.publish("room", "hello")
    assert await bench.heard(1) == ["hello"]
    del bench.witness.heard
    await bench.broker.tell_nodes(b"again")
    await bench.witness.until(lambda: bench.witness.messages == [b"again"])
    assert caplog.text.count("could not be taken") == 2


async def test_messages_for_all_nodes_reach_no_node_of_another_database_or_prefix(redis_server):
    async with redis_at(redis_server.url) as one, redis_at(redis_server.url[:-1] + "1") as two:
        two.broker._prefix = one.broker._prefix
        async with redis_at(redis_server.url) as three:
            for bench in (one, two, three):
                await bench.broker.listen()
            for number, bench in enumerate((one, two, three)):
                await bench.broker.tell_nodes(b"%d" % number)
                await bench.witness.until(lambda bench=bench: bool(bench.witness.messages))
            assert [bench.witness.messages for bench in (one, two, three)] == [[b"0"], [b"1"], [b"2"]]
