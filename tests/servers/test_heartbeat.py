"""Who is silent is pinged, and closed if it stays silent."""

from __future__ import annotations

import asyncio
import json

import pytest
from websockets.frames import Opcode

from tests.servers.running import PATIENCE_SECONDS, SERVE, Servers
from tests.servers.visitors import visit

pytest_plugins = ["tests.servers.fixtures"]
pytestmark = pytest.mark.server

QUICKLY = json.dumps({"PING_INTERVAL_SECONDS": 2, "PONG_TIMEOUT_SECONDS": 1})


async def test_a_silent_peer_is_closed_with_3012_and_one_that_answers_pings_is_not(servers: Servers, room: str):
    async with (
        servers.meanwhile(SERVE, SITE_YAMABIKO=QUICKLY) as server,
        visit(server, f"crowd/{room}", "?presence=1") as answering,
    ):
        pings = answering.received(Opcode.PING)
        await answering.presence()
        async with visit(server, f"crowd/{room}") as silent:
            silent.stop_reading()
            assert "joined" in await answering.presence()
            assert "left" in await answering.presence()
            silent.read_on()
            assert await silent.closed() == (3012, "no pong")
        async with asyncio.timeout(PATIENCE_SECONDS):
            for _ in range(3):
                await pings.get()
        await answering.is_live()
