"""The SDK protocol by HTTP, on real servers: an answer that does not end, and requests that say what the peer says."""

from __future__ import annotations

import asyncio
import json
import signal
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from tests.codecs.sdk_peers import ProtobufPeer, compiled
from tests.redis_server import RedisServer
from tests.redis_server import redis_server as redis_server
from tests.servers.running import DAPHNE, PATIENCE_SECONDS, SERVE, UVICORN, Running, Servers
from tests.servers.visitors import visit
from yamabiko.core.frames import Frame

pytest_plugins = ["tests.servers.fixtures"]
pytestmark = pytest.mark.server

CONNECT: dict[str, Any] = {"id": 1, "connect": {}}
BYTES = "application/octet-stream"


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
async def stream(server: Running, *, kind: str = "http_stream", **headers: str) -> AsyncIterator[Stream]:
    url = f"http://127.0.0.1:{server.port}"
    async with aiohttp.ClientSession(headers=headers) as http:
        if kind == "sse":
            query = urllib.parse.quote(json.dumps(CONNECT))
            request = http.get(f"{url}/connection/sse?cf_connect={query}")
        else:
            request = http.post(f"{url}/connection/{kind}", json=CONNECT)
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
        ("/connection/http_stream", b"\xff\xfe", 400),
        ("/connection/http_stream", b" " * 70_000, 413),
        ("/emulation", b" " * 70_000, 413),
    ],
    ids=["broken", "incomplete", "another node", "no text", "no text at the beginning", "too large", "too large later"],
)
async def test_what_cannot_be_is_told(server: Running, path: str, body: bytes, status: int):
    headers = {"Content-Type": "application/json"}
    assert (await request(server, "POST", path, data=body, headers=headers))[0] == status


async def test_a_session_that_is_not_known_is_told_nothing(ours: Running):
    async with stream(ours) as peer:
        peer.session = "guessed"
        assert await peer.say({"id": 2, "rpc": {"method": "whoami"}}) == 204


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


async def test_events_need_the_first_commands(ours: Running):
    assert (await request(ours, "GET", "/connection/sse"))[0] == 400


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
    async with stream(ours, kind="sse", **{"Cookie": cookie, "Sec-Fetch-Site": "same-origin"}) as peer:
        await peer.say({"id": 2, "rpc": {"method": "whoami"}})
        assert (await peer.hear())["rpc"]["data"] == "alice"
    query = urllib.parse.quote(json.dumps(CONNECT))
    for site in ({}, {"Sec-Fetch-Site": "cross-site"}):
        headers = {"Cookie": cookie, **site}
        assert (await request(ours, "GET", f"/connection/sse?cf_connect={query}", headers=headers))[0] == 403


async def test_other_requests_are_the_projects(ours: Running):
    assert (await request(ours, "GET", "/nothing/"))[0] == 404


async def test_a_server_that_stops_ends_its_streams(servers: Servers):
    with servers.new(SERVE) as server:
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


@pytest.mark.redis
async def test_another_node_hands_on_what_a_peer_says(two_nodes: tuple[Running, Running], room: str):
    first, second = two_nodes
    async with stream(first) as peer:
        url = f"http://127.0.0.1:{second.port}"
        while await peer.say({"id": 2, "rpc": {"method": "whoami"}}, url=url) == 404:
            pass  # the second node may not have heard of the first one yet
        assert (await peer.hear())["id"] == 2
