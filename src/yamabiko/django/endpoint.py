"""Where sockets come in: a consumer for Channels' routing, and the whole application for a site without Channels."""

from __future__ import annotations

import logging
import re
from typing import Any, ClassVar
from urllib.parse import parse_qsl

from yamabiko.codecs.plain import PLAIN
from yamabiko.codecs.sdk_json import SDK_JSON
from yamabiko.codecs.sdk_protobuf import SDK_PROTOBUF
from yamabiko.core.errors import BadRequest, ConfigurationError, InternalError, Refusal, UnknownRoom
from yamabiko.core.interfaces import Codec
from yamabiko.core.messages import Join, Position
from yamabiko.core.names import room_name
from yamabiko.django.application import Visitor, identity_of
from yamabiko.django.handshake import HandshakeRequest, check_host_and_origin
from yamabiko.django.service import service
from yamabiko.django.streams import with_streams
from yamabiko.transports.asgi import Application, Receive, Scope, Send, refuse, serve_client, serve_room

logger = logging.getLogger("yamabiko")

SDK_PATH = "/connection/websocket"
SDK_CODECS: dict[str, Codec] = {"centrifuge-protobuf": SDK_PROTOBUF, "centrifuge-json": SDK_JSON}

_PATH = re.compile(r"/rooms/(?P<room>.+?)/?")
_SINCE = re.compile(r"(?P<epoch>[^:]{1,64}):(?P<offset>[0-9]{1,18})")


class RoomConsumer:
    """A room's socket, speaking the room protocol; for Channels' `URLRouter`, or any other ASGI router.

    The room is `room_name`, or where that is empty the route's argument `room`: path("rooms/<path:room>/", ...).
    """

    room_name: ClassVar[str] = ""

    @classmethod
    def as_asgi(cls) -> Application:
        """Return the ASGI application to route to."""

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await serve_socket(cls().room_of(scope), scope, receive, send)

        return application

    def room_of(self, scope: Scope) -> str:
        if self.room_name:
            return self.room_name
        room = scope.get("url_route", {}).get("kwargs", {}).get("room")
        if room is None:
            raise ConfigurationError(
                f"{type(self).__name__} has no room: set room_name, or route it as path('rooms/<path:room>/', ...)"
            )
        return str(room).removesuffix("/")


def with_rooms(http: Application) -> Application:
    """Return an ASGI application with Django's own for HTTP and the rooms for WebSocket.

    Sockets are at /rooms/<room>/, and room1 is at /websock1/ too. Sessions are Django's, read at the handshake.
    """

    http = with_streams(http)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            if path_in(scope).rstrip("/") == SDK_PATH:
                await serve_sdk_socket(scope, receive, send)
            else:
                await serve_socket(room_in_path(scope), scope, receive, send)
        elif scope["type"] == "lifespan":
            await _live(receive, send)
        else:
            await http(scope, receive, send)

    return application


class ConnectionConsumer:
    """A socket that speaks the SDK protocol, for all rooms; for Channels' `URLRouter`, or any other ASGI router."""

    @classmethod
    def as_asgi(cls) -> Application:
        """Return the ASGI application to route to, at "connection/websocket" for clients that expect it there."""
        return serve_sdk_socket


def path_in(scope: Scope) -> str:
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


def room_in_path(scope: Scope) -> str:
    """Return the room that a path names, an empty text for a path that is no room's."""
    path = path_in(scope)
    if path.rstrip("/") == "/websock1":
        return "room1"
    match = _PATH.fullmatch(path)
    return match["room"] if match else ""


async def serve_socket(room: str, scope: Scope, receive: Receive, send: Send) -> None:
    """Take one WebSocket from its handshake to its end, or, where our server adopts it, to where that goes on alone."""
    if scope["type"] != "websocket":
        raise ConfigurationError(f"rooms are for WebSocket, not for {scope['type']}; route them under 'websocket'")
    await receive()  # websocket.connect is always the first
    here = service()
    here.serve()
    try:
        request = HandshakeRequest(scope)
        check_host_and_origin(request)
        join = join_of(room, scope)
        asked_at = here.node.now()
        user = await here.visitors.user_of(request, scope)
    except Refusal as refusal:
        await refuse(refusal, scope, send)
    except Exception:
        logger.exception("a handshake could not be answered")
        await refuse(InternalError(), scope, send)
    else:
        connection = here.node.connect(PLAIN, identity_of(user), asked_at=asked_at)
        await serve_room(connection, join, here.limits, scope=scope, receive=receive, send=send)


async def serve_sdk_socket(scope: Scope, receive: Receive, send: Send) -> None:
    """Do the same for a socket that speaks the SDK protocol."""
    if scope["type"] != "websocket":
        raise ConfigurationError(f"clients connect by WebSocket, not by {scope['type']}; route them under 'websocket'")
    await receive()  # websocket.connect is always the first
    here = service()
    here.serve()
    try:
        request = HandshakeRequest(scope)
        check_host_and_origin(request)
    except Refusal as refusal:
        await refuse(refusal, scope, send)
        return
    codec, subprotocol = codec_of(scope)
    pings = _query(scope).get("cf_ws_frame_ping_pong") != "true"
    connection = here.node.connect_sdk(codec, Visitor(request, scope), pings=pings)
    await serve_client(connection, subprotocol, here.limits, scope=scope, receive=receive, send=send)


def codec_of(scope: Scope) -> tuple[Codec, str]:
    """Return the codec that a handshake asks for, and the subprotocol that accepts it, "" for none."""
    offered = scope.get("subprotocols") or ()
    for subprotocol, codec in SDK_CODECS.items():
        if subprotocol in offered:
            return codec, subprotocol
    query = _query(scope)
    return (SDK_PROTOBUF if "protobuf" in (query.get("format"), query.get("cf_protocol")) else SDK_JSON), ""


def _query(scope: Scope) -> dict[str, str]:
    return dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True))


def join_of(room: str, scope: Scope) -> Join:
    """Return what a path and its query ask for. A query value that cannot be is told to the peer once it is in.

    Raises UnknownRoom for what can be no room's name.
    """
    if not room:
        logger.warning("refused a WebSocket: %r is no room's path", str(scope["path"])[:200])
        raise UnknownRoom("rooms are at /rooms/<room>/")
    query = _query(scope)
    invalid: list[Refusal] = []
    return Join(
        _room_name(room),
        since=_since(query.get("since"), invalid),
        history=_history(query.get("history"), invalid),
        wants_presence=_presence(query.get("presence"), invalid),
        invalid=tuple(invalid),
    )


def _room_name(text: str) -> str:
    try:
        return room_name(text)
    except UnknownRoom as refusal:
        logger.warning("refused a WebSocket: %r is no room's name: %s", text[:200], refusal.message)
        raise


def _since(text: str | None, invalid: list[Refusal]) -> Position | None:
    if text is None:
        return None
    match = _SINCE.fullmatch(text)
    if match is None:
        invalid.append(BadRequest("since is <epoch>:<offset>, as publications carry them; messages come from now on"))
        return None
    return Position(match["epoch"], int(match["offset"]))


def _history(text: str | None, invalid: list[Refusal]) -> int:
    if text is None:
        return 0
    if not re.fullmatch("[0-9]{1,9}", text):
        invalid.append(BadRequest("history is a number of publications, 0 to 300"))
        return 0
    return int(text)


def _presence(text: str | None, invalid: list[Refusal]) -> bool:
    if text not in (None, "0", "1"):
        invalid.append(BadRequest("presence is 1 or 0"))
    return text == "1"


async def _live(receive: Receive, send: Send) -> None:
    """Follow the server's own life (ASGI lifespan), so that the broker ends with it."""
    while True:
        message: Any = await receive()
        if message["type"] == "lifespan.startup":
            try:
                await service().open()
            except ConfigurationError as error:
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            await send({"type": "lifespan.startup.complete"})
        else:
            await service().close()
            await send({"type": "lifespan.shutdown.complete"})
            return
