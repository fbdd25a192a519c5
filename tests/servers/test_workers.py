"""`yamabiko serve --workers N`: several processes on one port, whose rooms are the same rooms."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.redis_server import RedisServer
from tests.redis_server import redis_server as redis_server
from tests.servers.running import PATIENCE_SECONDS, SERVE, Running, Servers, start
from tests.servers.visitors import Visitor, get, visit

pytest_plugins = ["tests.servers.fixtures"]
pytestmark = pytest.mark.server


@pytest.fixture
def two(servers: Servers, redis_server: RedisServer) -> Iterator[Running]:
    """Two processes on one port, with a broker that both can use."""
    broker = json.dumps({"BROKER": redis_server.url})
    with servers.new(SERVE, "--workers", "2", SITE_YAMABIKO=broker) as server:
        yield server


async def pids(server: Running) -> set[int]:
    """Ask who answers until all workers have; the kernel spreads connections over them."""
    seen: set[int] = set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(seen) < 2:
            seen.add(json.loads((await get(server, "/pid/"))[1]))
    return seen


def owner_of(visitor: Visitor, pids: set[int]) -> int:
    """Return which process has the other end of a visitor's socket."""
    ours = visitor.link.transport.get_extra_info("sockname")[1]
    return next(
        pid
        for pid in pids
        for link in psutil.Process(pid).net_connections("tcp")
        if link.raddr and link.raddr.port == ours
    )


async def visitors_of_both(stack: AsyncExitStack, server: Running, room: str) -> dict[int, Visitor]:
    """Let visitors in until both processes have one; return one of each."""
    workers = await pids(server)
    owned: dict[int, Visitor] = {}
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(owned) < 2:
            visitor = await stack.enter_async_context(visit(server, room))
            owned[owner_of(visitor, workers)] = visitor
    return owned


@pytest.mark.redis
async def test_a_room_is_the_same_in_every_process(two: Running, room: str):
    async with AsyncExitStack() as stack:
        first, second = (await visitors_of_both(stack, two, f"kept/{room}")).values()
        await first.say("from the first")
        assert await second.message() == "from the first"
        await second.say("from the second")
        assert await first.messages(2) == ["from the first", "from the second"]


@pytest.mark.redis
async def test_a_process_that_dies_is_replaced_and_the_others_go_on(two: Running, room: str):
    async with AsyncExitStack() as stack:
        owned = await visitors_of_both(stack, two, f"kept/{room}")
        (dying, _), (living, witness) = owned.items()
        os.kill(dying, signal.SIGKILL)
        two.line(rf"process {dying} ended")
        await witness.say("still here")
        assert await witness.message() == "still here"
        assert living in await pids(two)


@pytest.mark.redis
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_all_end_together_and_say_goodbye(two: Running, room: str, number: int):
    async with AsyncExitStack() as stack:
        owned = await visitors_of_both(stack, two, f"kept/{room}")
        two.signal(number)
        for visitor in owned.values():
            assert await visitor.closed() == (3001, "shutdown")
        assert await asyncio.to_thread(two.wait) == 0
        assert not [pid for pid in owned if psutil.pid_exists(pid)]


@pytest.mark.redis
async def test_workers_do_not_outlive_a_parent_that_is_killed(two: Running):
    workers = [psutil.Process(pid) for pid in await pids(two)]
    two.signal(signal.SIGKILL)
    gone, alive = await asyncio.to_thread(psutil.wait_procs, workers, PATIENCE_SECONDS)
    assert (len(gone), alive) == (2, [])


@pytest.mark.parametrize("broker", ["memory://", "sqlite:///rooms.sqlite3", "channels://default"])
def test_a_broker_that_one_process_has_to_itself_is_refused_in_one_line(tmp_path: Path, broker: str):
    server = start(
        SERVE, "--workers", "2", cwd=tmp_path, SITE_DATABASE=":memory:", SITE_YAMABIKO=json.dumps({"BROKER": broker})
    )
    try:
        assert server.wait() == 1
        (line,) = server.printed
        assert "2 processes cannot share" in line
        assert broker.partition("/")[0] in line
        assert "redis://" in line
    finally:
        server.end()


@pytest.mark.redis
def test_workers_that_cannot_start_end_the_server_instead_of_being_replaced(
    servers: Servers, redis_server: RedisServer, tmp_path: Path
):
    (tmp_path / "failing.py").write_text(
        "async def application(scope, receive, send):\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'as asked'})\n"
    )
    kind = replace(SERVE, arguments=("-m", "yamabiko", "serve", "failing:application", "--port", "0"))
    server = start(kind, "--workers", "2", cwd=tmp_path, SITE_DATABASE=":memory:")
    try:
        assert server.wait() == 3
        assert any("as asked" in line for line in server.printed)
    finally:
        server.end()
