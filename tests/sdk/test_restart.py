"""A server on sqlite:// ends, with or without a word, and another one takes its place: its clients go on there."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.sdk.clients import SdkClient
from tests.sdk.proxy import Network
from tests.sdk.sites import JoinAll, LeadTo, serving, site
from tests.sdk.tokens import ALICE, connection_token
from tests.servers.running import PATIENCE_SECONDS, Running, Servers
from tests.servers.visitors import visit

pytest_plugins = ["tests.sdk.fixtures"]
pytestmark = pytest.mark.server


async def go_on(clients: list[SdkClient], line: Network, server: Running, room: str, news: list[int]) -> None:
    """Have all clients find a new server, where something was said before they came, and something after."""
    async with visit(server, room) as visitor:
        for message in news:
            await visitor.say(message)
        assert await visitor.messages(len(news)) == news
        line.mend(server.port)
        for client in clients:
            again = await client.event("subscribed", room)
            assert (again["was_recovering"], again["recovered"]) == (True, True)
        await visitor.say("all are back")
        for client in clients:
            assert await client.messages(room, len(news) + 1) == [*news, "all are back"]
            assert client.has_heard("publication", room) == []


async def test_clients_go_on_after_a_stop_and_after_a_kill(
    servers: Servers, join_all: JoinAll, lead_to: LeadTo, tmp_path: Path, room: str
):
    settings = site(BROKER=f"sqlite:///{tmp_path / 'rooms.sqlite3'}")
    room = f"kept/{room}"
    async with serving(servers, settings) as first:
        line = await lead_to(first.port)
        clients = await join_all(line, token=connection_token(ALICE))
        await asyncio.gather(*(client.enter(room) for client in clients))
        await clients[0].publish(room, 0)
        assert [await client.messages(room, 1) for client in clients] == [[0]] * len(clients)

        line.is_cut = True  # to those who come again
        first.signal(signal.SIGTERM)
        for client in clients:
            told = await client.event("connecting", where=lambda said: said["code"] > 1)
            assert (told["code"], told["reason"]) == (3001, "shutdown")
        await asyncio.to_thread(first.wait)
        async with serving(servers, settings) as second:
            await go_on(clients, line, second, room, [1, 2, 3])

            line.is_cut = True
            second.signal(signal.SIGKILL)
            await asyncio.to_thread(second.process.wait, PATIENCE_SECONDS)
        async with serving(servers, settings) as third:
            await go_on(clients, line, third, room, [4, 5, 6])
