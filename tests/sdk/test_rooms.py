"""What members of a room say and hear, in each SDK and format, beside those of the room protocol."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.sdk.clients import SdkClient, SdkError
from tests.sdk.sites import Join, origin_of
from tests.sdk.tokens import ALICE, BOB, connection_token
from tests.servers.running import Running
from tests.servers.visitors import visit

pytest_plugins = ["tests.sdk.fixtures"]
pytestmark = pytest.mark.server

VALUES = [
    "山彦、やまびこ",
    'a\u2028b\nc\t"\\',
    "👍🏽é",
    {"ключ": [1, 2.5, None, True, {"": []}]},
    "",
    0,
    False,
    None,
    [],
]


@pytest.fixture
async def client(join: Join, kind: str, here: Running) -> SdkClient:
    """Alice."""
    return await join(kind, here, token=connection_token(ALICE))


async def test_members_of_both_protocols_hear_everything_in_one_order(client: SdkClient, here: Running, room: str):
    room = f"kept/{room}"
    await client.enter(room)
    async with visit(here, room) as visitor:
        await visitor.is_live()
        assert await client.messages(room, 1) == ["I am here"]
        for number in range(20):
            await client.publish(room, {"of the client": number})
            await visitor.say({"of the visitor": number})
        heard = await client.messages(room, 40)
        assert await visitor.messages(40) == heard
        assert [each for each in heard if "of the client" in each] == [{"of the client": n} for n in range(20)]
        assert [each for each in heard if "of the visitor" in each] == [{"of the visitor": n} for n in range(20)]


async def test_a_publication_says_who_published_it_and_where_it_stands(client: SdkClient, here: Running, room: str):
    room = f"kept/{room}"
    top = (await client.enter(room))["position"]
    await client.publish(room, "from the client")
    own = await client.event("publication", room)
    assert own["data"] == "from the client"
    assert own["offset"] == top["offset"] + 1
    assert own["info"]["client"] == client.client
    assert own["info"]["user"] == ALICE
    async with visit(here, room, is_signed_in=True, origin=origin_of(here)) as visitor:
        await visitor.say("from the visitor")
        heard = await client.event("publication", room)
    assert heard["offset"] == top["offset"] + 2
    assert heard["info"]["user"] == ALICE
    assert heard["info"]["conn_info"] == {"name": "alice"}


@pytest.mark.parametrize("message", [pytest.param(value, id=str(at)) for at, value in enumerate(VALUES)])
async def test_every_json_comes_as_it_was_sent(client: SdkClient, room: str, message: Any):
    await client.enter(f"kept/{room}")
    await client.publish(f"kept/{room}", message)
    assert await client.messages(f"kept/{room}", 1) == [message]
    page = await client.history(f"kept/{room}", limit=1)
    assert [each["data"] for each in page["publications"]] == [message]


async def test_a_room_may_have_any_name(client: SdkClient, room: str):
    room = f"kept/部屋 {room} é:#$&*"
    await client.enter(room)
    await client.publish(room, "here")
    assert await client.messages(room, 1) == ["here"]


async def test_large_messages_arrive_whole_and_in_order(client: SdkClient, here: Running, room: str):
    room = f"kept/{room}"
    await client.enter(room)
    large = ["山" * 10_000, "a" * 60_000, {"list": list(range(10_000))}]
    for message in large:
        await client.publish(room, message)
    assert await client.messages(room, len(large)) == large
    # All of them at once, as what is caught up with.
    await client.unsubscribe(room)
    await client.event("unsubscribed", room)
    async with visit(here, room) as visitor:
        for number in range(12):
            await visitor.say(f"{number}" + "b" * 60_000)
        await visitor.messages(12)
    assert (await client.enter(room))["recovered"]
    assert [message[:2].rstrip("b") for message in await client.messages(room, 12)] == [str(n) for n in range(12)]


async def test_a_message_that_is_too_large_ends_the_connection(client: SdkClient, kind: str, room: str):
    await client.enter(f"kept/{room}")
    with pytest.raises(SdkError):
        await client.publish(f"kept/{room}", "a" * 70_000)
    # The JavaScript SDK gives up, the other one comes back.
    event = "disconnected" if kind.startswith("js") else "connecting"
    ended = await client.event(event, where=lambda said: said["code"] > 0)
    assert ended["code"] == 3


async def test_who_subscribes_twice_or_to_no_room_is_told_so(client: SdkClient, room: str):
    await client.subscribe("nowhere/at all")
    refused = await client.event("unsubscribed", "nowhere/at all")
    assert refused["code"] == 102
    await client.subscribe(f"closed/{room}")
    assert (await client.event("unsubscribed", f"closed/{room}"))["code"] == 103


async def test_only_members_publish_and_only_if_the_room_class_lets_them(client: SdkClient, room: str):
    with pytest.raises(SdkError) as refused:
        await client.publish(f"open/{room}", "from outside")
    assert refused.value.code == 103
    await client.enter(f"quiet/{room}")
    with pytest.raises(SdkError) as refused:
        await client.publish(f"quiet/{room}", "psst")
    assert refused.value.code == 103


async def test_the_room_class_changes_messages_and_says_why_it_refuses_them(client: SdkClient, room: str):
    await client.enter(f"texts/{room}")
    await client.publish(f"texts/{room}", "hello")
    assert await client.messages(f"texts/{room}", 1) == [{"text": "hello", "by": "alice"}]
    with pytest.raises(SdkError) as refused:
        await client.publish(f"texts/{room}", 1)
    assert (refused.value.code, refused.value.message) == (401, "a message is a text")


async def test_a_client_is_in_many_rooms_on_one_connection(client: SdkClient, here: Running, room: str):
    rooms = [f"kept/{room}-{number}" for number in range(20)]
    await asyncio.gather(*map(client.enter, rooms))
    await asyncio.gather(*(client.publish(each, each) for each in rooms))
    assert [await client.messages(each, 1) for each in rooms] == [[each] for each in rooms]
    await client.unsubscribe(rooms[0])
    await client.event("unsubscribed", rooms[0])
    async with visit(here, rooms[0]) as visitor:
        await visitor.say("without it")
        await visitor.message()
    await client.publish(rooms[1], "last")
    assert await client.messages(rooms[1], 1) == ["last"]
    assert client.has_heard("publication", rooms[0]) == []


async def test_history_is_read_in_pages_forwards_and_backwards(client: SdkClient, room: str):
    room = f"kept/{room}"
    await client.enter(room)
    for number in range(1, 8):
        await client.publish(room, number)
    top = await client.history(room)
    assert (top["publications"], top["offset"]) == ([], 7)

    async def numbers(**options: Any) -> list[int]:
        page = await client.history(room, **options)
        assert (page["offset"], page["epoch"]) == (7, top["epoch"])
        assert [each["offset"] for each in page["publications"]] == [each["data"] for each in page["publications"]]
        return [each["data"] for each in page["publications"]]

    third = {"offset": 3, "epoch": top["epoch"]}
    assert await numbers(limit=-1) == [1, 2, 3, 4, 5, 6, 7]
    assert await numbers(limit=2) == [1, 2]
    assert await numbers(limit=2, since=third) == [4, 5]
    assert await numbers(limit=2, reverse=True) == [7, 6]
    assert await numbers(limit=5, since=third, reverse=True) == [2, 1]
    with pytest.raises(SdkError) as refused:
        await client.history(room, limit=2, since={"offset": 3, "epoch": "other"})
    assert refused.value.code == 112


async def test_a_room_that_keeps_nothing_has_no_history(client: SdkClient, room: str):
    assert not (await client.enter(f"open/{room}"))["recoverable"]
    with pytest.raises(SdkError) as refused:
        await client.history(f"open/{room}", limit=1)
    assert refused.value.code == 108


async def test_who_comes_and_goes_is_told_and_can_be_asked_for(
    client: SdkClient, join: Join, kind: str, here: Running, room: str
):
    room = f"crowd/{room}"
    await client.enter(room, join_leave=True)
    await client.event("join", room, where=lambda said: said["info"]["client"] == client.client)
    alice = {"client": client.client, "user": ALICE, "conn_info": None, "chan_info": None}
    assert await client.presence(room) == {client.client: alice}

    bob = await join(kind, here, token=connection_token(BOB, info={"name": "Bob", "気分": "良い"}))
    await bob.enter(room)
    joined = await client.event("join", room)
    assert joined["info"] == {
        "client": bob.client,
        "user": BOB,
        "conn_info": {"name": "Bob", "気分": "良い"},
        "chan_info": None,
    }
    assert await client.presence(room) == {client.client: alice, bob.client: joined["info"]}
    assert await bob.presence_stats(room) == {"clients": 2, "users": 2}

    async with visit(here, room, "?presence=1", is_signed_in=True, origin=origin_of(here)) as visitor:
        there = await visitor.presence()
        assert {each["user"] for each in there["joined"]} >= {"alice"}
        assert (await client.event("join", room))["info"]["user"] == ALICE
        assert await bob.presence_stats(room) == {"clients": 3, "users": 2}
    assert (await client.event("leave", room))["info"]["user"] == ALICE
    await bob.unsubscribe(room)
    assert (await client.event("leave", room))["info"]["client"] == bob.client
    assert await client.presence_stats(room) == {"clients": 1, "users": 1}
    assert bob.has_heard("join", room) == []


async def test_a_room_without_presence_does_not_tell_who_is_there(client: SdkClient, room: str):
    await client.enter(f"open/{room}", join_leave=True)
    for asking in (client.presence(f"open/{room}"), client.presence_stats(f"open/{room}")):
        with pytest.raises(SdkError) as refused:
            await asking
        assert refused.value.code == 108
