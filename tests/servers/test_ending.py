"""A server that stops: its members are told to come back, and it ends by itself."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from contextlib import AsyncExitStack, closing

import pytest

from tests.servers.running import RUNSERVER, SERVE, Kind, Running, Servers
from tests.servers.visitors import visit

pytest_plugins = ["tests.servers.fixtures"]
pytestmark = pytest.mark.server


async def seconds_to_end(server: Running) -> float:
    """Wait until a server that was told to stop has done so, without a complaint."""
    began = time.monotonic()
    await asyncio.to_thread(server.wait)
    assert not [line for line in server.printed if "Traceback" in line or "ERROR" in line], "\n".join(server.printed)
    return time.monotonic() - began


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_members_are_closed_with_3001_and_the_server_ends(
    our_kind: Kind, servers: Servers, room: str, number: signal.Signals
):
    async with servers.meanwhile(our_kind) as server, AsyncExitStack() as stack:
        members = [await stack.enter_async_context(visit(server, f"kept/{room}")) for _ in range(250)]
        await members[0].is_live()
        server.signal(number)
        for member in members:
            assert await member.closed() == (3001, "shutdown")
        assert await seconds_to_end(server) < 5


async def test_members_that_do_not_answer_are_not_waited_for_long(servers: Servers, room: str):
    async with (
        servers.meanwhile(SERVE) as server,
        visit(server, f"open/{room}") as polite,
        visit(server, f"open/{room}") as rude,
    ):
        await polite.is_live()
        await rude.is_live()
        rude.stop_reading()
        server.signal(signal.SIGTERM)
        assert await polite.closed() == (3001, "shutdown")
        assert await seconds_to_end(server) < 15
        rude.reset()


async def test_runserver_waits_even_less_for_them(servers: Servers, room: str):
    async with servers.meanwhile(RUNSERVER) as server, visit(server, f"open/{room}") as rude:
        await rude.is_live()
        rude.stop_reading()
        server.signal(signal.SIGINT)
        assert await seconds_to_end(server) < 6
        rude.reset()


async def test_a_handler_that_never_returns_does_not_keep_the_server_from_ending(servers: Servers, room: str):
    async with servers.meanwhile(RUNSERVER) as server, visit(server, f"gate/{room}") as stuck:
        await stuck.send("wait")
        await stuck.has_been_read()
        server.signal(signal.SIGTERM)
        assert await stuck.closed() == (3001, "shutdown")
        assert await seconds_to_end(server) < 10


async def test_requests_under_way_are_waited_for_no_longer_than_is_set(servers: Servers):
    async with servers.meanwhile(SERVE, SITE_YAMABIKO=json.dumps({"SHUTDOWN_TIMEOUT_SECONDS": 0.3})) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        with closing(writer):
            writer.write(b"GET /endless/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            await reader.readuntil(b"on")
            server.signal(signal.SIGTERM)
            began = time.monotonic()
            await asyncio.to_thread(server.wait)
        assert time.monotonic() - began < 10
        assert any("timeout graceful shutdown exceeded" in line for line in server.printed)
