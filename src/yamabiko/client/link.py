"""The wire to one room: opened, read, and opened again after a break until a close is final."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus, WebSocketException
from websockets.typing import Origin

from yamabiko.client import endings
from yamabiko.client.address import Address
from yamabiko.client.backoff import Backoff
from yamabiko.client.masking import masked_url
from yamabiko.client.trace import Trace

OPEN_TIMEOUT_SECONDS = 10
CLOSE_TIMEOUT_SECONDS = 3
# A peer that vanished without a word is noticed after both at most.
PING_INTERVAL_SECONDS = 20
PONG_TIMEOUT_SECONDS = 10
# Far above what a room takes, so that a server with a higher limit is still understood.
LARGEST_FRAME_BYTES = 16 * 1024 * 1024
PASSING_ERRORS = (TimeoutError, ConnectionResetError, ConnectionAbortedError, BrokenPipeError)
IS_IT_RUNNING = "is the server running? Start it (yamabiko serve ...), or say where it is with --host, --port or --url"

# Its warnings would otherwise be written across the prompt; what matters is said in words of our own.
SILENT_LOGGER = logging.Logger("yamabiko.client")
SILENT_LOGGER.addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Break:
    """Why there is no connection.

    Attributes:
        is_final: no further attempt would help.
        retry_after_seconds: how long the server asked us to stay away.
    """

    reason: str
    is_final: bool = False
    retry_after_seconds: float = 0.0


class Listener(Protocol):
    """What the wire tells, and what it asks for."""

    def query(self) -> dict[str, str]: ...
    def connected(self) -> None: ...
    def received(self, payload: str | bytes) -> None: ...
    def disconnected(self) -> None: ...
    def interrupted(self, reason: str) -> None: ...
    def unsent(self) -> Iterator[str]: ...


class Link:
    def __init__(self, address: Address, *, backoff: Backoff, trace: Trace) -> None:
        self.address = address
        self.backoff = backoff
        self.trace = trace
        self.is_open = False
        self.has_been_open = False
        self._is_leaving = False
        self._socket: ClientConnection | None = None
        self._something_to_send = asyncio.Event()

    async def keep(self, listener: Listener) -> Break | None:
        """Stay connected; return the final break, or None after `close`."""
        while not self._is_leaving:
            ended = await self._stay_until_break(listener)
            if self._is_leaving:
                break
            if ended.is_final:
                return ended
            listener.interrupted(ended.reason)
            await asyncio.sleep(self.backoff.next_delay(ended.retry_after_seconds))
        return None

    def send_soon(self) -> None:
        """Send what the listener has unsent, now or as soon as there is a connection."""
        self._something_to_send.set()

    async def close(self) -> None:
        """Leave with the closing handshake, which ends after a few seconds whatever the server does."""
        self._is_leaving = True
        if self._socket is not None:
            await self._socket.close()

    async def _stay_until_break(self, listener: Listener) -> Break:
        try:
            self._socket = await self._open(listener.query())
        except (OSError, WebSocketException, ImportError) as error:
            return judge_failure(error, self.address, is_first=not self.has_been_open)
        opened_at = asyncio.get_running_loop().time()
        self.is_open = self.has_been_open = True
        listener.connected()
        self.send_soon()
        closed = await self._carry(self._socket, listener)
        self.is_open = False
        listener.disconnected()
        self.backoff.connection_lived(asyncio.get_running_loop().time() - opened_at)
        return self._judge(closed)

    async def _open(self, query: dict[str, str]) -> ClientConnection:
        origin = self.address.origin
        return await open_websocket(
            self.address.with_query(query),
            additional_headers=self.address.headers,
            origin=None if origin is None else Origin(origin),
            # A proxy cannot know this machine's own loopback.
            proxy=None if self.address.is_local else True,
            open_timeout=OPEN_TIMEOUT_SECONDS,
            close_timeout=CLOSE_TIMEOUT_SECONDS,
            ping_interval=PING_INTERVAL_SECONDS,
            ping_timeout=PONG_TIMEOUT_SECONDS,
            max_size=LARGEST_FRAME_BYTES,
            logger=SILENT_LOGGER,
            create_connection=traced_connection(self.trace),
        )

    async def _carry(self, socket: ClientConnection, listener: Listener) -> ConnectionClosed:
        """Send and receive until the connection ends, and return how it ended."""
        sending = asyncio.create_task(self._send(socket, listener))
        try:
            while True:
                payload = await socket.recv()
                self.trace.received(payload)
                listener.received(payload)
        except ConnectionClosed as closed:
            return closed
        finally:
            sending.cancel()
            await asyncio.wait([sending])

    async def _send(self, socket: ClientConnection, listener: Listener) -> None:
        # The reader of the same connection reports the close.
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self._something_to_send.wait()
                self._something_to_send.clear()
                for payload in listener.unsent():
                    self.trace.sent(payload)
                    await socket.send(payload)

    def _judge(self, closed: ConnectionClosed) -> Break:
        for close, by_server in ((closed.sent, False), (closed.rcvd, True)):
            if close is not None:
                self.trace.closed(close.code, close.reason, by_server=by_server)
        return judge_close(closed)


def traced_connection(trace: Trace) -> type[ClientConnection]:
    class TracedConnection(ClientConnection):
        async def handshake(self, *arguments: Any, **options: Any) -> None:
            try:
                await super().handshake(*arguments, **options)
            finally:
                if self.request is not None:
                    trace.request(self.request.path, self.request.headers)
                if self.response is not None:
                    trace.response(self.response.status_code, self.response.reason_phrase, self.response.headers)

    return TracedConnection


def judge_close(closed: ConnectionClosed) -> Break:
    if closed.rcvd is not None and closed.rcvd_then_sent is not False:
        code, reason = closed.rcvd.code, closed.rcvd.reason
        return Break(endings.describe_close(code, reason), is_final=endings.is_final_close(code))
    if closed.sent is not None and endings.is_final_close(closed.sent.code):
        return Break(f"the server sent what cannot be read: {closed.sent.reason}", is_final=True)
    if closed.sent is not None and closed.sent.code == 1011:
        return Break("the server no longer answers")
    return Break("the connection broke")


def judge_failure(error: Exception, address: Address, *, is_first: bool) -> Break:
    """Judge an attempt to connect that failed.

    At the first attempt an unreachable server is most likely a wrong address, later one that restarts.
    """
    place = masked_url(address.url)
    if isinstance(error, InvalidStatus):
        return judge_status(error, place)
    if isinstance(error, ssl.SSLCertVerificationError):
        return Break(f"cannot trust {place}: {error.verify_message}", is_final=True)
    if isinstance(error, InvalidMessage) and isinstance(error.__cause__, EOFError):
        return Break(f"{place} hung up during the handshake")
    if isinstance(error, OSError):
        is_final = is_first and not isinstance(error, PASSING_ERRORS)
        return Break(f"cannot connect to {place}: {said(error)}" + (f"; {IS_IT_RUNNING}" if is_final else ""), is_final)
    return Break(f"{place} does not speak WebSocket: {error}", is_final=True)


def judge_status(error: InvalidStatus, place: str) -> Break:
    response = error.response
    hint = endings.hint_for(response.status_code)
    refusal = endings.describe_refusal(response.status_code, bytes(response.body or b""))
    return Break(
        f"{place} refused: {refusal}" + (f"; {hint}" if hint else ""),
        is_final=endings.is_final_status(response.status_code),
        retry_after_seconds=seconds_in(response.headers.get("Retry-After", "")),
    )


def seconds_in(retry_after: str) -> float:
    return float(retry_after) if retry_after.isdecimal() else 0.0


def said(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there"
    return error.strerror or str(error) or type(error).__name__
