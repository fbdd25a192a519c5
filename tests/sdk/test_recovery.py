"""A connection is cut, and comes back: what was missed comes in order, once, or it is told that something is lost."""

from __future__ import annotations

import asyncio

import pytest

from tests.sdk.clients import SdkClient
from tests.sdk.proxy import Network
from tests.sdk.sites import Join, LeadTo
from tests.sdk.tokens import ALICE, BOB, connection_token
from tests.servers.running import Running
from tests.servers.visitors import Visitor, visit

pytest_plugins = ["tests.sdk.fixtures"]
pytestmark = pytest.mark.server


@pytest.fixture
async def line(lead_to: LeadTo, here: Running) -> Network:
    return await lead_to(here.port)


@pytest.fixture
async def client(join: Join, kind: str, line: Network) -> SdkClient:
    """Alice, on a line that can be cut."""
    return await join(kind, line, token=connection_token(ALICE))


async def say_all(visitor: Visitor, messages: list[int]) -> None:
    """Publish, and wait until it is heard: then the server has it."""
    for message in messages:
        await visitor.say(message)
    assert await visitor.messages(len(messages)) == messages


async def test_what_was_missed_while_the_line_was_cut_comes_in_order_and_once(
    client: SdkClient, line: Network, here: Running, room: str
):
    room = f"kept/{room}"
    first = await client.enter(room)
    assert not first["was_recovering"]
    async with visit(here, room) as visitor:
        await say_all(visitor, [0, 1, 2])
        assert await client.messages(room, 3) == [0, 1, 2]
        line.cut()
        await client.event("connecting", where=lambda said: said["code"] == 1)
        await say_all(visitor, list(range(3, 30)))
        line.mend()
        again = await client.event("subscribed", room)
        assert (again["was_recovering"], again["recovered"]) == (True, True)
        assert again["position"] == {"offset": 3, "epoch": first["position"]["epoch"]}
        await say_all(visitor, [30])
        assert await client.messages(room, 28) == list(range(3, 31))
    assert client.has_heard("publication", room) == []


async def test_nothing_is_lost_when_the_line_is_cut_again_and_again_while_others_speak(
    client: SdkClient, line: Network, here: Running, room: str
):
    room = f"long/{room}"
    await client.enter(room)
    async with visit(here, room) as visitor:
        heard: list[int] = []
        for turn in range(5):
            speaking = asyncio.create_task(say_all(visitor, list(range(turn * 50, turn * 50 + 50))))
            heard += await client.messages(room, 10)
            line.cut()
            line.mend()
            assert (await client.event("subscribed", room))["recovered"]
            await speaking
        heard += await client.messages(room, 250 - len(heard))
    assert heard == list(range(250))
    assert client.has_heard("publication", room) == []


async def test_what_history_no_longer_has_is_told_as_not_recovered(
    client: SdkClient, line: Network, here: Running, room: str
):
    room = f"short/{room}"
    await client.enter(room)
    async with visit(here, room) as visitor:
        await say_all(visitor, [0])
        assert await client.messages(room, 1) == [0]
        line.cut()
        await say_all(visitor, [1, 2, 3, 4, 5])
        line.mend()
        again = await client.event("subscribed", room)
        assert (again["was_recovering"], again["recovered"]) == (True, False)
        assert again["position"]["offset"] == 6
        await say_all(visitor, [6])
        assert await client.messages(room, 1) == [6]


async def test_an_application_with_a_state_of_its_own_is_asked_for_it_where_history_does_not_reach_back(
    client: SdkClient, line: Network, here: Running, room: str
):
    room = f"short/{room}"
    async with visit(here, room) as visitor:
        await visitor.say(1)
        first = await visitor.payload()
        await say_all(visitor, [2])
        await client.subscribe(room, has_state=True)
        await client.event("state wanted", room)
        await client.give_state(room, {"offset": first["offset"], "epoch": first["epoch"]})
        assert (await client.event("subscribed", room))["recovered"]
        assert await client.messages(room, 1) == [2]
        line.cut()
        await say_all(visitor, [3, 4, 5, 6, 7])
        line.mend()
        await client.event("state wanted", room)
        await client.give_state(room, {"offset": 6, "epoch": first["epoch"]})
        assert (await client.event("subscribed", room))["recovered"]
        assert await client.messages(room, 1) == [7]
    assert client.has_heard("publication", room) == []


async def test_a_room_that_keeps_nothing_goes_on_from_now(client: SdkClient, line: Network, here: Running, room: str):
    room = f"open/{room}"
    await client.enter(room)
    line.cut()
    async with visit(here, room) as visitor:
        await say_all(visitor, [1])
        line.mend()
        assert not (await client.event("subscribed", room))["was_recovering"]
        await say_all(visitor, [2])
        assert await client.messages(room, 1) == [2]


async def test_subscriptions_that_the_server_made_are_recovered_too(
    join: Join, kind: str, line: Network, here: Running, room: str
):
    # The Room class would not let Alice in; her token does.
    room = f"kept/{room}"
    client = await join(kind, line, token=connection_token(ALICE, channels=[room, "closed/for all"]))
    first = await client.event("subscribed", room)
    assert (first["recoverable"], first["was_recovering"]) == (True, False)
    assert not (await client.event("subscribed", "closed/for all"))["recoverable"]
    async with visit(here, room) as visitor:
        await say_all(visitor, [1, 2])
        assert await client.messages(room, 2) == [1, 2]
        line.cut()
        await client.event("subscribing", room)
        await say_all(visitor, [3, 4])
        line.mend()
        again = await client.event("subscribed", room)
        assert (again["was_recovering"], again["recovered"]) == (True, True)
        await say_all(visitor, [5])
        assert await client.messages(room, 3) == [3, 4, 5]
    assert client.has_heard("publication", room) == []


async def test_others_are_not_told_that_a_client_was_away_for_a_moment(
    client: SdkClient, join: Join, kind: str, line: Network, here: Running, room: str
):
    room = f"kept/{room}"
    watcher = await join(kind, here, token=connection_token(BOB))
    await watcher.enter(room, join_leave=True)
    await watcher.event("join", room)
    await client.enter(room)
    assert (await watcher.event("join", room))["info"]["client"] == client.client
    was = client.client
    line.cut()
    line.mend()
    await client.connected()
    assert client.client == was
    await client.event("subscribed", room)
    newcomer = await join(kind, here, token=connection_token(BOB))
    await newcomer.enter(room)
    assert (await watcher.event("join", room))["info"]["client"] == newcomer.client
    assert set(await watcher.presence(room)) == {watcher.client, was, newcomer.client}
    assert watcher.has_heard("join", room) == watcher.has_heard("leave", room) == []
