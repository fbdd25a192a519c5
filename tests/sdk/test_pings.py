"""The server asks whether clients are there: those who answer stay, and those who do not are closed, and come back."""

from __future__ import annotations

import asyncio

import pytest

from tests.sdk.sites import KINDS, Join, LeadTo, serving, site
from tests.servers.running import Servers

pytest_plugins = ["tests.sdk.fixtures"]
pytestmark = pytest.mark.server


async def test_who_answers_pings_stays_and_who_does_not_is_closed(servers: Servers, join: Join, lead_to: LeadTo):
    async def answer_and_fall_silent(kind: str, port: int) -> None:
        line = await lead_to(port)
        client = await join(kind, line)
        await line.client_has_spoken(2)  # nobody says anything but pongs
        assert client.has_heard("disconnected") == []
        assert len(client.has_heard("connecting")) == 1
        line.silence_clients()
        closed = await client.event("connecting", where=lambda said: said["code"] > 1)
        assert (closed["code"], closed["reason"]) == (3012, "no pong")
        line.let_clients_speak()
        await client.connected()
        assert await client.rpc("whoami") == ""

    async with serving(servers, site(PING_INTERVAL_SECONDS=2, PONG_TIMEOUT_SECONDS=1)) as server:
        await asyncio.gather(*(answer_and_fall_silent(kind, server.port) for kind in KINDS))
