"""Two servers on one Redis: to their clients they are one, and when one of them ends the other goes on."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.redis_server import RedisServer
from tests.redis_server import redis_server as redis_server
from tests.sdk.clients import SdkClient
from tests.sdk.sites import KINDS, Join, JoinAll, LeadTo, serving, site
from tests.sdk.tokens import ALICE, BOB, connection_token
from tests.servers.running import PATIENCE_SECONDS, Running, Servers
from tests.servers.visitors import visit
from yamabiko.brokers.redis.names import names_of

pytest_plugins = ["tests.sdk.fixtures"]
pytestmark = [pytest.mark.server, pytest.mark.redis]

Nodes = tuple[Running, Running]


@pytest.fixture
async def nodes(servers: Servers, redis_server: RedisServer) -> AsyncIterator[Nodes]:
    settings = site(BROKER=redis_server.url)
    async with AsyncExitStack() as stack:
        starting = [stack.enter_async_context(serving(servers, settings)) for _ in range(2)]
        first, second = await asyncio.gather(*starting)
        yield first, second


async def all_in(clients: list[SdkClient], room: str, **options: Any) -> None:
    """Have clients enter a room, and be there for all nodes: they tell each other when asked."""
    await asyncio.gather(*(client.enter(room, **options) for client in clients))
    await asyncio.gather(*(client.presence(room) for client in clients))


async def all_hear_somebody_come(watchers: list[SdkClient], newcomer: SdkClient, room: str) -> None:
    """Wait until all that happened before has been told."""
    await newcomer.enter(room)
    for watcher in watchers:
        await watcher.event("join", room, where=lambda said: said["info"]["client"] == newcomer.client)


def let_leases_end(redis: RedisServer, room: str) -> None:
    """Wind the clock of the leases in a room: who does not renew them is gone."""
    leases = names_of(room, prefix="yamabiko", db=0).nodes
    for node in redis.ask("ZRANGE", leases, 0, -1):
        redis.ask("ZADD", leases, "XX", 1, node)


async def test_clients_of_both_nodes_hear_and_see_each_other(nodes: Nodes, join_all: JoinAll, room: str):
    room = f"kept/{room}"
    first = await join_all(nodes[0], token=connection_token(ALICE))
    second = await join_all(nodes[1], token=connection_token(BOB))
    both = [*first, *second]
    await all_in(both, room)
    await asyncio.gather(*(client.publish(room, number) for number, client in enumerate(both)))
    heard = await both[0].messages(room, len(both))
    assert sorted(heard) == list(range(len(both)))
    for client in both[1:]:
        assert await client.messages(room, len(both)) == heard

    users = dict.fromkeys([each.client for each in first], ALICE) | dict.fromkeys([each.client for each in second], BOB)
    for client in both:
        assert {each["client"]: each["user"] for each in (await client.presence(room)).values()} == users
        assert await client.presence_stats(room) == {"clients": 8, "users": 2}
    async with visit(nodes[1], room, "?presence=1") as visitor:
        there = await visitor.presence()
        assert {each.get("user") for each in there["joined"]} >= {"alice", "bob"}


async def test_orders_reach_a_user_on_the_other_node(nodes: Nodes, join: Join, join_all: JoinAll, room: str):
    room = f"kept/{room}"
    staff = await join("python-json", nodes[0])
    bobs = await join_all(nodes[1], token=connection_token(BOB))
    alice = await join("python-json", nodes[1], token=connection_token(ALICE))

    await staff.rpc("put_into", {"who": BOB, "client": "", "room": room})
    assert [(await bob.event("subscribed", room))["data"] for bob in bobs] == [{"welcome": room}] * 4
    await staff.rpc("send_to", {"to": BOB, "client": "", "data": "山彦"})
    for kind, bob in zip(KINDS, bobs, strict=True):
        if kind.startswith("js"):
            assert (await bob.event("message"))["data"] == "山彦"
    await staff.rpc("take_out", {"who": BOB, "client": "", "room": room})
    for bob in bobs:
        await bob.event("unsubscribed", room)
        assert await bob.rpc("whoami") == "bob"
    await staff.rpc("disconnect", {"who": BOB, "client": ""})
    assert [(await bob.event("disconnected"))["code"] for bob in bobs] == [3503] * 4
    assert await alice.rpc("whoami") == "alice"


async def test_clients_of_a_node_that_is_killed_are_gone_when_its_lease_ends(
    nodes: Nodes, join_all: JoinAll, lead_to: LeadTo, redis_server: RedisServer, room: str
):
    room = f"kept/{room}"
    line = await lead_to(nodes[0].port)
    lost = await join_all(line, token=connection_token(ALICE))
    stay = await join_all(nodes[1], token=connection_token(BOB))
    await all_in([*lost, *stay], room, join_leave=True)
    line.is_cut = True
    nodes[0].signal(signal.SIGKILL)
    await asyncio.to_thread(nodes[0].process.wait, PATIENCE_SECONDS)
    for client in stay:
        assert await client.presence_stats(room) == {"clients": 8, "users": 2}

    let_leases_end(redis_server, room)
    for client in stay:
        assert {each["user"] for each in (await client.presence(room)).values()} == {BOB}
        assert await client.presence_stats(room) == {"clients": 4, "users": 1}
        left = [(await client.event("leave", room))["info"]["client"] for _ in lost]
        assert sorted(left) == sorted(each.client for each in lost)


async def test_clients_of_a_node_that_stops_go_on_at_the_other_and_nobody_notices(
    nodes: Nodes, join: Join, join_all: JoinAll, lead_to: LeadTo, redis_server: RedisServer, room: str
):
    room = f"kept/{room}"
    line = await lead_to(nodes[0].port)
    async with visit(nodes[1], room) as visitor:
        moving = await join_all(line, token=connection_token(ALICE))
        stay = await join_all(nodes[1], token=connection_token(BOB))
        await all_in([*moving, *stay], room, join_leave=True)
        await all_hear_somebody_come(stay, await join("python-json", nodes[1]), room)
        for client in stay:
            client.forget("join", room)
        await moving[0].publish(room, 0)
        assert [await client.messages(room, 1) for client in [*moving, *stay]] == [[0]] * 8
        assert await visitor.message() == 0
        was = {client.client for client in moving}

        line.is_cut = True
        nodes[0].signal(signal.SIGTERM)
        for client in moving:
            assert (await client.event("connecting", where=lambda said: said["code"] > 1))["code"] == 3001
        for number in range(1, 20):
            await visitor.say(number)
        await visitor.messages(19)
        await asyncio.to_thread(nodes[0].wait)
        line.mend(nodes[1].port)
        for client in moving:
            await client.connected()
            assert (await client.event("subscribed", room))["recovered"]
            assert await client.messages(room, 19) == list(range(1, 20))
        assert {client.client for client in moving} == was

        await moving[0].presence(room)
        let_leases_end(redis_server, room)
        assert was < set(await stay[0].presence(room))
        await all_hear_somebody_come(stay, await join("js-json", nodes[1]), room)
        for client in stay:
            assert client.has_heard("join", room) == client.has_heard("leave", room) == []
