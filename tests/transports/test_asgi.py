"""The portable transport on a server of which we decide when it takes what, and when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.core.fakes import FakeApplication, FakeRules
from yamabiko.brokers.memory import MemoryBroker
from yamabiko.codecs.plain import PLAIN
from yamabiko.core.identity import Identity
from yamabiko.core.messages import Join
from yamabiko.core.node import Node
from yamabiko.transports import outbox
from yamabiko.transports.asgi import serve_room
from yamabiko.transports.limits import Limits
from yamabiko.transports.runtime import AsyncioRuntime

PATIENCE_SECONDS = 5
EXTENSIONS = {"extensions": {"websocket.http.response": {}}}


class Server:
    """An ASGI server's side of one WebSocket."""

    def __init__(self, node: Node) -> None:
        self.connection = node.connect(PLAIN, Identity(user=""))
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.takes = asyncio.Event()
        self.takes.set()
        self.failure: Exception | None = None

    def serve(self, room: str = "room", **scope: Any) -> asyncio.Task[None]:
        limits = Limits(backlog_bytes=1000)
        return asyncio.create_task(
            serve_room(self.connection, Join(room), limits, scope=scope, receive=self.incoming.get, send=self.send)
        )

    async def send(self, message: Any) -> None:
        await self.takes.wait()
        if self.failure is not None:
            raise self.failure
        self.sent.put_nowait(message)

    def hears(self, text: str) -> None:
        self.incoming.put_nowait({"type": "websocket.receive", "text": text})

    def disconnects(self) -> None:
        self.incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})

    async def next(self) -> dict[str, Any]:
        return await asyncio.wait_for(self.sent.get(), PATIENCE_SECONDS)


async def end_of(served: asyncio.Task[None]) -> None:
    # Not wait_for: it cancels what is late, and that would end it too.
    ended, _ = await asyncio.wait({served}, timeout=PATIENCE_SECONDS)
    assert ended, "still being served"
    await served


class WatchedRules(FakeRules):
    def __init__(self) -> None:
        super().__init__()
        self.has_left = asyncio.Event()

    async def on_leave(self, user: object) -> None:
        self.has_left.set()


@pytest.fixture
def rules() -> WatchedRules:
    return WatchedRules()


@pytest.fixture
async def node(rules: WatchedRules) -> AsyncIterator[Node]:
    runtime = AsyncioRuntime()
    node = Node(MemoryBroker(), FakeApplication({"room": rules}), runtime)
    yield node
    await runtime.finished(within_seconds=PATIENCE_SECONDS)
    assert not node.connections
    assert not node.hub.rooms


@pytest.fixture
def server(node: Node) -> Server:
    return Server(node)


async def test_a_peer_that_leaves_while_it_joins_is_in_no_room(server: Server):
    server.failure = OSError("gone")
    await end_of(server.serve())


async def test_a_peer_that_leaves_before_it_is_refused_troubles_nobody(server: Server):
    server.failure = OSError("gone")
    await end_of(server.serve("nobody declared this", **EXTENSIONS))


async def test_a_refusal_has_a_status_and_a_body_where_the_server_can(server: Server):
    await end_of(server.serve("nobody declared this", **EXTENSIONS))
    assert (await server.next())["status"] == 404
    assert b'"code":102' in (await server.next())["body"]


async def test_a_refusal_is_a_close_where_the_server_cannot(server: Server):
    await end_of(server.serve("nobody declared this"))
    assert (await server.next())["type"] == "websocket.close"


async def test_a_peer_that_is_gone_when_it_is_written_to_leaves(server: Server):
    served = server.serve()
    await server.next()
    server.failure = RuntimeError("as some servers say it")
    server.hears("hello")
    server.disconnects()
    await end_of(served)


@pytest.mark.parametrize(("scope", "code"), [(EXTENSIONS, 1009), ({}, 3501)], ids=["most servers", "Daphne"])
async def test_our_close_ends_it_though_the_server_does_not_tell_of_it(
    server: Server, scope: dict[str, Any], code: int
):
    served = server.serve(**scope)
    await server.next()
    server.hears("x" * 70_000)
    assert await server.next() == {"type": "websocket.close", "code": code, "reason": "message too big"}
    await end_of(served)


async def test_a_server_that_takes_nothing_is_written_no_more_than_the_backlog(
    server: Server, node: Node, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(outbox, "CLOSE_SECONDS", 0.01)
    served = server.serve()
    await server.next()
    server.takes.clear()
    for _ in range(20):
        await node.publish("room", b'"' + b"x" * 100 + b'"')
    await end_of(served)
    assert not server.connection.is_open


async def test_a_slow_peer_that_reads_on_is_told_why_it_is_closed(server: Server, node: Node, rules: WatchedRules):
    served = server.serve()
    await server.next()
    server.takes.clear()
    for _ in range(20):
        await node.publish("room", b'"' + b"x" * 100 + b'"')
    await asyncio.wait_for(rules.has_left.wait(), PATIENCE_SECONDS)
    server.takes.set()
    while (message := await server.next())["type"] == "websocket.send":
        pass
    assert message == {"type": "websocket.close", "code": 3008, "reason": "slow"}
    await end_of(served)


async def test_the_server_may_cancel_it(server: Server):
    served = server.serve()
    await server.next()
    served.cancel()
    with pytest.raises(asyncio.CancelledError):
        await end_of(served)
    assert not server.connection.is_open
