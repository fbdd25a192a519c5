"""Servers that know tokens, and clients of each SDK in each format."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.sdk.clients import SdkClient, ToConnect
from tests.sdk.javascript import JavaScriptClient, NodeProcess, install
from tests.sdk.proxy import Network, network
from tests.sdk.python import PythonClient
from tests.sdk.sites import KINDS, Join, JoinAll, LeadTo, Make, site, url_of
from tests.servers.running import SERVE, Running, Servers

pytest_plugins = ["tests.servers.fixtures"]


@pytest.fixture(scope="session")
def node_process() -> Iterator[NodeProcess]:
    install()
    process = NodeProcess()
    yield process
    process.end()


@pytest.fixture(scope="session")
def here(servers: Servers) -> Iterator[Running]:
    """A server in memory that all tests share; each takes rooms of its own."""
    with servers.new(SERVE, SITE_YAMABIKO=site()) as server:
        yield server


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of client in turn."""
    of: str = request.param
    return of


@pytest.fixture
async def lead_to() -> AsyncIterator[LeadTo]:
    """Make lines to servers that can be cut."""
    async with AsyncExitStack() as stack:

        async def lead(port: int) -> Network:
            return await stack.enter_async_context(network(port))

        yield lead


@pytest.fixture
async def make(node_process: NodeProcess, lead_to: LeadTo) -> AsyncIterator[Make]:
    """Make clients that are not connected yet; they are gone before their lines are."""
    made: list[SdkClient] = []

    def make_one(kind: str, where: Running | Network, **options: Any) -> SdkClient:
        to_connect = ToConnect(url_of(where), **options)
        protobuf = kind.endswith("protobuf")
        client: SdkClient
        if kind.startswith("js"):
            client = JavaScriptClient(to_connect, protobuf=protobuf, process=node_process)
        else:
            client = PythonClient(to_connect, protobuf=protobuf)
        made.append(client)
        return client

    yield make_one
    await asyncio.gather(*(client.disconnect() for client in made))


@pytest.fixture
def join(make: Make) -> Join:
    async def join_one(kind: str, where: Running | Network, **options: Any) -> SdkClient:
        client = make(kind, where, **options)
        await client.connect()
        await client.connected()
        return client

    return join_one


@pytest.fixture
def join_all(join: Join) -> JoinAll:
    """Connect a client of each kind at once, for what would take long if it were done for one after the other."""

    async def join_each(where: Running | Network, **options: Any) -> list[SdkClient]:
        return list(await asyncio.gather(*(join(kind, where, **options) for kind in KINDS)))

    return join_each
