"""uvicorn's own WebSocket, with the extension through which an application hands its socket to the house."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Request

from yamabiko.core.connection import Connection
from yamabiko.core.frames import WINDOW_BITS
from yamabiko.transports.adopted import AdoptedSocket
from yamabiko.transports.asgi import ADOPT
from yamabiko.transports.limits import Limits

# No context is kept from message to message, so a publication is deflated once for all members of its room.
DEFLATE = ServerPerMessageDeflateFactory(
    server_no_context_takeover=True,
    client_no_context_takeover=True,
    server_max_window_bits=WINDOW_BITS,
    client_max_window_bits=WINDOW_BITS,
    compress_settings={"memLevel": 5},
)


class RoomWebSocketProtocol(WebSocketsSansIOProtocol):
    """For uvicorn's `ws=`. A socket that nobody adopts is served as uvicorn serves it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._chunks = 0  # the first is the request, whole
        if self.config.ws_per_message_deflate:
            self.conn.available_extensions = [DEFLATE]

    def data_received(self, data: bytes) -> None:
        self._chunks += 1
        super().data_received(data)

    def handle_connect(self, event: Request) -> None:
        # Old client SDKs send this header without a value, which says no more than leaving it out.
        if event.headers.get_all("Sec-WebSocket-Protocol") == [""]:
            del event.headers["Sec-WebSocket-Protocol"]
        super().handle_connect(event)
        if self.response.status_code == 101:
            self.scope["extensions"][ADOPT] = self._adopt  # type: ignore[assignment]

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            # uvicorn would report the refusal of a handshake as an error of the application.
            self.handshake_complete = True

    def _adopt(self, connection: Connection, limits: Limits) -> AdoptedSocket:
        """Hand the accepted socket, and all that has arrived on it, to `connection`."""
        self.stop_keepalive()
        # The parser's frame holds the request, 3 KB of headers that nobody asks for any more.
        self.request.headers.clear()
        adopted = AdoptedSocket(connection, self.conn, self.transport, limits, self.connections)
        # What is left of this object ends with the ASGI call: uvicorn then closes what it takes for its transport.
        self.transport = _HANDED_OVER
        self.connections.discard(self)
        adopted.begin(self._early_frames(), is_untouched=self._chunks == 1, is_lost=self.disconnected)
        return adopted

    def _early_frames(self) -> Iterator[Frame]:
        """Return as frames what came between accept and adoption: messages in the queue, then an unfinished one."""
        while not self.queue.empty():
            message = self.queue.get_nowait()
            if message["type"] == "websocket.receive":
                text = message.get("text")
                if text is not None:
                    yield Frame(Opcode.TEXT, text.encode())
                else:
                    yield Frame(Opcode.BINARY, message.get("bytes") or b"")
        opcode = Opcode.TEXT if self.curr_msg_data_type == "text" else Opcode.BINARY
        for data in self.frames:
            yield Frame(opcode, data, fin=False)
            opcode = Opcode.CONT


class _HandedOver(asyncio.Transport):
    """Stands where a transport was that belongs to somebody else now."""

    def close(self) -> None:
        """Leave the socket alone."""

    def is_closing(self) -> bool:
        return True


_HANDED_OVER = _HandedOver()
