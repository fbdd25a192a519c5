"""Our server: sockets of rooms are adopted, everything else is served as stock uvicorn serves it."""

from __future__ import annotations

import asyncio
import json
import zlib
from contextlib import AsyncExitStack
from typing import Any

import psutil
import pytest
from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode

from tests.servers.running import PATIENCE_SECONDS, SERVE, UVICORN, Kind, Running, Servers
from tests.servers.visitors import Visitor, get, visit

pytest_plugins = ["tests.servers.fixtures"]
pytestmark = pytest.mark.server

SOCKETS_TASK = "WebSocketsSansIOProtocol.run_asgi"
OUR_SOCKETS_ON_UVICORN = ("--ws", "yamabiko.transports.uvicorn:RoomWebSocketProtocol")


@pytest.fixture
def ours(our_kind: Kind, servers: Servers) -> Running:
    return servers[our_kind]


@pytest.fixture(params=[SERVE, UVICORN], ids=lambda kind: kind.name)
def ours_and_stock(request: pytest.FixtureRequest, servers: Servers) -> Running:
    return servers[request.param]


async def tasks(server: Running) -> list[str]:
    names: list[str] = json.loads((await get(server, "/tasks/"))[1])
    return names


async def until_no_socket_owns_a_task(server: Running) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while SOCKETS_TASK in await tasks(server):
            pass


# Adoption


@pytest.mark.parametrize("under", ["/rooms/", "/channels/rooms/"])
async def test_members_own_no_task(ours: Running, room: str, under: str):
    await until_no_socket_owns_a_task(ours)
    before = len(await tasks(ours))
    async with AsyncExitStack() as stack:
        members = [await stack.enter_async_context(visit(ours, f"kept/{room}", under=under)) for _ in range(30)]
        for member in members:
            await member.is_live()
        await until_no_socket_owns_a_task(ours)
        assert len(await tasks(ours)) == before


async def test_members_own_a_task_where_nobody_adopts_them(servers: Servers, room: str):
    async with visit(servers[UVICORN], f"kept/{room}") as member:
        await member.is_live()
        assert SOCKETS_TASK in await tasks(servers[UVICORN])


async def test_what_comes_between_accept_and_adoption_is_not_lost(ours: Running, room: str):
    async with visit(ours, f"open/{room}", under="/late/rooms/") as visitor:
        visitor.write_frame(Opcode.TEXT, b"fir", fin=False)
        await visitor.has_been_read()
        await read_together(visitor, (Opcode.CONT, b"st"), (Opcode.TEXT, "山彦".encode()), (Opcode.BINARY, b"no"))
        await get(ours, "/go-on/")
        heard = [await visitor.hear() for _ in range(3)]
        assert [frame["payload"]["message"] for frame in heard if "payload" in frame] == ["first", "山彦"]
        assert [frame["error"]["code"] for frame in heard if "error" in frame] == [107]
        await visitor.send("live")
        assert await visitor.message() == "live"


async def test_a_fragment_from_before_adoption_is_joined_with_what_follows(ours: Running, room: str):
    async with visit(ours, f"open/{room}", under="/late/rooms/") as visitor:
        visitor.write_frame(Opcode.TEXT, b"half ", fin=False)
        visitor.write_frame(Opcode.CONT, b"and ", fin=False)
        await visitor.has_been_read()
        await get(ours, "/go-on/")
        visitor.write_frame(Opcode.CONT, b"half")
        assert await visitor.message() == "half and half"


async def test_a_peer_that_leaves_before_adoption_leaves_the_room(ours: Running, room: str):
    async with visit(ours, f"kept/{room}", "?presence=1") as watcher:
        await watcher.presence()
        async with visit(ours, f"kept/{room}", under="/late/rooms/") as visitor:
            visitor.write_frames((Opcode.CLOSE, b""))
            await visitor.closed()
        await get(ours, "/go-on/")
        async with visit(ours, f"kept/{room}", "?presence=1") as later:
            assert len((await later.presence())["joined"]) == 2


async def test_what_a_peer_said_before_it_left_before_adoption_is_published(ours: Running, room: str):
    async with visit(ours, f"open/{room}") as reader:
        await reader.is_live()
        async with visit(ours, f"open/{room}", under="/late/rooms/") as visitor:
            visitor.write_frames((Opcode.TEXT, b"last words"), (Opcode.CLOSE, b""))
            await visitor.closed()
        await get(ours, "/go-on/")
        assert await reader.message() == "last words"


async def test_too_much_before_adoption_closes_with_1009(ours: Running, room: str):
    async with visit(ours, f"open/{room}", under="/late/rooms/") as visitor:
        visitor.write_frame(Opcode.TEXT, b"x" * 65_536, fin=False)
        await visitor.has_been_read()
        await read_together(visitor, (Opcode.CONT, b"x"))
        await get(ours, "/go-on/")
        assert (await visitor.closed())[0] == 1009


async def read_together(visitor: Visitor, *frames: tuple[Opcode, bytes]) -> None:
    """Send frames in one segment, and wait until it is read: uvicorn reads no further than a message, for now."""
    pongs = visitor.received(Opcode.PONG)
    visitor.write_frames(*frames, (Opcode.PING, b"together"))
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert (await pongs.get()).data == b"together"


# What is not ours


async def test_an_ordinary_consumer_works(ours_and_stock: Running):
    async with visit(ours_and_stock, "echo", under="/channels/") as visitor:
        for payload in ("hello", b"\x00\xff", ["in ", "fragments"]):
            await visitor.send(payload)
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert await visitor.link.recv() == ("".join(payload) if isinstance(payload, list) else payload)
        await visitor.has_been_read()


async def test_an_ordinary_consumer_and_a_room_consumer_run_side_by_side(ours_and_stock: Running):
    async with (
        visit(ours_and_stock, "echo", under="/channels/") as echo,
        visit(ours_and_stock, "lobby", under="/channels/") as room,
        visit(ours_and_stock, "open/lobby") as same_room,
    ):
        await room.is_live()
        await same_room.is_live()
        assert await room.message() == "I am here"
        await echo.send('{"to": "me alone"}')
        assert await echo.hear() == {"to": "me alone"}
        await same_room.send("to the room")
        assert await room.message() == "to the room"


async def test_plain_http_works(ours_and_stock: Running):
    assert await get(ours_and_stock, "/hello/") == (200, b"hello")
    assert (await get(ours_and_stock, "/nothing/here/"))[0] == 404
    # Not a WebSocket handshake: the path of a room is Django's to answer.
    assert (await get(ours_and_stock, "/rooms/room1/"))[0] == 404


async def test_an_empty_subprotocol_header_is_taken(ours: Running, room: str):
    headers = {"Sec-WebSocket-Protocol": ""}
    uri = f"ws://127.0.0.1:{ours.port}/rooms/room1/"
    async with asyncio.timeout(PATIENCE_SECONDS), connect(uri, additional_headers=headers, proxy=None) as link:
        await link.send(room)
        while json.loads(await link.recv())["payload"]["message"] != room:
            pass


async def test_our_server_does_not_compress(ours: Running, room: str):
    async with visit(ours, f"open/{room}", compression="deflate") as visitor:
        assert visitor.link.protocol.extensions == []
        await visitor.send("hello")
        assert await visitor.message() == "hello"


async def test_adopted_sockets_understand_compression_where_uvicorn_negotiates_it(servers: Servers, room: str):
    async with servers.meanwhile(UVICORN, *OUR_SOCKETS_ON_UVICORN) as server:
        async with visit(server, f"open/{room}", compression="deflate") as visitor:
            assert [extension.name for extension in visitor.link.protocol.extensions] == ["permessage-deflate"]
            for message in ("hello", "yamabiko " * 5000):
                await visitor.send(message)
                assert await visitor.message() == message
            await until_no_socket_owns_a_task(server)
            await visitor.send(["in ", "fragments"])
            assert await visitor.message() == "in fragments"
        async with visit(server, f"open/{room}", compression="deflate") as bomber:
            before = psutil.Process(server.process.pid).memory_info().rss
            bomb = zlib.compressobj(wbits=-12)
            data = bomb.compress(bytes(50_000_000)) + bomb.flush(zlib.Z_SYNC_FLUSH)
            bomber.link.transport.write(compressed_text(data.removesuffix(b"\x00\x00\xff\xff")))
            assert (await bomber.closed())[0] == 1009
            assert psutil.Process(server.process.pid).memory_info().rss - before < 12_000_000


async def test_our_server_compresses_where_it_is_asked_to_for_those_who_can(servers: Servers, room: str):
    text = "yamabiko " * 500
    async with servers.meanwhile(SERVE, "--compress") as server, AsyncExitStack() as stack:
        small_window = ClientPerMessageDeflateFactory(server_max_window_bits=9)
        visitors: list[Visitor] = []
        for offers in ({"compression": "deflate"}, {}, {"extensions": [small_window]}):
            visitor = await stack.enter_async_context(visit(server, f"open/{room}", **offers))
            await visitor.is_live()
            for other in visitors:
                await other.message()
            visitors.append(visitor)
        inflating, plain, _ = visitors
        (extension,) = inflating.link.protocol.extensions
        assert extension.remote_no_context_takeover
        inflated = watch_inflating(extension)
        for message in (text, text):
            await plain.send(message)
            for visitor in visitors:
                assert await visitor.message() == message
        assert inflated == [True, True]


def watch_inflating(extension: Any) -> list[bool]:
    """Return a list that says of each text frame from now on whether it was compressed."""
    seen: list[bool] = []
    decode = extension.decode

    def watching(frame: Any, **options: Any) -> Any:
        if frame.opcode is Opcode.TEXT:
            seen.append(frame.rsv1)
        return decode(frame, **options)

    extension.decode = watching
    return seen


def compressed_text(data: bytes) -> bytes:
    """Return a frame whose RSV1 bit says that it is compressed, masked with nothing (RFC 7692, section 6)."""
    assert 126 <= len(data) < 65_536
    return bytes([0xC1, 0x80 | 126]) + len(data).to_bytes(2) + bytes(4) + data


# Adopted sockets


async def test_frames_of_every_kind_and_cut_are_read_in_order(ours: Running, room: str):
    frames = [
        Frame(Opcode.TEXT, b"one").serialize(mask=True),
        Frame(Opcode.TEXT, b"two").serialize(mask=True),
        Frame(Opcode.PING, b"").serialize(mask=True),
        Frame(Opcode.TEXT, b"3" * 200).serialize(mask=True),
        Frame(Opcode.TEXT, b"fo", fin=False).serialize(mask=True),
        Frame(Opcode.CONT, b"ur").serialize(mask=True),
        Frame(Opcode.TEXT, b"five").serialize(mask=True),
    ]
    wire = b"".join(frames)
    said = ["one", "two", "3" * 200, "four", "five"]
    async with visit(ours, f"open/{room}") as visitor:
        for cut in (0, 1, 7, 10, 20, 30, 120, len(wire) - 3):
            visitor.link.transport.write(wire[:cut])
            await asyncio.sleep(0)
            visitor.link.transport.write(wire[cut:])
            assert await visitor.messages(len(said)) == said


@pytest.mark.parametrize("attempt", range(10))
async def test_who_breaks_the_rules_and_goes_on_still_reads_why(ours: Running, attempt: int, room: str):
    """A socket that is closed while its peer is sending is reset, and what the peer has not read is lost."""
    async with visit(ours, f"open/{room}") as visitor:
        visitor.link.transport.write(Frame(Opcode.TEXT, b"not masked").serialize(mask=False))
        for _ in range(10):
            await asyncio.sleep(0)
            if visitor.link.transport.is_closing() or visitor.link.protocol.close_rcvd is not None:
                break
            visitor.link.transport.write(b"more of it" * 10)
        assert (await visitor.closed())[0] == 1002


async def test_who_breaks_the_rules_is_no_member_any_more(ours: Running, room: str):
    async with (
        visit(ours, f"crowd/{room}", "?presence=1") as watcher,
        visit(ours, f"crowd/{room}") as breaker,
    ):
        await breaker.is_live()
        while "joined" not in (await watcher.hear()).get("presence", {}):
            pass
        breaker.stop_reading()
        breaker.link.transport.write(Frame(Opcode.TEXT, b"not masked").serialize(mask=False))
        while "left" not in (frame := await watcher.hear()).get("presence", {}):
            assert "presence" in frame or "payload" in frame
        breaker.read_on()
