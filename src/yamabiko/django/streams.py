"""Where peers of the SDK protocol come in by HTTP, because a network between blocks WebSocket.

Source: the Centrifugo client protocol v2, section "endpoints and transports".
"""

from __future__ import annotations

import logging
import secrets
from urllib.parse import parse_qsl

import msgspec
from django.conf import settings as django_settings
from django.utils.crypto import constant_time_compare, salted_hmac

from yamabiko.codecs.sdk_json import SDK_JSON
from yamabiko.codecs.sdk_protobuf import SDK_PROTOBUF, emulation_request_in
from yamabiko.core.errors import BadRequest, NotAvailable, PermissionDenied, TooManyRequests
from yamabiko.core.sdk.messages import Command, ConnectRequest
from yamabiko.django.application import Visitor
from yamabiko.django.handshake import HandshakeRequest, check_host_and_origin
from yamabiko.django.rare_warning import RareWarning
from yamabiko.django.service import service
from yamabiko.transports.asgi import Application, Receive, Scope, Send
from yamabiko.transports.streams import EVENTS, LENGTHS, LINES, Header, Shape, serve_stream

logger = logging.getLogger("yamabiko")

unproven = RareWarning("refused to pass on a request with a session that its node has not made, node")

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
            raise BadRequest("expected the first command in the query's cf_connect")
        _check_that_it_only_connects(first)
    await _serve(request, first, EVENTS, headers, scope, receive, send)


def _check_that_it_only_connects(first: str) -> None:
    """Raise BadRequest if a frame holds anything else: by GET, which others may have made the visitor send."""
    match SDK_JSON.decode(first):
        case [Command(request=ConnectRequest())]:
            return
    raise BadRequest("expected one command, connect, in cf_connect; POST what else there is to /emulation")


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
    session = new_session(here.node.id)
    await serve_stream(
        connection, first, here.limits, shape, session=session, headers=headers, receive=receive, send=send
    )


async def _emulation(
    request: HandshakeRequest, headers: tuple[Header, ...], scope: Scope, receive: Receive, send: Send
) -> None:
    """Hand what a peer says to its connection; who knows no session is told nothing, and troubles no other node."""
    body = await _body(receive)
    payload: str | bytes
    if request.META.get("HTTP_CONTENT_TYPE", "").partition(";")[0].strip() == BYTES:
        said = emulation_request_in(body)
        node, session, payload = said.node, said.session, bytes(said.data)
    else:
        try:
            in_json = msgspec.json.decode(body, type=_Said)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f'{error}; expected {{"session": "...", "node": "...", "data": "..."}}') from error
        node, session, payload = in_json.node, in_json.session, in_json.data
    status, message = await _passed_on(node, session, payload)
    await _respond(send, status, message, headers=headers)


async def _passed_on(node: str, session: str, payload: str | bytes) -> tuple[int, str]:
    """Pass on what a peer says; return the status and the text of its answer."""
    here = service().node
    if not here.knows_node(node):
        return 404, "there is no such node"
    try:
        if is_session_of(node, session):
            await here.pass_on(node, session, payload)
        elif node != here.id:
            unproven.tell(f"{node}; do all nodes have the same SECRET_KEY?")
    except TooManyRequests as refusal:
        return 429, refusal.message
    except NotAvailable as refusal:
        return 503, refusal.message
    return 204, ""


def new_session(node: str) -> str:
    """Return a secret for a peer of a node, in which every node of the site can see that this node has made it."""
    secret = secrets.token_urlsafe(24)
    return f"{secret}.{_proof(node, secret, django_settings.SECRET_KEY)}"


def is_session_of(node: str, session: str) -> bool:
    """Tell whether that node has made it, under SECRET_KEY or one of SECRET_KEY_FALLBACKS."""
    secret, _, proof = session.rpartition(".")
    keys = (django_settings.SECRET_KEY, *django_settings.SECRET_KEY_FALLBACKS)
    return any(constant_time_compare(proof, _proof(node, secret, key)) for key in keys)


def _proof(node: str, secret: str, key: str) -> str:
    return salted_hmac("yamabiko.session", f"{node}.{secret}", secret=key, algorithm="sha256").hexdigest()


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
