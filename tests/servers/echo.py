"""Sockets that say back what they hear: one of an ordinary ASGI application, one adopted by our server."""

from __future__ import annotations

from typing import Any

from yamabiko.core.errors import Close
from yamabiko.core.frames import Frame
from yamabiko.transports.asgi import ADOPT
from yamabiko.transports.limits import Limits
from yamabiko.transports.pulse import pulse
from yamabiko.transports.runtime import AsyncioRuntime

LIMITS = Limits(message_bytes=1_000_000)


class Echo:
    """Stands where a Connection stands."""

    node = AsyncioRuntime()

    def __init__(self) -> None:
        self.is_open = True
        self.transport: Any = None

    def receive_at_once(self, payload: str | bytes) -> bool:
        return False

    async def receive(self, payload: str | bytes) -> None:
        if isinstance(payload, str):
            self.transport.write(Frame(payload.encode()))
        else:
            self.transport.write(Frame(payload, is_text=False))

    def close(self, close: Close) -> None:
        self.closed()
        self.transport.close(close)

    is_calling = False

    def ping(self) -> bool:
        return False

    def closed(self, *, is_lost: bool = False) -> None:
        self.is_open = False


async def adopted(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    echo = Echo()
    echo.transport = scope["extensions"][ADOPT](echo, LIMITS)
    # A ping of ours in the middle of a case is nothing that the case expects.
    pulse(LIMITS).forget(echo.transport)


async def ordinary(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
