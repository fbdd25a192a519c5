"""The HTTP API as backends use it: `cent`, unchanged, against real servers, in memory and with two nodes on Redis."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import cent
import pytest
import requests

from tests.django.api_contract import KEY, check_answer
from tests.redis_server import RedisServer, server_program, until
from tests.redis_server import redis_server as redis_server
from tests.servers.running import PATIENCE_SECONDS, SERVE, Kind, Running, Servers, serving
from tests.servers.visitors import Visitor, visit

pytest_plugins = ["tests.servers.fixtures"]
pytestmark = pytest.mark.server

SETTINGS = "tests.servers.api_settings"
ALICE = "1"
"""The id of the user who is signed in."""

Ask = Callable[[Any], Awaitable[Any]]
"""Sends a request with one of cent's clients and returns the result."""


def site(broker: str = "memory://", **more: Any) -> dict[str, str]:
    return {"DJANGO_SETTINGS_MODULE": SETTINGS, "SITE_YAMABIKO": json.dumps({"API_KEY": KEY, "BROKER": broker} | more)}


@pytest.fixture(scope="session")
def alone(servers: Servers) -> Iterator[Running]:
    with servers.new(SERVE, **site()) as server:
        yield server


@pytest.fixture(scope="session")
def two(servers: Servers, redis_server: RedisServer) -> Iterator[tuple[Running, Running]]:
    """Two servers, which share a broker."""
    variables = site(redis_server.url, PREFIX="api")
    with servers.new(SERVE, **variables) as one, servers.new(SERVE, **variables) as other:
        yield one, other


@pytest.fixture(params=["alone", pytest.param("two", marks=pytest.mark.redis)])
def nodes(request: pytest.FixtureRequest) -> tuple[Running, Running]:
    """Where backends ask, and where clients are: the same server, and two."""
    found = request.getfixturevalue(request.param)
    return found if isinstance(found, tuple) else (found, found)


@pytest.fixture
def backend(nodes: tuple[Running, Running]) -> Running:
    return nodes[0]


@pytest.fixture
def front(nodes: tuple[Running, Running]) -> Running:
    return nodes[1]


@pytest.fixture(params=["sync", "async"])
async def ask(request: pytest.FixtureRequest, backend: Running) -> AsyncIterator[Ask]:
    if request.param == "async":
        async with aiohttp.ClientSession(middlewares=(checking,)) as session:
            client = cent.AsyncClient(url_of(backend), KEY, session=session)
            yield lambda wish: getattr(client, wish.api_method)(wish)
    else:
        with requests.Session() as session:
            session.hooks["response"].append(check_response)
            sync_client = cent.Client(url_of(backend), KEY, session=session)
            yield lambda wish: asyncio.to_thread(getattr(sync_client, wish.api_method), wish)


def url_of(server: Running) -> str:
    return f"http://127.0.0.1:{server.port}/api"


def check_response(response: requests.Response, **options: Any) -> None:
    check_answer(response.url.rpartition("/")[2], response.status_code, response.json())


async def checking(request: Any, handler: Any) -> Any:
    response = await handler(request)
    check_answer(request.url.name, response.status, await response.json())
    return response


class Client(Visitor):
    """A client that speaks the SDK protocol."""

    id = ""

    async def told(self, **command: Any) -> Any:
        """Send a command and return its result; pushes on the way are lost."""
        [name] = command
        await self.send(json.dumps({"id": 1, **command}))
        while name not in (reply := await self.reply()):
            pass
        return reply[name]

    async def reply(self) -> Any:
        reply = await self.hear()
        assert "error" not in reply, reply
        return reply

    async def pushed(self, kind: str) -> Any:
        """Return the next push of a kind."""
        while kind not in (push := (await self.reply()).get("push", {})):
            pass
        return push[kind]

    async def hear(self) -> Any:
        async with asyncio.timeout(PATIENCE_SECONDS):
            lines = (await self.link.recv()).split("\n")
        assert len(lines) == 1, lines
        return json.loads(lines[0])


@asynccontextmanager
async def connected(server: Running, *rooms: str) -> AsyncIterator[Client]:
    """Be connected as alice, and subscribed to rooms, for as long as the block lasts."""
    async with visit(
        server, "", under="/connection/websocket", is_signed_in=True, origin=f"http://127.0.0.1:{server.port}"
    ) as visitor:
        client = Client(visitor.link)
        client.id = (await client.told(connect={}))["client"]
        for room in rooms:
            await client.told(subscribe={"channel": room})
        yield client


async def test_a_publication_reaches_a_client(ask: Ask, front: Running, room: str) -> None:
    async with connected(front, f"kept/{room}") as client:
        position = await ask(cent.PublishRequest(channel=f"kept/{room}", data={"a": "山"}, tags={"kind": "b"}))
        pushed = await client.pushed("pub")
    assert pushed == {"data": {"a": "山"}, "offset": 1, "tags": {"kind": "b"}}
    history = await ask(cent.HistoryRequest(channel=f"kept/{room}", limit=10))
    assert (history.epoch, history.offset) == (position.epoch, position.offset)
    assert [(kept.data, kept.offset, kept.tags) for kept in history.publications] == [({"a": "山"}, 1, {"kind": "b"})]


async def test_history_can_be_skipped_removed_and_read_since_a_position(ask: Ask, room: str) -> None:
    name = f"kept/{room}"
    positions = [
        await ask(cent.PublishRequest(channel=name, data=number, idempotency_key=str(number))) for number in (1, 2, 2)
    ]
    assert [position.offset for position in positions] == [1, 2, 2]
    assert (await ask(cent.PublishRequest(channel=name, data=3, skip_history=True))).offset == 0
    since = cent.StreamPosition(offset=1, epoch=positions[0].epoch)
    history = await ask(cent.HistoryRequest(channel=name, limit=-1, since=since))
    assert [kept.data for kept in history.publications] == [2]
    await ask(cent.HistoryRemoveRequest(channel=name))
    history = await ask(cent.HistoryRequest(channel=name, limit=-1))
    assert (history.publications, history.offset) == ([], 2)


async def test_a_broadcast_reaches_each_room(ask: Ask, front: Running, room: str) -> None:
    async with connected(front, f"kept/{room}", f"open/{room}") as client:
        request = cent.BroadcastRequest(channels=[f"kept/{room}", "nowhere", f"open/{room}"], data="all")
        first, second, third = (await ask(request)).responses
        heard = [await client.pushed("pub") for _ in range(2)]
        assert sorted(heard, key=len) == [{"data": "all"}, {"data": "all", "offset": 1}]  # rooms are not in an order
    assert (first.result.offset, second.error.code, third.error) == (1, 102, None)


async def test_an_error_is_raised_with_its_code(ask: Ask) -> None:
    for request, code in (
        (cent.PublishRequest(channel="nowhere", data=1), 102),
        (cent.PublishRequest(channel="", data=1), 107),
        (cent.HistoryRequest(channel="open/a"), 108),
        (cent.UnsubscribeRequest(user="", channel="open/a"), 107),
    ):
        with pytest.raises(cent.CentApiResponseError) as raised:
            await ask(request)
        assert raised.value.code == code


async def test_presence_is_told(ask: Ask, front: Running, room: str) -> None:
    async with connected(front, f"kept/{room}") as client:
        presence = (await ask(cent.PresenceRequest(channel=f"kept/{room}"))).presence
        while not presence:  # it is told together with others, a moment later
            presence = (await ask(cent.PresenceRequest(channel=f"kept/{room}"))).presence
        assert {id: (info.user, info.conn_info) for id, info in presence.items()} == {
            client.id: (ALICE, {"name": "alice"})
        }
        counts = await ask(cent.PresenceStatsRequest(channel=f"kept/{room}"))
    assert (counts.num_clients, counts.num_users) == (1, 1)


async def test_a_client_is_put_into_a_room_and_taken_out(ask: Ask, front: Running, room: str) -> None:
    async with connected(front) as client:
        name = f"kept/{room}"
        await ask(
            cent.SubscribeRequest(user=ALICE, client=client.id, channel=name, data={"hello": 1}, info={"seat": 2})
        )
        assert (await client.pushed("subscribe"))["data"] == {"hello": 1}
        await ask(cent.PublishRequest(channel=name, data="heard"))
        assert (await client.pushed("pub"))["data"] == "heard"
        await ask(cent.UnsubscribeRequest(user=ALICE, client=client.id, channel=name))
        assert (await client.pushed("unsubscribe"))["code"] == 2000


async def test_a_client_is_disconnected_and_another_stays(ask: Ask, front: Running) -> None:
    async with connected(front) as client, connected(front) as spared:
        await ask(
            cent.DisconnectRequest(
                user=ALICE, whitelist=[spared.id], disconnect=cent.Disconnect(code=4500, reason="moved out")
            )
        )
        assert await client.closed() == (4500, "moved out")
        assert await spared.told(subscribe={"channel": "open/still-here"}) == {}
        await ask(cent.DisconnectRequest(user=ALICE, client=spared.id))
        assert await spared.closed() == (3503, "force disconnect")
    async with connected(front) as client:
        await ask(cent.DisconnectRequest(user=ALICE, disconnect=cent.Disconnect(code=4001)))
        assert await client.closed() == (4001, "force disconnect")


async def test_a_connection_is_ended_by_a_refresh(ask: Ask, front: Running) -> None:
    async with connected(front) as client:
        await ask(cent.RefreshRequest(user=ALICE, client=client.id))
        assert await client.pushed("refresh") == {}
        await ask(cent.RefreshRequest(user=ALICE, client=client.id, expired=True))
        assert (await client.closed())[0] == 3005


async def test_rooms_of_all_nodes_are_listed(ask: Ask, backend: Running, front: Running) -> None:
    name = f"open/{uuid4()}"
    async with connected(front, name), connected(backend, name), connected(front, f"{name}/other"):
        channels = (await ask(cent.ChannelsRequest(pattern=f"{name}*"))).channels
        assert {name: info.num_clients for name, info in channels.items()} == {name: 2, f"{name}/other": 1}
        assert list((await ask(cent.ChannelsRequest(pattern=f"{name}/*"))).channels) == [f"{name}/other"]
        assert {name, f"{name}/other"} <= set((await ask(cent.ChannelsRequest())).channels)


async def test_all_nodes_are_known(ask: Ask, nodes: tuple[Running, Running]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(known := (await ask(cent.InfoRequest())).nodes) < len(set(nodes)):
            pass
    assert len({node.uid for node in known}) == len({node.name for node in known}) == len(set(nodes))
    assert all(node.uptime >= 0 and node.version for node in known)


@pytest.mark.parametrize("parallel", [False, True])
async def test_a_batch_does_all_of_them(ask: Ask, front: Running, room: str, parallel: bool) -> None:
    async with connected(front, f"kept/{room}") as client:
        wishes = [cent.PublishRequest(channel=f"kept/{room}", data=number) for number in range(3)]
        others = [cent.InfoRequest(), cent.PresenceRequest(channel=f"kept/{room}")]
        answer = await ask(cent.BatchRequest(requests=[*wishes, *others], parallel=parallel))
        heard = [(await client.pushed("pub"))["data"] for _ in range(3)]
    assert [type(reply) for reply in answer.replies] == [
        *[cent.PublishResult] * 3,
        cent.InfoResult,
        cent.PresenceResult,
    ]
    assert sorted(heard) == sorted(reply.offset - 1 for reply in answer.replies[:3]) == [0, 1, 2]
    assert parallel or heard == [0, 1, 2]


def test_a_wrong_key_is_refused_and_the_log_says_where_from(servers: Servers) -> None:
    with servers.new(SERVE, **site()) as server:
        with cent.Client(url_of(server), "wrong-" + KEY) as client, pytest.raises(cent.CentUnauthorizedError):
            client.info(cent.InfoRequest())
        refused = requests.post(f"{url_of(server)}/info?api_key=wrong-{KEY}", json={}, timeout=PATIENCE_SECONDS)
        assert (refused.status_code, refused.content) == (401, b"")
        server.line(r"refused a request to the HTTP API without the right key, from: 127\.0\.0\.1")
    assert "Traceback" not in "\n".join(server.printed)


def test_without_a_key_there_is_no_api(servers: Servers) -> None:
    with servers.new(SERVE, DJANGO_SETTINGS_MODULE=SETTINGS) as server, cent.Client(url_of(server), KEY) as client:
        with pytest.raises(cent.CentTransportError) as raised:
            client.info(cent.InfoRequest())
        assert raised.value.status_code == 404


PROGRAM = """
from wsgiref.simple_server import make_server
from django.core.wsgi import get_wsgi_application

server = make_server("127.0.0.1", 0, get_wsgi_application())
print("on port", server.server_port)
server.serve_forever()
"""
WSGI = Kind("wsgi", ("-c", PROGRAM), r"on port (\d+)")


@pytest.fixture
def wsgi_server(redis_server: RedisServer) -> Iterator[Running]:
    """A process without rooms, of the site that `two` serve."""
    with serving(WSGI, SITE_DATABASE=":memory:", **site(redis_server.url, PREFIX="api")) as server:
        yield server
    assert "Traceback" not in "\n".join(server.printed)


@pytest.mark.redis
async def test_it_is_the_same_behind_a_wsgi_server(
    two: tuple[Running, Running], wsgi_server: Running, room: str
) -> None:
    publish = cent.PublishRequest(channel=f"kept/{room}", data="through WSGI")
    with cent.Client(url_of(wsgi_server), KEY) as client:
        async with connected(two[1], f"kept/{room}") as member:
            assert (await asyncio.to_thread(client.publish, publish)).offset == 1
            assert (await member.pushed("pub"))["data"] == "through WSGI"
            info = await asyncio.to_thread(client.info, cent.InfoRequest())
            assert len(info.nodes) == 2, "who serves no rooms is no node"
            channels = await asyncio.to_thread(client.channels, cent.ChannelsRequest(pattern=f"*{room}"))
            assert channels.channels[f"kept/{room}"].num_clients == 1
            await asyncio.to_thread(client.disconnect, cent.DisconnectRequest(user=ALICE, client=member.id))
            assert (await member.closed())[0] == 3503


@pytest.mark.redis
def test_while_redis_is_down_it_is_error_100_and_works_again_after(servers: Servers, tmp_path: Path) -> None:
    program = server_program()
    assert program is not None
    redis = RedisServer(program, tmp_path)
    redis.start()
    wishes = [
        cent.PublishRequest(channel="kept/a", data=1),
        cent.PublishRequest(channel="open/a", data=1, idempotency_key="a"),
        cent.HistoryRequest(channel="kept/a", limit=1),
        cent.HistoryRemoveRequest(channel="kept/a"),
        cent.PresenceRequest(channel="kept/a"),
        cent.DisconnectRequest(user=ALICE),
        cent.ChannelsRequest(),
    ]
    try:
        with servers.new(SERVE, **site(redis.url)) as server, cent.Client(url_of(server), KEY) as client:
            for wish in wishes:
                getattr(client, wish.api_method)(wish)
            redis.stop()
            for wish in wishes:
                with pytest.raises(cent.CentApiResponseError) as raised:
                    getattr(client, wish.api_method)(wish)
                assert raised.value.code == 100
            redis.start()
            until(lambda: works(client, wishes[0]))
            for wish in wishes:
                getattr(client, wish.api_method)(wish)
    finally:
        redis.stop()
    assert "Traceback" not in "\n".join(server.printed)


def works(client: cent.Client, wish: Any) -> bool:
    try:
        getattr(client, wish.api_method)(wish)
    except cent.CentApiResponseError:
        return False
    return True
