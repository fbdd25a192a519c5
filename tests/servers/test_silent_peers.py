"""Who is silent is pinged, and closed if it stays silent; who takes nothing of what it is sent is closed too."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest
from websockets.frames import Opcode

from tests.servers.running import HYPERCORN, PATIENCE_SECONDS, SERVE, UVICORN, Kind, Servers
from tests.servers.visitors import Visitor, visit

pytest_plugins = ["tests.servers.fixtures"]
pytestmark = pytest.mark.server

BIG = "x" * 60_000
MANY = 120
"""More of the big ones than the kernel takes for a peer that does not read."""
SIPS, SIP_SECONDS = 14, 0.25
"""What a slow reader takes in longer than the write timeout, and what waits for it meanwhile is more."""
TAKING = json.dumps({"WRITE_TIMEOUT_SECONDS": 1, "MAX_BACKLOG_BYTES": 100_000_000})
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


@pytest.mark.parametrize("kind", [SERVE, UVICORN, HYPERCORN], ids=lambda kind: kind.name)
async def test_a_peer_that_takes_nothing_for_the_write_timeout_is_closed_with_3009(
    servers: Servers, kind: Kind, room: str
):
    async with (
        servers.meanwhile(kind, SITE_YAMABIKO=TAKING) as server,
        visit(server, f"crowd/{room}", "?presence=1") as watcher,
    ):
        await watcher.presence()
        async with visit(server, f"crowd/{room}", receive_bytes=4096) as stalled:
            await watcher.presence()
            stalled.stop_reading()
            for _ in range(MANY):
                await watcher.say(BIG)
            for _ in range(MANY):
                if "presence" in (frame := await watcher.hear()):
                    break
            else:
                frame = await watcher.hear()
            assert "left" in frame["presence"]
            stalled.read_on()
            assert await stalled.closed() == (3009, "write error")


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells what a peer takes of what the kernel holds")
@pytest.mark.parametrize("kind", [SERVE, UVICORN], ids=lambda kind: kind.name)
async def test_a_peer_that_reads_slowly_is_waited_for(servers: Servers, kind: Kind, room: str):
    async with (
        servers.meanwhile(kind, SITE_YAMABIKO=TAKING) as server,
        visit(server, f"crowd/{room}") as talker,
        visit(server, f"crowd/{room}", receive_bytes=4096) as slow,
    ):
        slow.stop_reading()
        async with asyncio.TaskGroup() as both:
            both.create_task(say_many(talker))
            for _ in range(SIPS):
                slow.read_on()
                assert await slow.message() == BIG
                slow.stop_reading()
                await asyncio.sleep(SIP_SECONDS)
        slow.read_on()
        assert await slow.messages(MANY - SIPS) == [BIG] * (MANY - SIPS)
        await slow.is_live()


async def say_many(talker: Visitor) -> None:
    for _ in range(MANY):
        await talker.say(BIG)
        await talker.message()
