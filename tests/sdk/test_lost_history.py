"""Redis loses what it has kept: clients are told that something is missing, and go on from there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.redis_server import RedisServer
from tests.redis_server import redis_server as redis_server
from tests.sdk.sites import JoinAll, serving, site
from tests.sdk.tokens import ALICE, connection_token
from tests.servers.running import PATIENCE_SECONDS, Servers
from tests.servers.visitors import Visitor, visit

pytest_plugins = ["tests.sdk.fixtures"]
pytestmark = [pytest.mark.server, pytest.mark.redis]


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[RedisServer]:
    """A Redis that a test may stop."""
    yield redis_server
    if not redis_server.is_running:
        redis_server.start()


async def say_until_accepted(visitor: Visitor, message: str) -> None:
    """Say it again and again under one id, as a client of the room protocol does."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            await visitor.say(message, message)
            while not {"ack", "error"} & (frame := await visitor.hear()).keys():
                pass
            if "ack" in frame:
                return


async def test_members_subscribe_again_and_those_whom_the_server_had_put_in_connect_again(
    servers: Servers, join_all: JoinAll, redis: RedisServer, room: str
):
    own, given = f"kept/{room}", f"kept/{room}-given"
    settings = site(BROKER=redis.url, BROKER_TIMEOUT_SECONDS=0.5)
    async with (
        serving(servers, settings) as server,
        visit(server, own) as in_own,
        visit(server, given) as in_given,
    ):
        members = await join_all(server, token=connection_token(ALICE))
        for client in members:
            await client.enter(own)
        put_in = await join_all(server, token=connection_token(ALICE, channels=[given]))
        for client in put_in:
            await client.event("subscribed", given)
        await in_own.say("before")
        await in_given.say("before")
        for client in members:
            assert await client.messages(own, 1) == ["before"]
        for client in put_in:
            assert await client.messages(given, 1) == ["before"]

        redis.stop()
        redis.start()
        await say_until_accepted(in_own, "after")
        await say_until_accepted(in_given, "after")
        for client in members:
            told = await client.event("subscribing", own, where=lambda said: said["code"] > 1)
            assert (told["code"], told["reason"]) == (2500, "insufficient state")
            again = await client.event("subscribed", own)
            assert (again["was_recovering"], again["recovered"]) == (True, False)
            assert len(client.has_heard("connecting")) == 1
        for client in put_in:
            told = await client.event("connecting", where=lambda said: said["code"] > 1)
            assert (told["code"], told["reason"]) == (3010, "insufficient state")
            again = await client.event("subscribed", given)
            assert (again["was_recovering"], again["recovered"]) == (True, False)
        await say_until_accepted(in_own, "later")
        await say_until_accepted(in_given, "later")
        for client in members:
            await client.event("publication", own, where=lambda said: said["data"] == "later")
        for client in put_in:
            await client.event("publication", given, where=lambda said: said["data"] == "later")
