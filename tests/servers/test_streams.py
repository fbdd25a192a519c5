"""The SDK protocol by HTTP, on real servers: an answer that does not end, and requests that say what the peer says."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis.asyncio

from tests.codecs.sdk_peers import ProtobufPeer, compiled
from tests.redis_server import RedisServer
from tests.redis_server import redis_server as redis_server
from tests.servers.running import DAPHNE, PATIENCE_SECONDS, SERVE, UVICORN, Kind, Running, Servers
from tests.servers.visitors import get, visit
from yamabiko.core.frames import Frame

pytest_plugins = ["tests.servers.fixtures"]
pytestmark = pytest.mark.server

CONNECT: dict[str, Any] = {"id": 1, "connect": {}}
BYTES = "application/octet-stream"
SCRIPT = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
"""What Chromium says when a page of the server's own site makes an EventSource."""
PATIENT = {"MAX_BACKLOG_BYTES": 100_000_000, "PING_INTERVAL_SECONDS": 1000}
ESTABLISHED = "01"
"""A socket's state in Linux."""


@pytest.fixture(params=[SERVE, UVICORN, DAPHNE], ids=lambda kind: kind.name)
def server(request: pytest.FixtureRequest, servers: Servers) -> Running:
    return servers[request.param]


@pytest.fixture
def ours(servers: Servers) -> Running:
    return servers[SERVE]


@dataclass
class Stream:
    """One peer, by HTTP: what has come, and how to say something."""

    http: aiohttp.ClientSession
    url: str
    response: aiohttp.ClientResponse
    node: str = ""
    session: str = ""

    async def hear(self) -> dict[str, Any]:
        """Return the next reply, as JSON lines or as events carry it."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                line = (await self.response.content.readline()).decode()
                if not line:
                    raise ConnectionError("the stream has ended")
                text = line.removeprefix("data: ").strip()
                if text and text != "{}":
                    reply: dict[str, Any] = json.loads(text)
                    return reply

    async def say(self, *commands: dict[str, Any], url: str = "") -> int:
        """Send commands in a request of their own; return its status."""
        body = {"session": self.session, "node": self.node, "data": "\n".join(map(json.dumps, commands))}
        async with self.http.post(f"{url or self.url}/emulation", json=body) as answer:
            return answer.status

    async def join(self, room: str) -> None:
        assert await self.say({"id": 2, "subscribe": {"channel": room, "join_leave": True}}) == 204
        assert "subscribe" in await self.hear()


@asynccontextmanager
async def stream(
    server: Running, *more: dict[str, Any], kind: str = "http_stream", **headers: str
) -> AsyncIterator[Stream]:
    """Be connected for as long as the block lasts; `more` commands come with the first one."""
    url = f"http://127.0.0.1:{server.port}"
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as http:
        if kind == "sse":
            query = urllib.parse.quote(json.dumps(CONNECT))
            request = http.get(f"{url}/connection/sse?cf_connect={query}")
        else:
            first = "\n".join(map(json.dumps, (CONNECT, *more)))
            request = http.post(f"{url}/connection/{kind}", data=first, headers={"Content-Type": "application/json"})
        async with request as response:
            assert response.status == 200, await response.text()
            peer = Stream(http, url, response)
            connected = (await peer.hear())["connect"]
            peer.node, peer.session = connected["node"], connected["session"]
            yield peer


async def request(server: Running, method: str, path: str, **options: Any) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, f"http://127.0.0.1:{server.port}{path}", **options) as answer,
    ):
        await answer.read()
        return answer.status, answer.headers


@pytest.mark.parametrize("kind", ["http_stream", "sse"])
async def test_a_peer_by_http_and_one_by_websocket_talk_in_one_room(server: Running, kind: str, room: str):
    async with stream(server, kind=kind) as peer, visit(server, f"kept/{room}-{kind}") as visitor:
        await peer.join(f"kept/{room}-{kind}")
        await visitor.say("山彦")
        push = await peer.hear()
        while "pub" not in push["push"]:
            push = await peer.hear()
        assert push["push"]["pub"]["data"] == "山彦"
        assert await visitor.message() == "山彦"
        assert await peer.say({"id": 3, "publish": {"channel": f"kept/{room}-{kind}", "data": {"by": kind}}}) == 204
        assert await visitor.message() == {"by": kind}


async def test_what_is_said_in_many_requests_is_heard_in_their_order(ours: Running, room: str):
    async with stream(ours) as peer, visit(ours, f"kept/{room}") as visitor:
        await peer.join(f"kept/{room}")
        for number in range(30):
            await peer.say({"id": 3 + number, "publish": {"channel": f"kept/{room}", "data": number}})
        assert await visitor.messages(30) == list(range(30))


async def test_it_is_written_at_once_and_kept_by_no_proxy(server: Running):
    async with stream(server) as peer:
        headers = peer.response.headers
        assert headers["Content-Type"] == "application/json"
        assert headers["X-Accel-Buffering"] == "no"
        assert "no-store" in headers["Cache-Control"]


async def test_events_begin_with_a_line_break_and_are_each_a_reply(ours: Running):
    async with stream(ours, kind="sse") as peer:
        assert peer.response.headers["Content-Type"] == "text/event-stream"


async def test_protobuf_goes_both_ways(ours: Running):
    peer = ProtobufPeer()
    url = f"http://127.0.0.1:{ours.port}"
    async with (
        aiohttp.ClientSession(headers={"Content-Type": BYTES}) as http,
        http.post(f"{url}/connection/http_stream", data=peer.sends(CONNECT)) as response,
    ):
        assert response.headers["Content-Type"] == BYTES
        (connected,) = peer.reads(Frame(await response.content.readany(), is_text=False))
        where = {key: connected["connect"][key] for key in ("node", "session")}
        data = peer.sends({"id": 2, "rpc": {"method": "whoami"}})
        body = compiled("EmulationRequest")(**where, data=data).SerializeToString()
        async with http.post(f"{url}/emulation", data=body) as answer:
            assert answer.status == 204
        (reply,) = peer.reads(Frame(await response.content.readany(), is_text=False))
        assert reply["id"] == 2


async def test_who_goes_away_leaves_its_rooms(server: Running, room: str):
    async with visit(server, f"kept/{room}", "?presence=1") as watcher:
        await watcher.presence()
        async with stream(server) as peer:
            await peer.join(f"kept/{room}")
            assert "joined" in await watcher.presence()
        assert "left" in await watcher.presence()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/emulation", b"{", 400),
        ("/emulation", b'{"session":"a"}', 400),
        ("/emulation", b'{"session":"a","node":"nowhere","data":""}', 404),
        ("/emulation", b"\xff", 400),
        ("/emulation", b'{"session":"\xff","node":"a","data":""}', 400),
        ("/emulation", b'{"more":' + b"[" * 60_000, 400),
        ("/connection/http_stream", b"\xff\xfe", 400),
        ("/connection/http_stream", b" " * 70_000, 413),
        ("/emulation", b" " * 70_000, 413),
    ],
    ids=[
        "broken",
        "incomplete",
        "another node",
        "no text",
        "no text in a value",
        "too deep",
        "no text at the beginning",
        "too large",
        "too large later",
    ],
)
async def test_what_cannot_be_is_told(server: Running, path: str, body: bytes, status: int):
    headers = {"Content-Type": "application/json"}
    assert (await request(server, "POST", path, data=body, headers=headers))[0] == status


async def test_a_session_that_is_not_known_is_told_nothing(ours: Running):
    async with stream(ours) as peer:
        peer.session = "guessed"
        assert await peer.say({"id": 2, "rpc": {"method": "whoami"}}) == 204


def waiting(room: str) -> list[dict[str, Any]]:
    """Return commands of which the last is not done before somebody opens the gate."""
    channel = f"gate/{room}"
    return [
        {"id": 2, "subscribe": {"channel": channel}},
        {"id": 3, "publish": {"channel": channel, "data": "wait"}},
    ]


async def open_gate(server: Running, room: str) -> None:
    async with visit(server, f"gate/{room}") as visitor:
        await visitor.say("open")
        assert await visitor.message() == "open"


async def until_it_ends(peer: Stream) -> None:
    with suppress(ConnectionError):
        while True:
            await peer.hear()


@pytest.mark.parametrize(("number", "characters"), [(140, 10), (20, 60_000)], ids=["too many", "too many bytes"])
async def test_who_says_too_much_to_a_busy_handler_is_closed(ours: Running, room: str, number: int, characters: int):
    async with stream(ours, *waiting(room)) as peer:
        call = {"id": 4, "rpc": {"method": "whoami", "data": {"filling": "x" * characters}}}
        statuses = await asyncio.gather(*[peer.say(call) for _ in range(number)])
        assert (statuses.count(429), statuses.count(204)) == (1, number - 1)
        await until_it_ends(peer)
        await open_gate(ours, room)


async def test_what_is_said_to_a_busy_handler_is_heard_when_it_is_free(ours: Running, room: str):
    async with stream(ours, *waiting(room)) as peer:
        said = asyncio.gather(*[peer.say({"id": 4 + n, "rpc": {"method": "whoami"}}) for n in range(100)])
        await open_gate(ours, room)
        assert await said == [204] * 100
        answered = set()
        while len(answered) < 102:
            answered.add((await peer.hear()).get("id", 2))
        assert answered == set(range(2, 104))


async def test_who_goes_away_while_its_first_frame_is_handled_leaves_its_rooms(ours: Running, room: str):
    join = {"id": 4, "subscribe": {"channel": f"crowd/{room}", "join_leave": True}}
    async with visit(ours, f"crowd/{room}", "?presence=1") as watcher:
        await watcher.presence()
        async with stream(ours, join, *waiting(room)):
            assert "joined" in await watcher.presence()
        assert "left" in await watcher.presence()
    await open_gate(ours, room)


async def never_reading(server: Running, room: str) -> socket.socket:
    """Return the socket of a peer that is in a room and reads no more."""
    link = socket.socket()
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    link.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(link, ("127.0.0.1", server.port))
    body = "\n".join(map(json.dumps, (CONNECT, {"id": 2, "subscribe": {"channel": room}}))).encode()
    head = f"POST /connection/http_stream HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
    await loop.sock_sendall(link, head.encode() + body)
    heard = b""
    while b'"subscribe"' not in heard:
        heard += await loop.sock_recv(link, 1000)
    return link


def is_established(server: Running, link: socket.socket) -> bool:
    """Tell whether the server still has its end of a socket."""
    ends = tuple(f"0100007F:{port:04X}" for port in (server.port, link.getsockname()[1]))
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    return any((line[1], line[2]) == ends and line[3] == ESTABLISHED for line in lines)


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="Linux tells who has which socket")
@pytest.mark.parametrize("limits", [{}, PATIENT | {"WRITE_TIMEOUT_SECONDS": 1}], ids=["backlog", "time"])
@pytest.mark.parametrize("kind", [SERVE, UVICORN], ids=lambda kind: kind.name)
async def test_a_peer_that_never_reads_is_cut_off(servers: Servers, kind: Kind, limits: dict[str, int], room: str):
    async with servers.meanwhile(kind, SITE_YAMABIKO=json.dumps(limits)) as server:
        with await never_reading(server, f"open/{room}") as link:
            assert is_established(server, link)
            async with visit(server, f"open/{room}") as visitor:
                for _ in range(120):
                    await visitor.say("x" * 60_000)
                    await visitor.message()
            async with asyncio.timeout(PATIENCE_SECONDS):
                while "serve_stream" in str(await get(server, "/tasks/")) or is_established(server, link):
                    pass
        assert not [line for line in server.printed if "ERROR" in line or "Traceback" in line]


async def test_the_first_frame_must_connect(ours: Running):
    async with aiohttp.ClientSession() as http:
        url = f"http://127.0.0.1:{ours.port}/connection/http_stream"
        async with http.post(url, json={"id": 1, "subscribe": {"channel": "open/a"}}) as response:
            assert json.loads((await response.read()).strip()) == {
                "push": {"disconnect": {"code": 3501, "reason": "bad request"}}
            }


@pytest.mark.parametrize(("method", "path"), [("GET", "/emulation"), ("GET", "/connection/http_stream")])
async def test_another_method_is_refused(ours: Running, method: str, path: str):
    assert (await request(ours, method, path))[0] == 405


@pytest.mark.parametrize(
    "first",
    [
        "",
        "{",
        json.dumps({"id": 1, "rpc": {"method": "whoami"}}),
        json.dumps(CONNECT) + "\n" + json.dumps({"id": 2, "rpc": {"method": "whoami"}}),
    ],
    ids=["nothing", "no command", "another command", "another command behind it"],
)
async def test_what_is_asked_for_by_get_connects_and_does_nothing_else(ours: Running, first: str):
    """Others may have made the visitor's browser ask for it."""
    assert (await request(ours, "GET", f"/connection/sse?cf_connect={urllib.parse.quote(first)}"))[0] == 400


async def test_a_page_of_another_site_is_refused(server: Running):
    for path in ("/connection/http_stream", "/emulation", "/connection/sse"):
        status, _ = await request(server, "POST", path, json=CONNECT, headers={"Origin": "https://evil.example"})
        assert status == 403


async def test_a_page_of_this_site_may_ask_before_and_read_the_answer(server: Running):
    origin = f"http://127.0.0.1:{server.port}"
    asked = {"Origin": origin, "Access-Control-Request-Headers": "content-type"}
    status, headers = await request(server, "OPTIONS", "/connection/http_stream", headers=asked)
    assert status == 204
    assert headers["Access-Control-Allow-Origin"] == origin
    assert headers["Access-Control-Allow-Credentials"] == "true"
    assert headers["Access-Control-Allow-Headers"] == "content-type"


async def test_a_browser_that_sends_no_origin_may_bring_its_session_from_this_site_alone(ours: Running):
    """An EventSource of the page's own site sends none."""
    cookie = f"sessionid={ours.session_key}"
    async with stream(ours, kind="sse", Cookie=cookie, **SCRIPT) as peer:
        await peer.say({"id": 2, "rpc": {"method": "whoami"}})
        assert (await peer.hear())["rpc"]["data"] == "alice"
    query = urllib.parse.quote(json.dumps(CONNECT))
    link = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    for page in ({}, {"Sec-Fetch-Site": "cross-site"}, link):
        headers = {"Cookie": cookie, **page}
        assert (await request(ours, "GET", f"/connection/sse?cf_connect={query}", headers=headers))[0] == 403


async def test_other_requests_are_the_projects(ours: Running):
    assert (await request(ours, "GET", "/nothing/"))[0] == 404


async def test_a_server_that_stops_ends_its_streams(servers: Servers):
    async with servers.meanwhile(SERVE) as server:
        async with stream(server) as peer:
            server.signal(signal.SIGTERM)
            assert (await peer.hear())["push"]["disconnect"] == {"code": 3001, "reason": "shutdown"}
            with pytest.raises(ConnectionError):
                await peer.hear()
        assert server.wait() == -signal.SIGTERM


@pytest.fixture
def two_nodes(servers: Servers, redis_server: RedisServer) -> Iterator[tuple[Running, Running]]:
    broker = json.dumps({"BROKER": redis_server.url})
    with servers.new(SERVE, SITE_YAMABIKO=broker) as first, servers.new(SERVE, SITE_YAMABIKO=broker) as second:
        yield first, second


async def until_heard_of(first: Stream, second: Running) -> str:
    """Wait until the second node hands on what the peer of the first one says there; return its address."""
    url = f"http://127.0.0.1:{second.port}"
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await first.say({"id": 100, "rpc": {"method": "whoami"}}, url=url) == 404:
            pass
    return url


@pytest.mark.redis
async def test_another_node_hands_on_what_a_peer_says(two_nodes: tuple[Running, Running]):
    first, second = two_nodes
    async with stream(first) as peer:
        await until_heard_of(peer, second)
        assert (await peer.hear())["id"] == 100


@pytest.mark.redis
async def test_who_says_too_much_through_another_node_is_closed_too(two_nodes: tuple[Running, Running], room: str):
    first, second = two_nodes
    async with stream(first, *waiting(room)) as peer:
        url = await until_heard_of(peer, second)
        statuses = await asyncio.gather(
            *[peer.say({"id": 4, "rpc": {"method": "whoami"}}, url=url) for _ in range(140)]
        )
        assert set(statuses) == {204}
        await until_it_ends(peer)
        await open_gate(first, room)


async def next_passed_on(bus: Any) -> bytes:
    """Return what the next node that passes something on tells the others."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while b"PassOn" not in (message := (await anext(bus.listen()))["data"]):
            pass
    data: bytes = message
    return data


@pytest.mark.redis
async def test_a_session_that_no_node_has_made_is_told_to_no_node(
    two_nodes: tuple[Running, Running], redis_server: RedisServer
):
    first, second = two_nodes
    async with stream(first) as peer, redis.asyncio.from_url(redis_server.url) as client, client.pubsub() as bus:
        url = await until_heard_of(peer, second)
        await bus.psubscribe("*")
        assert (await anext(bus.listen()))["type"] == "psubscribe"
        call = {"id": 4, "rpc": {"method": "whoami"}}
        genuine, (secret, _, proof) = peer.session, peer.session.partition(".")
        for forged in ("guessed", f"guessed.{proof}", f"{secret}.", f"{secret}.{proof[::-1]}"):
            peer.session = forged
            assert await peer.say(call, url=url) == 204
        second.line("a session that its node has not made.*SECRET_KEY")
        peer.session = genuine
        assert await peer.say(call, url=url) == 204
        assert f'"session":"{genuine}"'.encode() in await next_passed_on(bus)
