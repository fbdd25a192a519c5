"""What the application does with a user's connections: it sends, takes in, puts out and disconnects."""

from __future__ import annotations

import pytest

from tests.sdk.clients import SdkClient
from tests.sdk.sites import Join
from tests.sdk.tokens import ALICE, BOB, connection_token
from tests.servers.running import Running
from tests.servers.visitors import visit

pytest_plugins = ["tests.sdk.fixtures"]
pytestmark = pytest.mark.server


@pytest.fixture
async def staff(join: Join, here: Running) -> SdkClient:
    """Who tells the application what to do."""
    return await join("python-json", here)


@pytest.fixture
async def alice(join: Join, kind: str, here: Running) -> SdkClient:
    return await join(kind, here, token=connection_token(ALICE))


@pytest.fixture
async def bystander(join: Join, kind: str, here: Running) -> SdkClient:
    return await join(kind, here, token=connection_token(BOB))


async def test_a_user_is_sent_something_outside_of_rooms(
    staff: SdkClient, alice: SdkClient, bystander: SdkClient, kind: str
):
    await staff.rpc("send_to", {"to": ALICE, "client": "", "data": {"text": "山彦"}})
    if kind.startswith("js"):  # the Python SDK passes over what it has no event for
        assert (await alice.event("message"))["data"] == {"text": "山彦"}
    assert await alice.rpc("whoami") == "alice"
    await bystander.rpc("whoami")
    assert bystander.has_heard("message") == []


async def test_one_connection_of_a_user_is_disconnected_for_good_and_the_other_stays(
    staff: SdkClient, alice: SdkClient, join: Join, kind: str, here: Running
):
    other = await join(kind, here, token=connection_token(ALICE))
    await staff.rpc("disconnect", {"who": ALICE, "client": alice.client})
    ended = await alice.event("disconnected")
    assert (ended["code"], ended["reason"]) == (3503, "as asked")
    assert await other.rpc("whoami") == "alice"


async def test_a_user_who_is_to_come_back_comes_back(staff: SdkClient, alice: SdkClient, bystander: SdkClient):
    await staff.rpc("disconnect", {"who": ALICE, "client": "", "code": 4000})
    ended = await alice.event("connecting", where=lambda said: said["code"] > 1)
    assert (ended["code"], ended["reason"]) == (4000, "as asked")
    await alice.connected()
    assert await alice.rpc("whoami") == "alice"
    assert len(bystander.has_heard("connecting")) == 1


async def test_a_user_is_put_into_a_room_and_taken_out_of_it(
    staff: SdkClient, alice: SdkClient, bystander: SdkClient, here: Running, room: str
):
    room = f"kept/{room}"
    async with visit(here, room) as visitor:
        await visitor.say("before")
        await visitor.message()
        await staff.rpc("put_into", {"who": ALICE, "client": alice.client, "room": room})
        said = await alice.event("subscribed", room)
        assert (said["data"], said["position"]["offset"]) == ({"welcome": room}, 1)
        await visitor.say("hello")
        assert await alice.messages(room, 1) == ["hello"]
        await staff.rpc("take_out", {"who": ALICE, "client": alice.client, "room": room})
        await alice.event("unsubscribed", room)
        await visitor.say("without her")
        await visitor.messages(2)
    assert await alice.rpc("whoami") == "alice"
    assert alice.has_heard("publication", room) == []
    assert bystander.has_heard("subscribed", room) == []


async def test_a_user_is_taken_out_of_a_room_that_she_joined_herself(
    staff: SdkClient, alice: SdkClient, bystander: SdkClient, room: str
):
    room = f"kept/{room}"
    await alice.enter(room)
    await bystander.enter(room)
    await staff.rpc("take_out", {"who": ALICE, "client": "", "room": room})
    ended = await alice.event("unsubscribed", room)
    assert (ended["code"], ended["reason"]) == (2000, "server unsubscribe")
    await bystander.publish(room, "still here")
    assert await bystander.messages(room, 1) == ["still here"]
    await alice.enter(room)
    assert await alice.messages(room, 1) == ["still here"]
