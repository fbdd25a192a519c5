"""Which room a path names, what its query asks for, and the application as servers and routers call it."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import AsyncMock

import pytest
from asgiref.testing import ApplicationCommunicator
from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.test import override_settings
from django.urls import path

import yamabiko
from tests.django.peers import PATIENCE_SECONDS, Peer, aknock, socket_scope
from tests.site.asgi import application, django_application
from yamabiko import Position, RoomConsumer, with_rooms
from yamabiko.core.errors import ConfigurationError
from yamabiko.django.endpoint import join_of, room_in_path
from yamabiko.django.service import service


def asked(query: str) -> Any:
    return join_of("kept/a", socket_scope(query_string=query.encode()))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", None),
        ("since=kQzT:7", Position("kQzT", 7)),
        ("since=kQzT%3A7", Position("kQzT", 7)),
        ("since=k-Q_zT:0", Position("k-Q_zT", 0)),
        ("since=a:1&since=b:2", Position("b", 2)),
        ("since=a:999999999999999999", Position("a", 999_999_999_999_999_999)),
    ],
)
def test_since_is_a_position(query: str, expected: Position | None) -> None:
    join = asked(query)
    assert (join.since, join.invalid) == (expected, ())


@pytest.mark.parametrize(
    "since",
    [
        "",
        ":",
        "7",
        "kQzT",
        "kQzT:",
        ":7",
        "a:b:7",
        "a:-1",
        "a:1.5",
        "a:1e3",
        "a:%D9%A3",
        "a:" + "9" * 19,
        "a" * 65 + ":1",
    ],
)
def test_a_since_that_is_no_position_is_told_and_asks_for_nothing(since: str) -> None:
    join = asked(f"since={since}")
    assert join.since is None
    (refusal,) = join.invalid
    assert (refusal.code, refusal.message[:45]) == (107, "bad request: since is <epoch>:<offset>, as pu")


@pytest.mark.parametrize(("query", "expected"), [("", 0), ("history=0", 0), ("history=300", 300), ("history=007", 7)])
def test_history_is_a_number_of_publications(query: str, expected: int) -> None:
    assert (asked(query).history, asked(query).invalid) == (expected, ())


@pytest.mark.parametrize("history", ["", "-1", "+1", "1.5", "all", "0x10", "%D9%A3", "1_000", "9" * 10, "%201"])
def test_a_history_that_is_no_number_is_told_and_asks_for_nothing(history: str) -> None:
    join = asked(f"history={history}")
    assert join.history == 0
    assert [refusal.message for refusal in join.invalid] == [
        "bad request: history is a number of publications, 0 to 300"
    ]


@pytest.mark.parametrize(("query", "expected"), [("", False), ("presence=0", False), ("presence=1", True)])
def test_presence_is_asked_for_with_a_one(query: str, expected: bool) -> None:
    assert (asked(query).wants_presence, asked(query).invalid) == (expected, ())


@pytest.mark.parametrize("presence", ["", "2", "yes", "true", "01"])
def test_another_presence_is_told(presence: str) -> None:
    join = asked(f"presence={presence}")
    assert not join.wants_presence
    assert [refusal.message for refusal in join.invalid] == ["bad request: presence is 1 or 0"]


def test_several_mistakes_are_all_told() -> None:
    assert len(asked("since=&history=&presence=").invalid) == 3


def test_other_parameters_and_bytes_are_left_alone() -> None:
    assert asked("token=x&%ff=%ff&\xff&=&&").invalid == ()


async def test_mistakes_in_the_query_are_told_to_whom_is_let_in() -> None:
    scope = socket_scope("/rooms/kept/told/", query_string=b"since=a&history=b&presence=1")
    peer = await Peer(application, scope).join()
    heard = [await peer.hear() for _ in range(3)]
    assert [next(iter(frame)) for frame in heard] == ["error", "error", "presence"]
    await peer.leave()


@pytest.mark.parametrize(
    ("given", "room"),
    [
        ("/rooms/lobby/", "lobby"),
        ("/rooms/lobby", "lobby"),
        ("/rooms/chat/lobby/", "chat/lobby"),
        ("/rooms/山彦/", "山彦"),
        ("/rooms/a b%/", "a b%"),
        ("/rooms/rooms/", "rooms"),
        ("/websock1/", "room1"),
        ("/websock1", "room1"),
        ("/", ""),
        ("/rooms/", ""),
        ("/rooms", ""),
        ("/room/lobby/", ""),
        ("rooms/lobby/", ""),
        ("/ws/rooms/lobby/", ""),
        ("/Rooms/lobby/", ""),
        ("/websock2/", ""),
        ("/websock1/more/", ""),
    ],
)
def test_the_room_is_in_the_path(given: str, room: str) -> None:
    assert room_in_path({"path": given}) == room


@pytest.mark.parametrize(
    ("root_path", "given", "room"),
    [
        ("", "/rooms/lobby/", "lobby"),
        ("/site", "/site/rooms/lobby/", "lobby"),
        ("/site", "/rooms/lobby/", "lobby"),
        ("/site", "/sites/rooms/lobby/", ""),
        ("/rooms", "/rooms/rooms/lobby/", "lobby"),
        ("/山", "/山/websock1/", "room1"),
    ],
)
def test_the_path_begins_where_the_application_is_mounted(root_path: str, given: str, room: str) -> None:
    assert room_in_path({"path": given, "root_path": root_path}) == room


@pytest.mark.parametrize("given", ["/", "/nowhere/", "/rooms/", "/rooms//", "/rooms/nobody/has/this/", "/rooms/a\0/"])
async def test_a_path_of_no_room_is_not_found(given: str) -> None:
    answer = await aknock(application, given)
    assert (answer.status, answer.error["code"]) == (404, 102)
    assert answer.error["message"].startswith("unknown room: ")


async def test_a_path_that_is_percent_decoded_by_the_server_names_a_unicode_room() -> None:
    peer = await Peer(application, socket_scope("/rooms/open/Cafe\u0301 山彦/")).join()
    await yamabiko.apublish("open/Caf\u00e9 山彦", "hello")
    assert await peer.hear_message() == "hello"
    await peer.leave()


@pytest.mark.parametrize(
    ("room", "status", "code"), [("members/a", 401, 101), ("closed/a", 401, 101), ("nothing/a", 404, 102)]
)
async def test_a_refused_handshake_has_a_status_and_a_body(room: str, status: int, code: int) -> None:
    answer = await aknock(application, f"/rooms/{room}/")
    assert (answer.status, answer.error["code"]) == (status, code)


async def test_a_server_that_cannot_answer_with_http_is_asked_to_close() -> None:
    peer = Peer(application, socket_scope("/rooms/members/a/", extensions={}))
    await peer.send_input({"type": "websocket.connect"})
    closing = await peer.receive_output(PATIENCE_SECONDS)
    assert (closing["type"], closing["code"]) == ("websocket.close", 1008)
    await peer.wait(PATIENCE_SECONDS)


async def test_a_room_class_that_breaks_refuses_and_says_nothing_of_why(caplog: pytest.LogCaptureFixture) -> None:
    answer = await aknock(application, "/rooms/broken/a/")
    assert (answer.status, answer.error) == (503, {"code": 100, "message": "internal server error"})
    assert "ZeroDivisionError: as asked" in caplog.text


async def test_http_goes_to_django() -> None:
    assert await http_get(application, "/hello/") == (200, b"hello")


async def http_get(site: Any, url_path: str) -> tuple[int, bytes]:
    scope = {"type": "http", "method": "GET", "path": url_path, "headers": [(b"host", b"testserver")]}
    client = ApplicationCommunicator(site, scope)
    await client.send_input({"type": "http.request", "body": b""})
    start = await client.receive_output(PATIENCE_SECONDS)
    body = await client.receive_output(PATIENCE_SECONDS)
    await client.wait(PATIENCE_SECONDS)
    return start["status"], body["body"]


async def test_the_server_begins_and_ends_the_application(monkeypatch: pytest.MonkeyPatch) -> None:
    closing = AsyncMock()
    monkeypatch.setattr(service().node.broker, "close", closing)
    server = ApplicationCommunicator(application, {"type": "lifespan"})
    await server.send_input({"type": "lifespan.startup"})
    assert await server.receive_output(PATIENCE_SECONDS) == {"type": "lifespan.startup.complete"}
    closing.assert_not_awaited()
    await server.send_input({"type": "lifespan.shutdown"})
    assert await server.receive_output(PATIENCE_SECONDS) == {"type": "lifespan.shutdown.complete"}
    await server.wait(PATIENCE_SECONDS)
    closing.assert_awaited_once()


async def test_the_server_waits_for_what_rooms_still_do(monkeypatch: pytest.MonkeyPatch) -> None:
    may_end, ended = asyncio.Event(), asyncio.Event()

    async def on_leave(room: Any, user: Any) -> None:
        await may_end.wait()
        ended.set()

    monkeypatch.setattr("tests.site.rooms.PlainRoom.on_leave", on_leave)
    await aknock(application)
    server = ApplicationCommunicator(application, {"type": "lifespan"})
    await server.send_input({"type": "lifespan.startup"})
    await server.receive_output(PATIENCE_SECONDS)
    await server.send_input({"type": "lifespan.shutdown"})
    for _ in range(20):
        await asyncio.sleep(0)
    assert server.output_queue.empty()
    may_end.set()
    await server.receive_output(PATIENCE_SECONDS)
    assert ended.is_set()


class Room1Consumer(RoomConsumer):
    room_name = "room1"


class RoomlessConsumer(RoomConsumer):
    pass


ROUTED = ProtocolTypeRouter(
    {
        "http": django_application,
        "websocket": AuthMiddlewareStack(
            URLRouter(
                [
                    path("websock1/", Room1Consumer.as_asgi()),
                    path("rooms/<path:room>/", RoomConsumer.as_asgi()),
                    path("bare/<path:room>", RoomConsumer.as_asgi()),
                    path("roomless/", RoomlessConsumer.as_asgi()),
                ]
            )
        ),
    }
)


@pytest.mark.parametrize(
    ("given", "room"),
    [
        ("/websock1/", "room1"),
        ("/rooms/open/porch/", "open/porch"),
        ("/rooms/open/山彦/", "open/山彦"),
        ("/bare/open/porch", "open/porch"),
        ("/bare/open/porch/", "open/porch"),
    ],
)
@pytest.mark.django_db
async def test_in_channels_routing_the_route_or_the_class_names_the_room(given: str, room: str) -> None:
    peer = await Peer(ROUTED, socket_scope(given)).join()
    await yamabiko.apublish(room, "hello")
    assert await peer.hear_message() == "hello"
    await peer.leave()


@pytest.mark.django_db
async def test_in_channels_routing_refusals_are_the_same() -> None:
    assert (await aknock(ROUTED, "/rooms/members/a/")).status == 401
    assert (await aknock(ROUTED, "/rooms/nothing/")).status == 404
    assert (await aknock(ROUTED, headers=[("origin", "https://evil.example")])).status == 403


async def test_in_channels_routing_http_goes_to_django() -> None:
    assert await http_get(ROUTED, "/hello/") == (200, b"hello")


@pytest.mark.django_db
async def test_a_consumer_without_a_room_says_what_to_do() -> None:
    with pytest.raises(ConfigurationError) as told:
        await aknock(ROUTED, "/roomless/")
    assert str(told.value) == (
        "RoomlessConsumer has no room: set room_name, or route it as path('rooms/<path:room>/', ...)"
    )


async def test_a_consumer_routed_for_http_says_where_it_belongs() -> None:
    peer = ApplicationCommunicator(Room1Consumer.as_asgi(), {"type": "http", "path": "/websock1/"})
    with pytest.raises(ConfigurationError, match="not for http; route them under 'websocket'"):
        await peer.wait(PATIENCE_SECONDS)


async def test_with_rooms_takes_any_http_application() -> None:
    calls = []

    async def http(scope: Any, receive: Any, send: Any) -> None:
        calls.append(scope["type"])

    await ApplicationCommunicator(with_rooms(http), {"type": "http"}).wait(PATIENCE_SECONDS)
    assert calls == ["http"]


async def test_whoever_is_refused_leaves_nothing_behind() -> None:
    for room in ("members/a", "broken/a", "nothing", "closed/a"):
        await aknock(application, f"/rooms/{room}/")
    assert not service().node.connections
    assert not service().node.hub.rooms


async def test_whoever_has_left_leaves_nothing_behind() -> None:
    await aknock(application, "/rooms/kept/a/")
    assert not service().node.connections
    assert not service().node.hub.rooms


async def test_a_message_over_the_limit_ends_the_connection() -> None:
    with override_settings(YAMABIKO={"MAX_MESSAGE_BYTES": 10}):
        peer = await Peer(application, socket_scope()).join()
        await peer.say("山" * 4)
        closing = await peer.receive_output(PATIENCE_SECONDS)
        assert (closing["type"], closing["code"]) == ("websocket.close", 1009)
        await peer.wait(PATIENCE_SECONDS)
