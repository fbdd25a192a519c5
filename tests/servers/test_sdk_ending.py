"""A socket that is gone is out of its rooms at once, whatever it was waiting for."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest
from websockets.asyncio.client import connect

from tests.servers.running import PATIENCE_SECONDS, SERVE, Servers
from tests.servers.visitors import visit

pytest_plugins = ["tests.servers.fixtures"]
pytestmark = pytest.mark.server


async def test_calls_that_take_long_keep_nobody_in_a_room(servers: Servers, room: str) -> None:
    server = servers[SERVE]
    url = f"ws://127.0.0.1:{server.port}/connection/websocket"
    async with visit(server, f"crowd/{room}", "?presence=1") as watcher:
        await watcher.presence()
        caller = await connect(url)
        commands = [{"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": f"crowd/{room}"}}]
        await caller.send("\n".join(map(json.dumps, commands)))
        assert "joined" in await watcher.presence()
        waiting = {"method": "wait_at", "data": {"gate": room}}
        for number in range(6):
            await caller.send(json.dumps({"id": 3 + number, "rpc": waiting}))
        await caller.send(json.dumps({"id": 9, "publish": {"channel": f"crowd/{room}", "data": "after the calls"}}))
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for frame in caller:
                if '"id":2' in frame:
                    break
        reset(caller.transport.get_extra_info("socket"))
        caller.transport.abort()
        assert "left" in await watcher.presence()


def reset(connection: socket.socket) -> None:
    """End it as a peer that is lost ends."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
