"""What every presence store keeps to: who is there, who is told of it, and what becomes of those whose node is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
import pytest

from tests.contract.broker_kinds import ON_REDIS, Bench, channels_in_memory, memory, sqlite
from tests.redis_server import redis_cluster as redis_cluster
from tests.redis_server import redis_server as redis_server
from tests.redis_server import watched_redis as watched_redis
from yamabiko.brokers import channels
from yamabiko.core.errors import NotAvailable
from yamabiko.core.interfaces import LEASE_SECONDS, Broker, PresenceStore
from yamabiko.core.messages import NOTHING, Counts, Member

IN_PROCESS = [memory, sqlite, channels_in_memory]
ONLY_ON_REDIS = [pytest.param(kind, marks=pytest.mark.redis) for kind in ON_REDIS]
shared = pytest.mark.parametrize("kind", ONLY_ON_REDIS, indirect=True)

ALICE = Member("a1", "alice", "Alice", msgspec.Raw(b'{"color":"red"}'), msgspec.Raw(b'["here", 1]'))
BOB = Member("b1", "bob", "Bob")
NOBODY = Member("n1")


@pytest.fixture
async def bench(kind: AbstractAsyncContextManager[Bench], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(channels, "AGAIN_SECONDS", 0.01)
    async with kind as bench:
        await bench.broker.subscribe("room")
        yield bench


@pytest.fixture(params=[*IN_PROCESS, *ONLY_ON_REDIS])
def kind(request: pytest.FixtureRequest):
    if request.param in IN_PROCESS:
        return request.param()
    kind, servers = ON_REDIS[request.param]
    return kind(request.getfixturevalue(servers))


@pytest.fixture
def store(bench: Bench) -> PresenceStore:
    return bench.broker.presence


@pytest.fixture
async def other_node(bench: Bench) -> AsyncIterator[Broker]:
    """Another process of the site, which is subscribed to nothing."""
    broker = bench.another()
    yield broker
    await broker.close()


async def told(bench: Bench, joined: int = 0, left: int = 0) -> tuple[list[Member], list[Member]]:
    """Wait until so many joined and left; return the clients of all that did, and forget them.

    What was told before a publication is heard before it, so that what is too much is found as well.
    """
    witness = bench.witness

    def count(name: str) -> int:
        return sum(len(getattr(changed, name)) for _, changed in witness.changes)

    await witness.until(lambda: count("joined") >= joined and count("left") >= left)
    before = len(bench.delivered)
    await bench.publish("room", "hear what was told before")
    await bench.heard(before + 1)
    changes, witness.changes = witness.changes, []
    assert {room for room, _ in changes} <= {"room"}
    return tuple([member for _, changed in changes for member in getattr(changed, name)] for name in ("joined", "left"))


def by_client(members: list[Member]) -> list[Member]:
    return sorted(members, key=lambda member: member.client)


async def test_who_comes_is_there_and_the_room_is_told(bench, store):
    await store.come("room", [ALICE, BOB])
    assert await told(bench, joined=2) == ([ALICE, BOB], [])
    assert by_client(await store.present("room")) == [ALICE, BOB]


async def test_who_goes_is_gone_and_the_room_is_told(bench, store):
    await store.come("room", [ALICE, BOB])
    await store.go("room", ["a1"])
    assert await told(bench, joined=2, left=1) == ([ALICE, BOB], [ALICE])
    assert await store.present("room") == [BOB]


async def test_everything_said_of_a_member_is_kept_and_told(bench, store):
    member = Member("山 彦}", '5 {"', "Ünï\n", msgspec.Raw('{"a":["山彦",null]}'.encode()), msgspec.Raw(b"1"))
    await store.come("room", [member])
    assert (await told(bench, joined=1), await store.present("room")) == (([member], []), [member])


async def test_empty_parts_of_a_member_are_nothing_however_they_were_made(bench, store):
    await store.come("room", [Member("c", info=msgspec.Raw(b""), room_info=msgspec.Raw(bytearray()))])
    (found,) = await store.present("room")
    assert (bytes(found.info), bytes(found.room_info)) == (b"", b"")
    assert await told(bench, joined=1) == ([Member("c", info=NOTHING)], [])


async def test_who_comes_again_is_told_once_and_counted_once(bench, store):
    await store.come("room", [ALICE, ALICE])
    await store.come("room", [ALICE])
    assert await told(bench, joined=1) == ([ALICE], [])
    assert (await store.present("room"), await store.count("room")) == ([ALICE], Counts(1, 1))


async def test_who_comes_again_may_have_changed(bench, store):
    other = Member("a1", "alice2", "Alice the Second")
    await store.come("room", [ALICE])
    await store.come("room", [other])
    assert (await store.present("room"), await store.count("room")) == ([other], Counts(1, 1))
    await store.go("room", ["a1"])
    assert await told(bench, joined=1, left=1) == ([ALICE], [other])
    assert await store.count("room") == Counts(0, 0)


async def test_who_was_not_there_goes_without_being_told(bench, store):
    await store.go("room", ["a1"])
    await store.come("room", [BOB])
    await store.go("room", ["a1", "nobody"])
    assert await told(bench, joined=1) == ([BOB], [])


async def test_who_goes_twice_is_told_once(bench, store):
    await store.come("room", [ALICE])
    await store.go("room", ["a1", "a1"])
    await store.go("room", ["a1"])
    assert await told(bench, joined=1, left=1) == ([ALICE], [ALICE])


async def test_nobody_at_all_may_come_and_go(bench, store):
    await store.come("room", [])
    await store.go("room", [])
    assert (await store.present("room"), await told(bench)) == ([], ([], []))


async def test_comings_and_goings_begun_in_one_turn_are_done_in_their_order(bench, store):
    await store.come("room", [BOB])
    calls = [
        store.go("room", ["b1"]),
        *(store.come("room", [Member(f"c{number}")]) for number in range(20)),
        *(store.go("room", [f"c{number}"]) for number in range(19)),
        store.come("room", [BOB]),
    ]
    await asyncio.gather(*calls)
    assert by_client(await store.present("room")) == [BOB, Member("c19")]
    joined, left = await told(bench, joined=2)
    assert len(joined) - len(left) == 2


async def test_three_clients_of_one_user_are_one_user(store):
    await store.come("room", [Member(f"a{number}", "alice") for number in range(3)])
    assert await store.count("room") == Counts(3, 1)
    await store.go("room", ["a0", "a1"])
    assert await store.count("room") == Counts(1, 1)


async def test_two_unknown_are_one_user(store):
    await store.come("room", [NOBODY, Member("n2")])
    assert await store.count("room") == Counts(2, 1)
    await store.come("room", [ALICE])
    assert await store.count("room") == Counts(3, 2)


async def test_an_empty_room_has_nobody(store):
    assert (await store.present("room"), await store.count("room")) == ([], Counts(0, 0))


async def test_rooms_are_told_apart(bench, store):
    await bench.broker.subscribe("other")
    await store.come("room", [ALICE])
    await store.come("other", [ALICE, BOB])
    await store.go("other", ["a1"])
    await bench.witness.until(lambda: len(bench.witness.changes) == 3)
    assert [room for room, _ in bench.witness.changes].count("other") == 2
    assert (await store.present("room"), await store.present("other")) == ([ALICE], [BOB])
    await bench.broker.unsubscribe("other")


async def test_of_rooms_that_are_not_subscribed_nothing_is_told(bench, store):
    await store.come("other", [ALICE])
    await store.go("other", ["a1"])
    await store.come("other", [BOB])
    assert await told(bench) == ([], [])
    assert await store.present("other") == [BOB]


async def test_after_the_end_of_a_subscription_nothing_is_told(bench, store):
    await bench.broker.unsubscribe("room")
    await store.come("room", [ALICE])
    await bench.broker.subscribe("room")
    await store.come("room", [BOB])
    assert await told(bench, joined=1) == ([BOB], [])


async def test_a_room_in_which_nobody_has_come_is_reported_by_a_renewal(store):
    await store.come("here", [ALICE])
    for _ in range(2):
        assert await store.renew(["here", "elsewhere"]) == ["elsewhere"]
    assert await store.renew([]) == []


async def test_a_node_that_renews_keeps_its_members(bench, store):
    await store.come("room", [ALICE])
    for _ in range(10):
        bench.now += LEASE_SECONDS - 1
        assert await store.renew(["room"]) == []
    assert await store.present("room") == [ALICE]
    assert await told(bench, joined=1) == ([ALICE], [])


async def test_many_rooms_are_renewed_at_once(store):
    rooms = [f"room {number}" for number in range(300)]
    await asyncio.gather(*(store.come(room, [ALICE]) for room in rooms[::2]))
    assert await store.renew(rooms) == rooms[1::2]


# Lost and found


async def test_a_lost_client_is_reclaimed_once_the_newest_first(store):
    for client in ("one", "two", "three"):
        await store.lose("alice", client, seconds=60)
    assert [await store.reclaim("alice") for _ in range(4)] == ["three", "two", "one", ""]


async def test_of_many_who_reclaim_at_once_one_gets_the_client(store, other_node):
    await store.lose("alice", "a1", seconds=60)
    found = await asyncio.gather(*(each.reclaim("alice") for each in (store, other_node.presence) for _ in range(10)))
    assert sorted(found) == [""] * (len(found) - 1) + ["a1"]


async def test_a_lost_client_is_forgotten_in_time(bench, store):
    await store.lose("alice", "one", seconds=60)
    bench.now += 30
    await store.lose("alice", "two", seconds=20)
    bench.now += 20
    assert await store.reclaim("alice") == "one"
    await store.lose("alice", "three", seconds=20)
    bench.now += 20
    assert await store.reclaim("alice") == ""


async def test_a_client_that_is_lost_twice_is_reclaimed_once_and_was_lost_last(store):
    for client in ("one", "two", "one"):
        await store.lose("alice", client, seconds=60)
    assert [await store.reclaim("alice") for _ in range(3)] == ["one", "two", ""]


async def test_users_reclaim_their_own_clients(store):
    await store.lose("alice", "a1", seconds=60)
    await store.lose("山彦 }x", "b 1", seconds=60)
    assert [await store.reclaim(user) for user in ("bob", "山彦 }x", "alice")] == ["", "b 1", "a1"]


async def test_someone_unknown_loses_and_reclaims_nothing(store):
    await store.lose("", "n1", seconds=60)
    assert await store.reclaim("") == ""


async def test_no_more_than_a_hundred_lost_clients_of_a_user_are_remembered(store):
    for number in range(101):
        await store.lose("alice", str(number), seconds=60)
    found = [await store.reclaim("alice") for _ in range(101)]
    assert found == [str(number) for number in range(100, 0, -1)] + [""]


# Several nodes


@shared
async def test_members_of_all_nodes_are_there_and_told(bench, store, other_node):
    await store.come("room", [ALICE])
    await other_node.presence.come("room", [BOB, NOBODY])
    assert await told(bench, joined=3) == ([ALICE, BOB, NOBODY], [])
    for each in (store, other_node.presence):
        assert by_client(await each.present("room")) == [ALICE, BOB, NOBODY]
        assert await each.count("room") == Counts(3, 3)


@shared
async def test_a_client_that_moves_to_another_node_tells_nobody(bench, store, other_node):
    await store.come("room", [ALICE, BOB])
    await other_node.presence.come("room", [ALICE])
    await store.go("room", ["a1"])
    assert await told(bench, joined=2) == ([ALICE, BOB], [])
    assert (await store.count("room"), by_client(await store.present("room"))) == (Counts(2, 2), [ALICE, BOB])
    await other_node.presence.go("room", ["a1"])
    assert await told(bench, left=1) == ([], [ALICE])


@shared
async def test_a_node_whose_only_member_has_moved_away_is_not_asked_to_come_again(store, other_node):
    await store.come("room", [ALICE])
    await other_node.presence.come("room", [ALICE])
    assert await store.renew(["room"]) == []


@shared
@pytest.mark.parametrize("touch", ["come", "go", "renew", "present", "count"])
async def test_whoever_touches_the_room_finds_the_members_of_a_dead_node_gone(bench, store, other_node, touch):
    await store.come("room", [ALICE])
    await other_node.presence.come("room", [BOB, NOBODY])
    await told(bench, joined=3)
    bench.now += LEASE_SECONDS - 1
    await touched(store, touch)
    assert await told(bench) == ([], [])
    await store.renew(["room"])
    bench.now += 1
    await touched(store, touch)
    joined, left = await told(bench, left=2)
    assert (joined, by_client(left)) == ([], [BOB, NOBODY])
    assert (await store.present("room"), await store.count("room")) == ([ALICE], Counts(1, 1))


async def touched(store: PresenceStore, touch: str) -> Any:
    calls: dict[str, Any] = {
        "come": lambda: store.come("room", [ALICE]),
        "go": lambda: store.go("room", ["nobody"]),
        "renew": lambda: store.renew(["room"]),
        "present": lambda: store.present("room"),
        "count": lambda: store.count("room"),
    }
    return await calls[touch]()


@shared
async def test_a_node_that_was_taken_for_dead_comes_again(bench, store, other_node):
    await other_node.presence.come("room", [BOB])
    bench.now += LEASE_SECONDS
    await store.count("room")
    assert await other_node.presence.renew(["room"]) == ["room"]
    await other_node.presence.come("room", [BOB])
    assert await told(bench, joined=2, left=1) == ([BOB, BOB], [BOB])
    assert await other_node.presence.renew(["room"]) == []


@shared
async def test_a_client_of_a_dead_node_that_comes_elsewhere_has_moved(bench, store, other_node):
    await other_node.presence.come("room", [ALICE, BOB])
    bench.now += LEASE_SECONDS
    await store.come("room", [ALICE])
    assert await told(bench, joined=2, left=1) == ([ALICE, BOB], [BOB])
    assert await store.present("room") == [ALICE]


@shared
async def test_a_lease_is_as_long_as_it_was_asked_for(bench, store, other_node):
    await other_node.presence.come("room", [BOB])
    await other_node.presence.renew(["room"], seconds=100)
    bench.now += 99.9
    assert await store.count("room") == Counts(1, 1)
    bench.now += 0.1
    assert await store.count("room") == Counts(0, 0)


@shared
async def test_several_thousand_members_come_and_are_gone_with_their_node(bench, store, other_node):
    members = [
        Member(f"client {number}", f"user {number // 2}", info=msgspec.Raw(b'"%0500d"' % 0)) for number in range(3000)
    ]
    await store.come("room", [ALICE])
    await other_node.presence.come("room", members)
    joined, _ = await told(bench, joined=3001)
    assert joined == [ALICE, *members]
    assert len(await store.present("room")) == 3001
    assert await store.count("room") == Counts(3001, 1501)
    bench.now += LEASE_SECONDS
    await store.come("room", [ALICE])
    assert await store.present("room") == [ALICE]
    _, left = await told(bench, left=3000)
    assert by_client(left) == by_client(members)


@shared
async def test_without_what_it_depends_on_everything_raises(bench, store):
    await store.come("room", [ALICE])
    bench.break_down()
    calls = [
        *(touched(store, touch) for touch in ("come", "go", "renew", "present", "count")),
        store.lose("alice", "a1", seconds=60),
        store.reclaim("alice"),
    ]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [NotAvailable] * len(calls)
    bench.mend()
    await store.come("room", [ALICE, BOB])
    assert len(await store.present("room")) == 2
