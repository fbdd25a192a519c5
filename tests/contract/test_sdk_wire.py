"""The SDK protocol as it is on the wire, spoken by a client that knows no SDK, on each kind of server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode

from tests.codecs.sdk_peers import JsonPeer, ProtobufPeer
from tests.servers.running import KINDS, PATIENCE_SECONDS, Kind, Running, Servers
from tests.servers.visitors import Visitor
from yamabiko.core.frames import Frame

pytest_plugins = ["tests.servers.fixtures"]
pytestmark = pytest.mark.server

LIMIT_BYTES = 65_536
QUICKLY = json.dumps({"PING_INTERVAL_SECONDS": 2, "PONG_TIMEOUT_SECONDS": 1})
PEERS = {"centrifuge-json": JsonPeer(), "centrifuge-protobuf": ProtobufPeer()}
CONNECT = {"id": 1, "connect": {}}


class Guest(Visitor):
    """One connection for all rooms. Frames are taken apart: `hear` returns one reply at a time."""

    def __init__(self, link: ClientConnection, peer: Any) -> None:
        super().__init__(link)
        self._peer = peer
        self._unread: list[dict[str, Any]] = []

    async def says(self, *commands: dict[str, Any]) -> None:
        await self.send(self._peer.sends(*commands))

    async def hear(self) -> dict[str, Any]:
        """Return the next reply, pings included."""
        while not self._unread:
            async with asyncio.timeout(PATIENCE_SECONDS):
                payload = await self.link.recv()
            is_text = isinstance(payload, str)
            self._unread = self._peer.reads(Frame(payload.encode() if is_text else payload, is_text=is_text))
        return self._unread.pop(0)

    async def asks(self, command_id: int, **request: Any) -> Any:
        """Send a command and return what the next reply, which answers it, says."""
        await self.says({"id": command_id, **request})
        reply = await self.hear()
        assert reply.pop("id") == command_id
        ((_, said),) = reply.items()
        return said

    async def last_words(self) -> tuple[list[dict[str, Any]], int, str]:
        """Return what is still heard, and the code and reason of the close frame."""
        heard = []
        try:
            while True:
                heard.append(await self.hear())
        except ConnectionClosed as closed:
            return (heard, closed.rcvd.code, closed.rcvd.reason) if closed.rcvd is not None else (heard, 1006, "")


@asynccontextmanager
async def guest(
    server: Running, query: str = "", *, subprotocols: list[str] | None = None, peer: Any = None
) -> AsyncIterator[Guest]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        link = await connect(
            f"ws://127.0.0.1:{server.port}/connection/websocket{query}",
            subprotocols=subprotocols,
            compression=None,
            max_size=None,
            max_queue=None,
            ping_interval=None,
            close_timeout=5,
        )
    try:
        yield Guest(link, peer or PEERS[link.subprotocol or "centrifuge-json"])
    finally:
        await link.close()


async def closed_with(visitor: Guest, server: Running, code: int, reason: str) -> list[dict[str, Any]]:
    """See that the server ends the connection, and says why in words before; return what was heard before those."""
    *heard, last = (words := await visitor.last_words())[0]
    assert last == {"push": {"disconnect": {"code": code, "reason": reason}}}
    assert words[1] == code
    # Some servers lose the reason: hence the words.
    assert words[2] == (reason if server.kind.knows_close_codes else "")
    return heard


# The encoding


@pytest.mark.parametrize(
    ("offered", "accepted"),
    [
        (["centrifuge-protobuf"], "centrifuge-protobuf"),
        (["centrifuge-json"], "centrifuge-json"),
        (["something", "centrifuge-json"], "centrifuge-json"),
        (["something"], None),
        (None, None),
    ],
    ids=str,
)
async def test_a_subprotocol_that_is_offered_is_accepted(
    server: Running, offered: list[str] | None, accepted: str | None
):
    async with guest(server, subprotocols=offered) as visitor:
        assert visitor.link.subprotocol == accepted
        assert (await visitor.asks(1, connect={}))["client"]


@pytest.mark.parametrize("query", ["?format=protobuf", "?cf_protocol=protobuf", "?x=1&format=protobuf"])
async def test_a_query_asks_for_protobuf_too(server: Running, query: str):
    async with guest(server, query, peer=PEERS["centrifuge-protobuf"]) as visitor:
        assert visitor.link.subprotocol is None
        assert (await visitor.asks(1, connect={}))["client"]


@pytest.mark.parametrize("query", ["?format=json", "?unknown=1&other", "?=&&"])
async def test_any_other_query_is_passed_over(server: Running, query: str):
    async with guest(server, query) as visitor:
        assert (await visitor.asks(1, connect={}))["client"]


async def test_an_empty_subprotocol_header_is_none(server: Running):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    request = (
        f"GET /connection/websocket HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Protocol: \r\n\r\n"
    )
    writer.write(request.encode())
    async with asyncio.timeout(PATIENCE_SECONDS):
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
    writer.close()
    await writer.wait_closed()
    # Stock uvicorn refuses it by itself.
    assert answer.split()[1] == (b"400" if server.kind.name == "uvicorn" else b"101")
    assert b"sec-websocket-protocol" not in answer


# Commands


@pytest.fixture(params=PEERS)
def subprotocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_connect_and_everything_after_it_may_come_in_one_frame(server: Running, subprotocol: str, room: str):
    channel = f"kept/{room}"
    async with guest(server, subprotocols=[subprotocol]) as visitor:
        publishes = [{"id": 3 + number, "publish": {"channel": channel, "data": number}} for number in range(50)]
        await visitor.says(CONNECT, {"id": 2, "subscribe": {"channel": channel}}, *publishes)
        assert (await visitor.hear())["id"] == 1
        assert (await visitor.hear())["id"] == 2
        answered: list[int] = []
        published: list[int] = []
        while len(answered) < 50 or len(published) < 50:
            reply = await visitor.hear()
            if "push" in reply:
                published.append(reply["push"]["pub"]["data"])
                assert reply["push"]["pub"]["offset"] == len(published)
            else:
                answered.append(reply["id"])
        assert answered == [3 + number for number in range(50)]
        assert published == list(range(50))


async def test_what_a_client_of_a_later_version_adds_is_passed_over(server: Running):
    async with guest(server) as visitor:
        await visitor.send('{"id":1,"connect":{"flag":3,"dict":"x","later":[1]},"even":{"later":true}}\n')
        assert (await visitor.hear())["connect"]["client"]


async def test_unknown_fields_of_protobuf_are_passed_over(server: Running):
    async with guest(server, subprotocols=["centrifuge-protobuf"]) as visitor:
        # id 1, connect with a field 100 of two bytes, and a field 200
        unknown = b"\x08\x01" + b"\x22\x05\xa2\x06\x02hi" + b"\xc2\x0c\x01x"
        await visitor.send(bytes([len(unknown)]) + unknown)
        assert (await visitor.hear())["connect"]["client"]


async def test_recovery_over_a_new_connection(server: Running, subprotocol: str, room: str):
    channel = f"kept/{room}"
    async with guest(server, subprotocols=[subprotocol]) as visitor:
        await visitor.asks(1, connect={})
        began = await visitor.asks(2, subscribe={"channel": channel})
        async with guest(server) as other:
            await other.asks(1, connect={})
            await other.asks(2, subscribe={"channel": channel})
            for number in range(3):
                await other.says({"id": 3 + number, "publish": {"channel": channel, "data": {"n": number}}})
            for number in range(3):
                assert (await visitor.hear())["push"]["pub"]["data"] == {"n": number}
    async with guest(server, subprotocols=[subprotocol]) as visitor:
        await visitor.asks(1, connect={})
        since = {"recover": True, "epoch": began["epoch"], "offset": 1}
        result = await visitor.asks(2, subscribe={"channel": channel, **since})
        assert result["recovered"] is True
        assert [each["data"] for each in result["publications"]] == [{"n": 1}, {"n": 2}]


# What ends a connection


JSON_MISTAKES = {
    "empty": "",
    "blank": " \n ",
    "not JSON": "hello",
    "cut off": '{"id":1,"connect":{',
    "a list": "[]",
    "binary": b"{}",
    "binary JSON": json.dumps(CONNECT).encode(),
    "too early": '{"id":1,"subscribe":{"channel":"room"}}',
    "no id": '{"connect":{}}',
    "a pong of no ping": "{}",
    "deep": '{"id":1,"connect":{"unknown":' + "[" * 30_000 + "]" * 30_000 + "}}",
    "an id that is none": '{"id":-1,"connect":{}}',
    "a huge id": '{"id":99999999999999999999999,"connect":{}}',
}
PROTOBUF_MISTAKES = {
    "empty": b"",
    "text": "hello",
    "text JSON": json.dumps(CONNECT),
    "a varint without an end": b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    "a varint cut off": b"\x80",
    "a huge length": b"\xff\xff\xff\xff\x0f",
    "longer than there is": b"\x05\x08\x01",
    "not Protobuf": b"\x04\xff\xff\xff\xff",
    "invalid UTF-8": b"\x08\x08\x01\x22\x04\x0a\x02\xc3\x28",
    "a pong of no ping": b"\x00",
    "too early": ProtobufPeer().sends({"id": 1, "subscribe": {"channel": "room"}}),
}


def mistakes() -> Iterator[Any]:
    """Yield every mistake with the subprotocol in which it is made."""
    for subprotocol, payloads in (("centrifuge-json", JSON_MISTAKES), ("centrifuge-protobuf", PROTOBUF_MISTAKES)):
        for name, payload in payloads.items():
            yield pytest.param(subprotocol, payload, id=f"{subprotocol.removeprefix('centrifuge-')}, {name}")


@pytest.mark.parametrize(("subprotocol", "payload"), list(mistakes()))
async def test_a_first_frame_that_is_none_ends_the_connection(server: Running, subprotocol: str, payload: Any):
    async with guest(server, subprotocols=[subprotocol]) as visitor:
        await visitor.send(payload)
        assert await closed_with(visitor, server, 3501, "bad request") == []


async def test_a_second_connect_ends_the_connection(server: Running, subprotocol: str):
    async with guest(server, subprotocols=[subprotocol]) as visitor:
        await visitor.says(CONNECT, {"id": 2, "connect": {}}, {"id": 3, "ping": {}})
        (heard,) = await closed_with(visitor, server, 3501, "bad request")
        assert heard["id"] == 1


async def test_what_nobody_takes_ends_the_connection(server: Running, subprotocol: str):
    async with guest(server, subprotocols=[subprotocol]) as visitor:
        await visitor.asks(1, connect={})
        await visitor.says({"send": {"data": {"a": 1}}})
        assert await closed_with(visitor, server, 3508, "not available") == []


async def test_a_deep_payload_is_refused_and_the_connection_lives(server: Running, room: str):
    async with guest(server) as visitor:
        await visitor.asks(1, connect={})
        await visitor.asks(2, subscribe={"channel": f"open/{room}"})
        deep = "[" * 100 + "]" * 100
        await visitor.send('{"id":3,"publish":{"channel":"open/' + room + '","data":' + deep + "}}")
        assert (await visitor.hear())["error"]["code"] == 107
        await visitor.says({"id": 4, "publish": {"channel": f"open/{room}", "data": 1}})
        assert {tuple(await visitor.hear()) for _ in range(2)} == {("id", "publish"), ("push",)}


@pytest.mark.parametrize("size", [LIMIT_BYTES, LIMIT_BYTES + 1, 900_000])
async def test_a_frame_that_is_too_large_ends_the_connection(server: Running, subprotocol: str, size: int):
    async with guest(server, subprotocols=[subprotocol]) as visitor:
        await visitor.asks(1, connect={})
        payload = " " * (size - 2) + "{}" if subprotocol == "centrifuge-json" else b"\0" * size
        await visitor.send(payload)
        heard, code, _ = await visitor.last_words()
        if size == LIMIT_BYTES:
            assert code == 3501  # only a pong that nobody asked for
        elif server.kind.knows_close_codes:
            assert (heard, code) == ([], 1009)
        else:
            assert code == 3501
            assert heard == [{"push": {"disconnect": {"code": 3501, "reason": "message too big"}}}]


async def test_a_close_of_the_peer_is_answered(server: Running):
    async with guest(server) as visitor:
        await visitor.asks(1, connect={})
        async with asyncio.timeout(PATIENCE_SECONDS):
            await visitor.link.close(3000, "connection closed")
        assert visitor.link.protocol.close_rcvd is not None


# Pings


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    picked: Kind = request.param
    return picked


async def test_pings_come_on_time_also_to_who_is_busy_and_who_does_not_answer_is_closed(
    servers: Servers, kind: Kind, room: str
):
    channel = f"open/{room}"
    async with (
        servers.meanwhile(kind, SITE_YAMABIKO=QUICKLY) as server,
        guest(server) as answering,
        guest(server) as silent,
    ):
        for each in (answering, silent):
            result = await each.asks(1, connect={})
            assert (result["ping"], result["pong"]) == (2, True)
            await each.asks(2, subscribe={"channel": channel})
        async with asyncio.TaskGroup() as group:
            pinged = group.create_task(answers_pings(answering, channel, times=2))
            ended = group.create_task(silent.last_words())
        assert pinged.result() > 100
        heard, code, _ = ended.result()
        assert code == 3012
        assert heard[-1] == {"push": {"disconnect": {"code": 3012, "reason": "no pong"}}}
        assert [reply for reply in heard if not reply] == [{}]
        assert any("pub" in reply.get("push", {}) for reply in heard)


async def answers_pings(visitor: Guest, channel: str, *, times: int) -> int:
    """Publish again and again, answer pings, and return how many publications came back meanwhile."""
    pings, publications = 0, 0
    await visitor.says({"id": 3, "publish": {"channel": channel, "data": 1}})
    while pings < times:
        reply = await visitor.hear()
        if not reply:
            pings += 1
            await visitor.send("{}")
        elif "push" in reply:
            publications += 1
            await visitor.says({"id": 3 + publications, "publish": {"channel": channel, "data": 1}})
    return publications


async def test_who_asks_for_websocket_s_own_pings_is_told_of_no_others(servers: Servers, our_kind: Kind):
    async with (
        servers.meanwhile(our_kind, SITE_YAMABIKO=QUICKLY) as server,
        guest(server, "?cf_ws_frame_ping_pong=true") as visitor,
    ):
        pings = visitor.received(Opcode.PING)
        result = await visitor.asks(1, connect={})
        assert "ping" not in result
        assert "pong" not in result
        async with asyncio.timeout(PATIENCE_SECONDS):
            for _ in range(2):
                await pings.get()
        # The next reply is the answer: no ping of the protocol's own was before it.
        assert (await visitor.asks(2, ping={}))["code"] == 108


async def test_any_server_takes_who_wants_no_pings_of_the_protocol(server: Running):
    async with guest(server, "?cf_ws_frame_ping_pong=true") as visitor:
        assert "ping" not in await visitor.asks(1, connect={})
        await visitor.send("{}")
        assert await closed_with(visitor, server, 3501, "bad request") == []
