"""Where peers of the SDK protocol come in by HTTP, because a network between blocks WebSocket.

Source: the Centrifugo client protocol v2, section "endpoints and transports".
"""

from __future__ import annotations

import logging
from urllib.parse import parse_qsl

import msgspec

from yamabiko.codecs.sdk_json import SDK_JSON
from yamabiko.codecs.sdk_protobuf import SDK_PROTOBUF, emulation_request_in
from yamabiko.core.errors import BadRequest, NotAvailable, PermissionDenied
from yamabiko.django.application import Visitor
from yamabiko.django.handshake import HandshakeRequest, check_host_and_origin
from yamabiko.django.service import service
from yamabiko.transports.asgi import Application, Receive, Scope, Send
from yamabiko.transports.streams import EVENTS, LENGTHS, LINES, Header, Shape, serve_stream

logger = logging.getLogger("yamabiko")

BYTES = "application/octet-stream"
PREFLIGHT_SECONDS = 300


class TooLarge(Exception):
    """A request's body is larger than a message may be."""


class _Said(msgspec.Struct):
    """What a peer says in a request of its own, in JSON."""

    session: str
    node: str
    data: str


def with_streams(http: Application) -> Application:
    """Return an ASGI application for HTTP that takes such peers in, and leaves all other requests to `http`."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope.get("path", "")).removeprefix(scope.get("root_path", ""))
        if scope["type"] == "http" and path in _PATHS:
            await _answer(path, scope, receive, send)
        else:
            await http(scope, receive, send)

    return application


async def _answer(path: str, scope: Scope, receive: Receive, send: Send) -> None:
    request = HandshakeRequest(scope)
    try:
        check_host_and_origin(request)
    except PermissionDenied as refusal:
        await _respond(send, 403, refusal.message)
        return
    headers = _cors(request)
    if scope["method"] == "OPTIONS":
        await _respond(send, 204, headers=headers)
    elif scope["method"] not in _PATHS[path]:
        await _respond(send, 405, f"expected {' or '.join(_PATHS[path])}", headers=headers)
    else:
        try:
            await _HANDLERS[path](request, headers, scope, receive, send)
        except TooLarge:
            await _respond(send, 413, f"expected at most {service().limits.message_bytes} bytes", headers=headers)
        except BadRequest as refusal:
            await _respond(send, 400, refusal.message, headers=headers)


async def _stream_lines(
    request: HandshakeRequest, headers: tuple[Header, ...], scope: Scope, receive: Receive, send: Send
) -> None:
    body = await _body(receive)
    if request.META.get("HTTP_CONTENT_TYPE", "").partition(";")[0].strip() == BYTES:
        await _serve(request, body, LENGTHS, headers, scope, receive, send)
    else:
        await _serve(request, _text(body), LINES, headers, scope, receive, send)


async def _stream_events(
    request: HandshakeRequest, headers: tuple[Header, ...], scope: Scope, receive: Receive, send: Send
) -> None:
    if scope["method"] == "POST":
        first = _text(await _body(receive))
    else:
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True))
        first = query.get("cf_connect", "")
        if not first:
            raise BadRequest("expected the first commands in the query's cf_connect")
    await _serve(request, first, EVENTS, headers, scope, receive, send)


async def _serve(
    request: HandshakeRequest,
    first: str | bytes,
    shape: Shape,
    headers: tuple[Header, ...],
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    here = service()
    here.serve()
    codec = SDK_PROTOBUF if shape is LENGTHS else SDK_JSON
    connection = here.node.connect_sdk(codec, Visitor(request, scope))
    await serve_stream(connection, first, here.limits, shape, headers=headers, receive=receive, send=send)


async def _emulation(
    request: HandshakeRequest, headers: tuple[Header, ...], scope: Scope, receive: Receive, send: Send
) -> None:
    """Hand what a peer says to its connection; who knows no session is told nothing."""
    body = await _body(receive)
    payload: str | bytes
    if request.META.get("HTTP_CONTENT_TYPE", "").partition(";")[0].strip() == BYTES:
        said = emulation_request_in(body)
        node, session, payload = said.node, said.session, bytes(said.data)
    else:
        try:
            in_json = msgspec.json.decode(body, type=_Said)
        except msgspec.MsgspecError as error:
            raise BadRequest(f'{error}; expected {{"session": "...", "node": "...", "data": "..."}}') from error
        node, session, payload = in_json.node, in_json.session, in_json.data
    try:
        is_known = await service().node.pass_on(node, session, payload)
    except NotAvailable as refusal:
        await _respond(send, 503, refusal.message, headers=headers)
    else:
        await _respond(send, 204 if is_known else 404, "" if is_known else "there is no such node", headers=headers)


async def _body(receive: Receive) -> bytes:
    """Return the body of a request. Raises TooLarge."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("the request was broken off")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > service().limits.message_bytes:
            raise TooLarge
    return bytes(body)


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise BadRequest("expected text in UTF-8") from error


def _cors(request: HandshakeRequest) -> tuple[Header, ...]:
    """Return what lets pages of an allowed origin read the answer; they send the visitor's cookies."""
    if request.origin is None:
        return ()
    asked = request.META.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "")
    headers = [
        (b"access-control-allow-origin", request.origin.encode("latin-1")),
        (b"access-control-allow-credentials", b"true"),
        (b"vary", b"origin"),
    ]
    if request.method == "OPTIONS" or asked:
        headers.append((b"access-control-allow-methods", b"GET, POST"))
        headers.append((b"access-control-max-age", b"%d" % PREFLIGHT_SECONDS))
    if asked:
        headers.append((b"access-control-allow-headers", asked.encode("latin-1")))
    return tuple(headers)


async def _respond(send: Send, status: int, message: str = "", *, headers: tuple[Header, ...] = ()) -> None:
    body = message.encode()
    more = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))] if body else []
    try:
        await send({"type": "http.response.start", "status": status, "headers": [*headers, *more]})
        await send({"type": "http.response.body", "body": body})
    except OSError:
        logger.debug("a peer left before it was answered")


_HANDLERS = {
    "/connection/http_stream": _stream_lines,
    "/connection/sse": _stream_events,
    "/emulation": _emulation,
}
_PATHS = {
    "/connection/http_stream": ("POST",),
    "/connection/sse": ("GET", "POST"),
    "/emulation": ("POST",),
}
