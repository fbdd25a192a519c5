"""One suite for both transports: rooms over real sockets on our server, stock uvicorn, Daphne and Hypercorn."""

from __future__ import annotations

import asyncio
import json
import time

import psutil
import pytest
from websockets.frames import Opcode

from tests.servers.running import PATIENCE_SECONDS, Running
from tests.servers.visitors import Visitor, get, refusal, visit

pytest_plugins = ["tests.servers.fixtures"]
pytestmark = pytest.mark.server

BIG = "x" * 60_000
MANY = 1000
LIMIT_BYTES = 65_536


@pytest.fixture(params=["open", "kept"])
def any_room(request: pytest.FixtureRequest, room: str) -> str:
    """A room without and a room with history."""
    return f"{request.param}/{room}"


# Publishing and receiving


async def test_everyone_in_the_room_receives_a_message_its_sender_included(server: Running, any_room: str):
    async with visit(server, any_room) as one, visit(server, any_room) as other, visit(server, "open/elsewhere") as far:
        await one.send("hello")
        await other.say({"any": ["JSON", None, 1.5]})
        expected = ["hello", {"any": ["JSON", None, 1.5]}]
        assert sorted(map(json.dumps, await one.messages(2))) == sorted(map(json.dumps, expected))
        assert sorted(map(json.dumps, await other.messages(2))) == sorted(map(json.dumps, expected))
        await far.send("nobody else's")
        assert await far.message() == "nobody else's"


async def test_a_thousand_pipelined_messages_arrive_in_order_and_each_is_acknowledged(server: Running, any_room: str):
    async with visit(server, any_room) as sender, visit(server, any_room) as reader:
        await reader.is_live()
        async with asyncio.TaskGroup() as both:
            received = both.create_task(reader.messages(MANY))
            both.create_task(send_many(sender))
        own, acks = await own_copies_and_acks(sender)
        assert received.result() == own == list(range(MANY))
        assert acks == [f"id {number}" for number in range(MANY)]


async def send_many(sender: Visitor) -> None:
    for number in range(MANY):
        await sender.say(number, f"id {number}")


async def own_copies_and_acks(sender: Visitor) -> tuple[list[int], list[str]]:
    own: list[int] = []
    acks: list[str] = []
    while len(own) < MANY or len(acks) < MANY:
        frame = await sender.hear()
        if "ack" in frame:
            acks.append(frame["ack"]["id"])
        elif isinstance(frame["payload"]["message"], int):
            own.append(frame["payload"]["message"])
    return own, acks


async def test_an_ack_carries_the_position_of_its_message(server: Running, room: str):
    async with visit(server, f"kept/{room}") as visitor:
        await visitor.say("first", "a")
        await visitor.say("second", "b")
        frames = [await visitor.hear() for _ in range(4)]
        acks = [frame["ack"] for frame in frames if "ack" in frame]
        payloads = [frame["payload"] for frame in frames if "payload" in frame]
        assert [(ack["id"], ack["offset"]) for ack in acks] == [("a", 1), ("b", 2)]
        assert [payload["offset"] for payload in payloads] == [1, 2]
        assert {ack["epoch"] for ack in acks} == {payload["epoch"] for payload in payloads}


async def test_a_message_sent_again_with_its_id_is_published_once(server: Running, room: str):
    async with visit(server, f"kept/{room}") as visitor:
        await visitor.say("once", "same")
        first = await visitor.ack()
        await visitor.say("once", "same")
        assert await visitor.ack() == first
        await visitor.say("next")
        assert (await visitor.payload())["offset"] == first["offset"] + 1


async def test_a_message_published_by_a_view_reaches_the_members(server: Running, room: str):
    async with visit(server, f"kept/{room}") as visitor:
        await visitor.is_live()
        for way in ("say", "asay"):
            status, body = await get(server, f"/{way}/kept/{room}/?message=from-a-view")
            assert (status, body) == (200, b"said")
            assert await visitor.message() == "from-a-view"


# Coming back


async def test_since_brings_what_was_missed_in_order_and_once(server: Running, room: str):
    async with visit(server, f"kept/{room}") as visitor:
        await visitor.say(0)
        seen = await visitor.payload()
        for number in range(1, 40):
            await visitor.say(number)
        await visitor.messages(39)
        async with visit(server, f"kept/{room}", f"?since={seen['epoch']}:{seen['offset']}") as returned:
            assert await returned.messages(39) == list(range(1, 40))
            await visitor.say("live again")
            assert await returned.message() == "live again"


async def test_history_brings_the_newest_messages(server: Running, room: str):
    async with visit(server, f"kept/{room}") as visitor:
        for number in range(5):
            await visitor.say(number)
        await visitor.messages(5)
        async with visit(server, f"kept/{room}", "?history=3") as late:
            assert await late.messages(3) == [2, 3, 4]


async def test_what_history_no_longer_reaches_is_told_as_a_gap(server: Running, room: str):
    async with visit(server, f"kept/{room}") as visitor:
        for number in range(110):
            await visitor.say(number)
        payloads = [await visitor.payload() for _ in range(110)]
        epoch = payloads[0]["epoch"]
        async with visit(server, f"kept/{room}", f"?since={epoch}:5") as late:
            assert await late.hear() == {"gap": {"epoch": epoch, "offset": 10}}
            assert await late.messages(100) == list(range(10, 110))
        async with visit(server, f"kept/{room}", "?since=another:100") as stranger:
            assert await stranger.hear() == {"gap": {"epoch": epoch, "offset": 10}}


async def test_a_query_that_cannot_be_is_told_and_spoils_nothing(server: Running, room: str):
    async with visit(server, f"open/{room}", "?since=nonsense&presence=1") as visitor:
        assert (await visitor.error())["code"] == 107
        assert (await visitor.error())["code"] == 108
        await visitor.send("hello")
        assert await visitor.message() == "hello"


async def test_what_is_published_while_one_joins_is_received_once(server: Running, any_room: str):
    async with visit(server, any_room) as speaker, visit(server, any_room, under="/late/rooms/") as newcomer:
        await speaker.say("meanwhile", "id")
        await speaker.ack()
        await get(server, "/go-on/")
        await newcomer.send("now")
        assert await newcomer.messages(2) == ["meanwhile", "now"]


async def test_joining_during_a_flood_has_no_hole_and_no_duplicate(server: Running, room: str):
    async with visit(server, f"long/{room}") as flooder:
        await flooder.say(0)
        epoch = (await flooder.payload())["epoch"]
        async with asyncio.TaskGroup() as all_of_them:
            flood = all_of_them.create_task(send_many(flooder))
            joined = [all_of_them.create_task(offsets_since(server, room, epoch, start)) for start in range(1, 9)]
            for offset in [50, 100, 200, 400, 800]:
                while (await flooder.hear()).get("payload", {}).get("offset", 0) < offset:
                    pass
                joined.append(all_of_them.create_task(offsets_since(server, room, epoch, offset)))
        assert flood.done()
        for task in joined:
            offsets = task.result()
            assert offsets == list(range(offsets[0], MANY + 2))


async def offsets_since(server: Running, room: str, epoch: str, start: int) -> list[int]:
    offsets: list[int] = []
    async with visit(server, f"long/{room}", f"?since={epoch}:{start}") as visitor:
        while not offsets or offsets[-1] < MANY + 1:
            offsets.append((await visitor.payload())["offset"])
    assert offsets[0] == start + 1
    return offsets


# Presence


async def test_presence_lists_who_is_there_and_tells_who_comes_and_goes(server: Running, room: str):
    async with visit(server, f"kept/{room}") as first, visit(server, f"kept/{room}", "?presence=1") as watcher:
        assert len((await watcher.presence())["joined"]) == 2
        async with visit(server, f"kept/{room}", is_signed_in=True, origin=origin(server)):
            (newcomer,) = (await watcher.presence())["joined"]
            assert newcomer["user"] == "alice"
        assert await watcher.presence() == {"left": [{"client": newcomer["client"]}]}
        await first.send("presence is not asked for here")
        assert await first.message() == "presence is not asked for here"


async def test_a_member_whose_connection_breaks_leaves(server: Running, room: str):
    async with visit(server, "open/porch") as porch, visit(server, f"told/{room}") as guest:
        assert await until_told(porch, f"joined {room}")
        guest.reset()
        assert await until_told(porch, f"left {room}")


async def test_a_broken_connection_is_told_by_presence(server: Running, room: str):
    async with visit(server, f"kept/{room}", "?presence=1") as watcher:
        assert len((await watcher.presence())["joined"]) == 1
        async with visit(server, f"kept/{room}") as guest:
            (newcomer,) = (await watcher.presence())["joined"]
            guest.reset()
            assert await watcher.presence() == {"left": [{"client": newcomer["client"]}]}


async def until_told(porch: Visitor, message: str) -> bool:
    while await porch.message() != message:
        pass
    return True


# Handshakes


REFUSED = [
    ("nobody/declared/this", {}, 404, 102),
    ("closed/to everyone", {}, 401, 101),
    ("members/only", {}, 401, 101),
    ("closed/even to alice", {"is_signed_in": True}, 403, 103),
    ("broken/here", {}, 503, 100),
]


@pytest.mark.parametrize(("name", "options", "status", "code"), REFUSED, ids=[case[0] for case in REFUSED])
async def test_a_room_that_cannot_be_joined_refuses_the_handshake(
    server: Running, name: str, options: dict[str, bool], status: int, code: int
):
    refused = await refusal(server, name, origin=origin(server), **options)
    if server.kind.refuses_in_json:
        assert (refused.status, refused.error["code"]) == (status, code)
        assert refused.error["message"]
    else:
        assert refused.status == 403


def origin(server: Running) -> str:
    return f"http://127.0.0.1:{server.port}"


FOREIGN = {
    "foreign": "http://evil.test",
    "null": "null",
    "empty": "",
    "no host": "http://",
    "other port": "http://127.0.0.1:1",
    "no port": "http://127.0.0.1",
    "other scheme": "https://127.0.0.1:{port}",
    "look-alike behind": "http://127.0.0.1:{port}.evil.test",
    "look-alike before": "http://evil.127.0.0.1:{port}",
    "user part": "http://127.0.0.1:{port}@evil.test",
    "path": "http://127.0.0.1:{port}/page",
    "other name of this machine": "http://localhost:{port}",
}


@pytest.mark.parametrize("under", ["/rooms/", "/channels/rooms/"])
@pytest.mark.parametrize("foreign", FOREIGN.values(), ids=FOREIGN.keys())
async def test_a_foreign_origin_is_refused_and_logged(server: Running, under: str, foreign: str):
    given = foreign.format(port=server.port)
    refused = await refusal(server, "open/to all", under=under, origin=given)
    if server.kind.refuses_in_json:
        assert (refused.status, refused.error["code"]) == (403, 103)
    else:
        # Daphne itself has no patience with an Origin that is no URL.
        assert refused.status in (403, 400)


async def test_the_log_names_the_foreign_origin(server: Running, room: str):
    await refusal(server, f"open/{room}", origin=f"http://{room.partition('[')[0].replace('_', '-')}.test")
    if server.kind.is_ours:
        assert server.line(r"origin 'http://test-the-log-names-the-foreign-origin\.test' is not allowed")


async def test_an_origin_of_its_own_is_let_in_by_any_name_of_the_site(server: Running, room: str):
    async with visit(server, f"open/{room}", origin=f"http://LOCALHOST:{server.port}", host="localhost") as visitor:
        await visitor.send("hello")
        assert await visitor.message() == "hello"


@pytest.mark.parametrize("under", ["/rooms/", "/channels/rooms/"])
async def test_a_session_without_an_origin_is_refused(server: Running, under: str):
    assert (await refusal(server, "open/to all", under=under, is_signed_in=True)).status == 403


@pytest.mark.parametrize("under", ["/rooms/", "/channels/rooms/"])
async def test_a_program_without_origin_and_session_is_let_in(server: Running, under: str, room: str):
    async with visit(server, f"open/{room}", under=under) as visitor:
        await visitor.send("hello")
        assert await visitor.payload() == {"message": "hello"}


async def test_a_host_that_is_not_ours_is_refused(server: Running):
    assert (await refusal(server, "open/to all", host="evil.test")).status == 403
    assert (
        await refusal(server, "open/to all", host="evil.test", origin=f"http://evil.test:{server.port}")
    ).status == 403


@pytest.mark.parametrize("under", ["/rooms/", "/channels/rooms/"])
async def test_the_name_of_a_signed_in_user_is_in_publications(server: Running, under: str, room: str):
    options = {"under": under, "is_signed_in": True, "origin": origin(server)}
    async with visit(server, f"members/{room}", **options) as alice:
        await alice.send("hello")
        assert {"message": "hello", "user": "alice"}.items() <= (await alice.payload()).items()


async def test_the_article_s_address_is_room1(server: Running):
    async with visit(server, "websock1", under="/") as visitor, visit(server, "room1") as other:
        await other.is_live()
        await visitor.send("hello")
        assert await other.message() == "hello"


async def test_a_room_name_of_any_language_is_joined(server: Running, room: str):
    async with visit(server, f"open/山彦 100% {room}") as visitor, visit(server, f"open/山彦 100% {room}") as other:
        await other.is_live()
        await visitor.send("やっほー 🏔")
        assert await other.message() == "やっほー 🏔"


# Bad input

BAD_INPUT = {
    "invalid JSON": '{"message": ',
    "no message": '{"text": "hello"}',
    "unknown field": '{"message": 1, "color": "red"}',
    "wrong type of id": '{"message": 1, "id": 7}',
    "long id": json.dumps({"message": 1, "id": "x" * 65}),
    "binary": b"hello",
    "empty": "",
    "empty binary": b"",
    "NaN": '{"message": NaN}',
    "too deep": '{"message": ' + "[" * 64 + "]" * 64 + "}",
    "far too deep": '{"message": ' + "[" * 30_000 + "]" * 30_000 + "}",
    "NUL": "a\0b",
    "written NUL": '{"message": "a\\u0000b"}',
    "lone surrogate": '{"message": "\\ud800"}',
}


async def test_bad_input_gets_an_error_and_the_connection_lives(server: Running, any_room: str):
    async with visit(server, any_room) as visitor:
        for name, payload in BAD_INPUT.items():
            await visitor.send(payload)
            assert (await visitor.error())["code"] == 107, name
        await visitor.send("alive 👍")
        assert await visitor.message() == "alive 👍"


async def test_an_error_carries_the_id_of_what_was_refused(server: Running, room: str):
    async with visit(server, f"texts/{room}") as visitor:
        await visitor.say(7, "mine")
        assert await visitor.error() == {"code": 401, "message": "a message is a text", "id": "mine"}


async def test_an_exception_in_on_publish_disturbs_nobody(server: Running, room: str):
    async with visit(server, f"texts/{room}") as one, visit(server, f"texts/{room}") as other:
        for message in ("break", "nothing", "unjson"):
            await one.say(message)
            assert (await one.error())["code"] == 100
        await one.send("fine")
        assert (await other.message())["text"] == (await one.message())["text"] == "fine"


async def test_listening_is_not_speaking(server: Running, room: str):
    async with visit(server, f"quiet/{room}") as visitor:
        await visitor.say("may I?", "question")
        assert await visitor.error() == {
            "code": 103,
            "message": "permission denied: you may not publish in this room",
            "id": "question",
        }


async def test_a_message_of_exactly_the_limit_is_taken(server: Running, room: str):
    async with visit(server, f"open/{room}") as visitor:
        await visitor.send("x" * LIMIT_BYTES)
        assert await visitor.message() == "x" * LIMIT_BYTES


@pytest.mark.parametrize("size", [LIMIT_BYTES + 1, 900_000])
async def test_a_larger_message_closes_with_1009(server: Running, room: str, size: int):
    async with visit(server, f"open/{room}") as visitor:
        await visitor.send("x" * size)
        assert (await visitor.closed())[0] == too_big(server)


async def test_fragments_that_add_up_to_more_close_with_1009(server: Running, room: str):
    async with visit(server, f"open/{room}") as visitor:
        visitor.write_frame(Opcode.TEXT, b"x" * 40_000, fin=False)
        visitor.write_frame(Opcode.CONT, b"x" * 40_000, fin=True)
        assert (await visitor.closed())[0] == too_big(server)


def too_big(server: Running) -> int:
    return 1009 if server.kind.knows_close_codes else 3501


async def test_size_is_counted_in_bytes(server: Running, room: str):
    async with visit(server, f"open/{room}") as visitor:
        await visitor.send("山" * (LIMIT_BYTES // 3 + 1))
        assert (await visitor.closed())[0] == too_big(server)


async def test_fragments_are_one_message(server: Running, room: str):
    async with visit(server, f"open/{room}") as visitor:
        await visitor.send(["やっ", "ほー", "", "!"])
        assert await visitor.message() == "やっほー!"


async def test_a_ping_between_fragments_is_answered(server: Running, room: str):
    async with visit(server, f"open/{room}") as visitor:
        # The first byte of a character in one fragment, the others in the next.
        visitor.write_frame(Opcode.TEXT, "山彦".encode()[:4], fin=False)
        await visitor.has_been_read()
        visitor.write_frame(Opcode.CONT, "山彦".encode()[4:])
        assert await visitor.message() == "山彦"


async def test_invalid_utf8_closes_with_1007(server: Running, room: str):
    async with visit(server, f"open/{room}") as visitor:
        visitor.write_frame(Opcode.TEXT, b"\xc3\x28")
        assert (await visitor.closed())[0] == (1007 if server.kind.says_why_it_fails else 1006)


async def test_a_frame_against_the_protocol_closes_with_1002(server: Running, room: str):
    async with visit(server, f"open/{room}") as visitor:
        visitor.write_frame(Opcode.CONT, b"of nothing")
        assert (await visitor.closed())[0] == (1002 if server.kind.says_why_it_fails else 1006)


# Leaving

LAST_WORDS = [(Opcode.TEXT, b"wait"), (Opcode.TEXT, b"wait"), (Opcode.TEXT, b"words")]


async def test_the_closing_handshake_is_answered(server: Running, room: str):
    async with visit(server, f"open/{room}") as visitor:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await visitor.link.close(4001, "enough")
        assert visitor.link.protocol.close_rcvd is not None
        assert visitor.link.protocol.close_rcvd.code == (4001 if server.kind.knows_close_codes else 1000)


async def test_messages_sent_right_before_the_close_are_published(server: Running, room: str):
    async with visit(server, f"texts/{room}") as reader:
        await reader.send("I am here")
        await reader.message()
        async with visit(server, f"texts/{room}") as visitor:
            # All in one segment: while the second is handled, the copy of the first fails on a socket that is closing.
            visitor.write_frames(*LAST_WORDS, (Opcode.CLOSE, b""))
            await visitor.closed()
        assert [message["text"] for message in await reader.messages(3)] == ["wait", "wait", "words"]


async def test_messages_sent_right_before_a_broken_connection_are_published(server: Running, room: str):
    async with visit(server, f"gate/{room}") as reader, visit(server, f"gate/{room}") as visitor:
        await reader.is_live()
        await visitor.is_live()
        await reader.message()
        await visitor.has_been_read()
        visitor.write_frames(*LAST_WORDS)
        visitor.reset()
        await reader.send("open")
        assert sorted(await reader.messages(4)) == ["open", "wait", "wait", "words"]


# Slow ones


async def test_a_slow_handler_holds_up_its_own_connection_only(server: Running, room: str):
    async with visit(server, f"gate/{room}") as slow, visit(server, f"gate/{room}") as quick:
        await quick.is_live()
        await slow.send("wait")
        await slow.send("after the wait")
        await quick.send("meanwhile")
        assert await quick.message() == "meanwhile"
        await quick.send("open")
        assert sorted(await quick.messages(3)) == ["after the wait", "open", "wait"]


async def test_a_member_that_never_reads_is_closed_and_the_others_get_everything(server: Running, room: str):
    number = 400
    async with visit(server, f"crowd/{room}", "?presence=1") as watcher:
        await watcher.presence()
        async with visit(server, f"crowd/{room}", receive_bytes=4096) as sleeper:
            await watcher.presence()
            sleeper.stop_reading()
            before = psutil.Process(server.process.pid).memory_info().rss
            left = await flood(watcher, number)
            grown = psutil.Process(server.process.pid).memory_info().rss - before
            if server.kind.holds_back:
                assert grown < 12_000_000
                assert left or "left" in await watcher.presence()
                sleeper.read_on()
                assert await sleeper.closed() == (3008, "slow")
            else:
                # Daphne takes all into its own memory without limit; nothing tells the application of it.
                assert not left
                sleeper.read_on()
                assert [len(message) for message in await sleeper.messages(number)] == [len(BIG)] * number


async def flood(visitor: Visitor, number: int) -> bool:
    """Publish big messages, each when the one before has come back in time; return whether somebody left meanwhile."""
    has_left = False
    for _ in range(number):
        began = time.monotonic()
        await visitor.say(BIG)
        while "presence" in (frame := await visitor.hear()):
            has_left = has_left or "left" in frame["presence"]
        assert frame["payload"]["message"] == BIG
        assert time.monotonic() - began < 2
    return has_left


async def test_a_long_replay_to_a_slow_reader_is_complete_and_does_not_close_it(server: Running, room: str):
    name = f"kept/{room}"
    async with visit(server, name) as visitor:
        for number in range(100):
            await visitor.say([number, BIG])
            await visitor.message()
        async with visit(server, name, "?history=100", receive_bytes=4096) as slow:
            slow.stop_reading()
            # More than is held for a newcomer: it has to be read from history again.
            for number in range(100, 110):
                await visitor.say([number, BIG])
                await visitor.message()
            assert [await sip(slow) for _ in range(110)] == list(range(110))
            slow.read_on()


async def sip(visitor: Visitor) -> int:
    visitor.read_on()
    number, _ = await visitor.message()
    visitor.stop_reading()
    return int(number)
