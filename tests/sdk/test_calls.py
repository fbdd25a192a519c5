"""Clients call the server: functions, and methods of the rooms they are in."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.sdk.clients import SdkClient, SdkError
from tests.sdk.sites import Join
from tests.sdk.tokens import ALICE, connection_token
from tests.servers.running import Running

pytest_plugins = ["tests.sdk.fixtures"]
pytestmark = pytest.mark.server


@pytest.fixture
async def client(join: Join, kind: str, here: Running) -> SdkClient:
    return await join(kind, here, token=connection_token(ALICE))


async def test_arguments_go_by_name_and_what_is_returned_comes_back(client: SdkClient):
    assert await client.rpc("add", {"first": 2, "second": 3}) == 5
    assert await client.rpc("add", {"first": 2}) == 3
    assert await client.rpc("whoami", {}) == "alice"
    assert await client.rpc("whoami") == "alice"


REFUSED = {
    "a wrong type": ("add", {"first": "2"}, 107, "first"),
    "one too few": ("add", {}, 107, "first"),
    "one too many": ("add", {"first": 1, "third": 3}, 107, "third"),
    "no object": ("add", [1, 2], 107, "add takes"),
    "no such function": ("multiply", {}, 104, "multiply"),
    "what the function refuses": ("decline", {}, 418, "not today"),
    "a function that fails": ("fail", {}, 100, "internal server error"),
    "a room that it is not in": ("desk/elsewhere:ring", {}, 103, "desk/elsewhere"),
}


@pytest.mark.parametrize(("method", "data", "code", "part"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_call_is_refused_with_its_code(client: SdkClient, method: str, data: Any, code: int, part: str):
    with pytest.raises(SdkError) as refused:
        await client.rpc(method, data)
    assert refused.value.code == code
    assert part in refused.value.message
    assert await client.rpc("add", {"first": 1}) == 2


async def test_members_call_methods_of_their_room(client: SdkClient, room: str):
    room = f"desk/{room.replace(':', ' ')}"
    await client.enter(room)
    assert await client.rpc(f"{room}:ring", {"times": 3}) == {"room": room, "by": "alice", "times": 3}
    with pytest.raises(SdkError) as refused:
        await client.rpc(f"{room}:can_join", {})
    assert refused.value.code == 104


async def test_slow_calls_hold_nothing_up(client: SdkClient, room: str):
    await client.enter(f"kept/{room}")
    slow = [asyncio.create_task(client.rpc("wait_at", {"gate": room})) for _ in range(3)]
    await client.publish(f"kept/{room}", "meanwhile")
    assert await client.messages(f"kept/{room}", 1) == ["meanwhile"]
    assert await client.rpc("add", {"first": 1}) == 2
    assert not any(call.done() for call in slow)
    await client.rpc("open_gate", {"gate": room})
    assert await asyncio.gather(*slow) == ["through"] * 3
