"""Fixtures for tests against real servers; a test module asks for them with `pytest_plugins`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.running import KINDS, RUNSERVER, SERVE, Kind, Running, Servers


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    servers = Servers(tmp_path_factory.mktemp("site") / "db.sqlite3")
    try:
        yield servers
    finally:
        servers.end()


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def server(request: pytest.FixtureRequest, servers: Servers) -> Running:
    """Each server in turn; it is shared, so a test takes rooms of its own."""
    return servers[request.param]


@pytest.fixture(params=[SERVE, RUNSERVER], ids=lambda kind: kind.name)
def our_kind(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


@pytest.fixture
def room(request: pytest.FixtureRequest) -> str:
    """The rest of a room's name that no other test uses."""
    return request.node.name
