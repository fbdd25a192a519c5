"""A real server whose Redis stops, hangs and comes back: sockets stay, and what was said is found again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
from redis.asyncio import Redis

from tests.redis_server import RedisServer
from tests.redis_server import redis_server as redis_server
from tests.servers.running import PATIENCE_SECONDS, SERVE, Running, Servers
from tests.servers.visitors import Visitor, visit

pytest_plugins = ["tests.servers.fixtures"]
pytestmark = [pytest.mark.server, pytest.mark.redis]


@pytest.fixture
def ours(servers: Servers, redis_server: RedisServer) -> Iterator[Running]:
    broker = json.dumps({"BROKER": redis_server.url, "BROKER_TIMEOUT_SECONDS": 0.5})
    with servers.new(SERVE, SITE_YAMABIKO=broker) as server:
        yield server
    if not redis_server.is_running:
        redis_server.start()


async def refused(visitor: Visitor, message: object, publication_id: str) -> dict[str, object]:
    await visitor.say(message, publication_id)
    return await visitor.error()


async def accepted(visitor: Visitor, message: object, publication_id: str) -> None:
    """Say it again and again under one id until it is acknowledged, as a client does."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            await visitor.say(message, publication_id)
            while True:
                frame = await visitor.hear()
                if "ack" in frame or "error" in frame:
                    break
            if "ack" in frame:
                return


async def test_while_redis_is_away_publishing_is_refused_and_sockets_stay(
    ours: Running, redis_server: RedisServer, room: str
):
    async with visit(ours, f"kept/{room}") as visitor:
        await visitor.say("before")
        assert await visitor.message() == "before"
        redis_server.stop()
        error = await refused(visitor, "during", "one")
        assert (error["code"], error["id"]) == (100, "one")
        redis_server.start()
        await accepted(visitor, "during", "one")


async def test_what_redis_has_lost_is_told_as_a_gap_and_the_room_goes_on(
    ours: Running, redis_server: RedisServer, room: str
):
    async with visit(ours, f"kept/{room}") as speaker, visit(ours, f"kept/{room}") as listener:
        await speaker.say("before")
        before = await listener.payload()
        redis_server.stop()
        redis_server.start()
        await accepted(speaker, "after", "one")
        gap = await listener.hear()
        assert list(gap) == ["gap"]
        assert gap["gap"]["epoch"] != before["epoch"]
        assert await listener.message() == "after"


async def test_what_was_said_while_redis_did_not_deliver_comes_in_order(
    ours: Running, redis_server: RedisServer, servers: Servers, room: str
):
    """The feed is cut on Redis' side, and somebody else publishes before it is taken up again."""
    async with visit(ours, f"kept/{room}") as listener:
        await listener.say("before")
        assert await listener.message() == "before"
        async with (
            Redis.from_url(redis_server.url) as redis,
            servers.meanwhile(SERVE, SITE_YAMABIKO=json.dumps({"BROKER": redis_server.url})) as other,
            visit(other, f"kept/{room}") as speaker,
        ):
            for number in range(5):
                await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                await accepted(speaker, number, f"id{number}")
        assert await listener.messages(5) == list(range(5))
