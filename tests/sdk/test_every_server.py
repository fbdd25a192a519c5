"""The SDKs against every ASGI server that we know: subprotocols, frames of both kinds, and closes that are told."""

from __future__ import annotations

import asyncio

import pytest

from tests.sdk.sites import KINDS, JoinAll, Make
from tests.servers.running import Running

pytest_plugins = ["tests.sdk.fixtures"]
pytestmark = pytest.mark.server


async def test_clients_of_each_kind_hear_each_other(join_all: JoinAll, server: Running, room: str):
    room = f"kept/{room}"
    clients = await join_all(server)
    await asyncio.gather(*(client.enter(room) for client in clients))
    for kind, client in zip(KINDS, clients, strict=True):
        await client.publish(room, {"山彦": kind})
    for client in clients:
        assert await client.messages(room, len(clients)) == [{"山彦": kind} for kind in KINDS]


async def test_clients_of_each_kind_know_when_not_to_come_again(make: Make, server: Running):
    clients = [make(kind, server, token="worth nothing") for kind in KINDS]
    await asyncio.gather(*(client.connect() for client in clients))
    for client in clients:
        ended = await client.event("disconnected")
        assert (ended["code"], ended["reason"]) == (3500, "invalid token")
