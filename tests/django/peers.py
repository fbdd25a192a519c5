"""Peers at the application's door: handshakes made by hand, and members that stay."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator

PATIENCE_SECONDS = 10

Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """The answer to a handshake: 101 let the peer in, any other status came with an error."""

    status: int
    error: dict[str, Any]


def socket_scope(
    path: str = "/rooms/open/porch/", headers: Headers = (), *, host: str | None = "testserver", **changes: Any
) -> dict[str, Any]:
    """Return the scope of a handshake, from a program (no Origin). `host` is left out where `headers` have one."""
    given = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    if host is not None and not any(name == b"host" for name, _ in given):
        given.append((b"host", host.encode()))
    return {
        "type": "websocket",
        "scheme": "ws",
        "path": path,
        "query_string": b"",
        "headers": given,
        "client": ("192.0.2.7", 4711),
        "server": ("127.0.0.1", 80),
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
    } | changes


class Peer(ApplicationCommunicator):
    """A socket of which the test is the other end."""

    async def receive_output(self, timeout: float = PATIENCE_SECONDS) -> Any:
        """Return what the application sends next; where it has ended instead, raise at once what ended it."""
        output = asyncio.ensure_future(self.output_queue.get())
        await asyncio.wait({output, self.future}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if not output.done():
            output.cancel()
            self.future.result()
            raise AssertionError("the application ended without another word")
        return output.result()

    async def knock(self) -> Answer:
        await self.send_input({"type": "websocket.connect"})
        first = await self.receive_output()
        if first["type"] == "websocket.accept":
            return Answer(101, {})
        body = await self.receive_output()
        await self.wait(PATIENCE_SECONDS)
        return Answer(first["status"], json.loads(body["body"])["error"])

    async def join(self) -> Peer:
        answer = await self.knock()
        assert answer.status == 101, answer
        return self

    async def hear(self) -> Any:
        """Return what the next frame says."""
        sent = await self.receive_output()
        assert sent["type"] == "websocket.send", sent
        return json.loads(sent["text"])

    async def hear_message(self) -> Any:
        return (await self.hear())["payload"]["message"]

    async def say(self, text: str) -> None:
        await self.send_input({"type": "websocket.receive", "text": text})

    async def leave(self) -> None:
        await self.send_input({"type": "websocket.disconnect", "code": 1000})
        await self.wait(PATIENCE_SECONDS)


async def aknock(application: Any, path: str = "/rooms/open/porch/", headers: Headers = (), **changes: Any) -> Answer:
    """Make a handshake; whoever is let in leaves at once."""
    peer = Peer(application, socket_scope(path, headers, **changes))
    answer = await peer.knock()
    if answer.status == 101:
        await peer.leave()
    return answer


# Synchronous on purpose: queries of the handshake then run in the test's own thread and transaction.
knock = async_to_sync(aknock)
