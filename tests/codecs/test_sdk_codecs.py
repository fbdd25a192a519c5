"""What both encodings of the SDK protocol have in common: the same objects from either, and the same refusals."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from tests.codecs.sdk_peers import JsonPeer, ProtobufPeer
from yamabiko.core import messages
from yamabiko.core.errors import BadRequest
from yamabiko.core.messages import Acknowledged, Failed, Gap, Invalid, Member, Position, PresenceChanged
from yamabiko.core.sdk.messages import (
    NONE,
    ClientInfo,
    Command,
    ConnectRequest,
    ConnectResult,
    Disconnect,
    Error,
    Extras,
    HistoryRequest,
    HistoryResult,
    Join,
    Leave,
    Message,
    PresenceRequest,
    PresenceResult,
    PresenceStatsRequest,
    PresenceStatsResult,
    Publication,
    PublishRequest,
    PublishResult,
    Push,
    Refresh,
    RefreshRequest,
    RefreshResult,
    Reply,
    RpcRequest,
    RpcResult,
    SendRequest,
    StreamPosition,
    SubRefreshRequest,
    SubRefreshResult,
    Subscribe,
    SubscribeRequest,
    SubscribeResult,
    Unsubscribe,
    UnsubscribeRequest,
    UnsubscribeResult,
)

Peer = JsonPeer | ProtobufPeer
PEERS = [JsonPeer(), ProtobufPeer()]
TOP = 2**64 - 1
MIKO = ClientInfo("42", "6f", Raw('{"name":"山彦 😀"}'.encode()), Raw(b'["moderator"]'))
MIKO_OBJECT = {"user": "42", "client": "6f", "conn_info": {"name": "山彦 😀"}, "chan_info": ["moderator"]}


@pytest.fixture(params=PEERS, ids=["json", "protobuf"])
def peer(request) -> Peer:
    return request.param


def plain(value: Any) -> Any:
    """Return the fields of a Struct, payloads read, so that they can be compared: a Raw equals only itself."""
    if isinstance(value, Raw):
        return json.loads(bytes(value)) if value else None
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def command_from(peer: Peer, given: dict[str, Any]) -> Command:
    (command,) = peer.codec.decode(peer.sends(given))
    assert isinstance(command, Command), command
    return command


def payload_from(peer: Peer, payload: str) -> bytes:
    (command,) = peer.codec.decode(peer.sends_payload(payload))
    assert isinstance(command, Command), command
    return bytes(command.publish.data)


def refusal_of(peer: Peer, payload: str | bytes) -> Invalid:
    (command,) = peer.codec.decode(payload)
    assert isinstance(command, Invalid), command
    assert type(command.refusal) is BadRequest
    return command


SUBSCRIBE_OBJECT = {
    "channel": "部屋:1",
    "token": "t.o.k",
    "recover": True,
    "epoch": "kQzT",
    "offset": TOP,
    "data": {"山": [1, None]},
    "positioned": True,
    "recoverable": True,
    "join_leave": True,
    "delta": "fossil",
    "flag": 3,
    "type": 4,
}
SUBSCRIBE = SubscribeRequest(
    channel="部屋:1",
    token="t.o.k",
    recover=True,
    epoch="kQzT",
    offset=TOP,
    data=Raw('{"山": [1, null]}'.encode()),
    positioned=True,
    recoverable=True,
    join_leave=True,
    delta="fossil",
    flag=3,
    type=4,
)
COMMANDS = [
    (
        {
            "id": 2**32 - 1,
            "connect": {
                "token": "t",
                "data": 0,
                "subs": {"部屋:1": SUBSCRIBE_OBJECT, "b": {}},
                "name": "js",
                "version": "5.8",
                "headers": {"Accept-Language": "ja"},
            },
        },
        Command(
            id=2**32 - 1,
            connect=ConnectRequest(
                token="t",
                data=Raw(b"0"),
                subs={"部屋:1": SUBSCRIBE, "b": SubscribeRequest()},
                name="js",
                version="5.8",
                headers={"Accept-Language": "ja"},
            ),
        ),
    ),
    ({"id": 2, "subscribe": SUBSCRIBE_OBJECT}, Command(id=2, subscribe=SUBSCRIBE)),
    ({"id": 3, "unsubscribe": {"channel": "a"}}, Command(id=3, unsubscribe=UnsubscribeRequest("a"))),
    ({"id": 3, "publish": {"channel": "a", "data": "x"}}, Command(id=3, publish=PublishRequest("a", Raw(b'"x"')))),
    ({"id": 3, "presence": {"channel": "a"}}, Command(id=3, presence=PresenceRequest("a"))),
    ({"id": 3, "presence_stats": {"channel": "a"}}, Command(id=3, presence_stats=PresenceStatsRequest("a"))),
    (
        {"id": 3, "history": {"channel": "a", "limit": -1, "since": {"offset": TOP, "epoch": "e"}, "reverse": True}},
        Command(id=3, history=HistoryRequest("a", -1, StreamPosition(TOP, "e"), reverse=True)),
    ),
    ({"id": 3, "history": {"since": {}}}, Command(id=3, history=HistoryRequest(since=StreamPosition()))),
    ({"send": {"data": False}}, Command(send=SendRequest(Raw(b"false")))),
    ({"id": 3, "rpc": {"data": [], "method": "roll"}}, Command(id=3, rpc=RpcRequest(Raw(b"[]"), "roll"))),
    ({"id": 3, "refresh": {"token": "t"}}, Command(id=3, refresh=RefreshRequest("t"))),
    (
        {"id": 3, "sub_refresh": {"channel": "a", "token": "t", "type": 1}},
        Command(id=3, sub_refresh=SubRefreshRequest("a", "t", 1)),
    ),
]


@pytest.mark.parametrize(("sent", "command"), COMMANDS)
def test_every_command_is_read_with_all_its_fields(peer, sent, command):
    assert plain(command_from(peer, sent)) == plain(command)


def test_an_empty_command_is_a_pong(peer):
    command = command_from(peer, {})
    assert (command.id, command.request) == (0, None)


@pytest.mark.parametrize("name", [name for name in Command.__struct_fields__ if name != "id"])
def test_an_empty_request_is_there(peer, name):
    command = command_from(peer, {"id": 1, name: {}})
    assert command.request is not None
    assert command.request is getattr(command, name)


def test_a_payload_that_is_not_given_is_none(peer):
    command = command_from(peer, {"id": 1, "publish": {"channel": "a"}})
    assert command.publish.data is NONE
    assert command_from(peer, {"id": 1, "connect": {"subs": {"a": {}}}}).connect.subs["a"].data is NONE


def test_the_commands_of_a_frame_come_in_order(peer):
    sent = [{"id": 1, "connect": {"token": "t"}}, {"id": 2, "subscribe": {"channel": "a"}}, {}, {"id": 3, "rpc": {}}]
    commands = peer.codec.decode(peer.sends(*sent))
    assert [command.id for command in commands] == [1, 2, 0, 3]
    assert commands[1].request == commands[1].subscribe


@pytest.mark.parametrize("payload", ["", b""])
def test_an_empty_frame_is_refused_in_either_frame_type(peer, payload):
    refusal_of(peer, payload)


def test_the_wrong_type_of_frame_is_refused(peer):
    sent = peer.sends({"id": 1, "connect": {}})
    wrong = sent.encode() if isinstance(sent, str) else sent.decode()
    assert "frame" in refusal_of(peer, wrong).refusal.message


PAYLOADS = ['"山彦 😀"', "0", "-0.5", "null", "true", "[]", "{}", '{"a":[1,{"b":null}]}', '"\\\\u0000"', '"\x7f\u2028"']


@pytest.mark.parametrize("payload", PAYLOADS)
def test_payloads_come_as_they_were_sent(peer, payload):
    assert payload_from(peer, payload) == payload.encode()


@pytest.mark.parametrize(
    "payload",
    [
        "x",
        "{",
        "[1,]",
        "01",
        "tru",
        "'a'",
        "NaN",
        "[Infinity]",
        "1e999",
        "9" * 5000,
        '"\\q"',
        '"\\ud800"',
        '"\ud800"',
        '"\x01"',
        "\0",
        '"\\u0000"',
        '[{"\\u0000": 1}]',
        "\ufeff1",
        "[" * 65 + "]" * 65,
        '{"a":' * 65 + "1" + "}" * 65,
        "[" * 60_000,
        "[" * 30_000 + "]" * 30_000,
    ],
)
def test_a_payload_that_not_every_reader_takes_is_refused(peer, payload):
    refusal_of(peer, peer.sends_payload(payload))


@pytest.mark.parametrize("payload", ["1e999", '"\\u0000"', "[" * 65 + "]" * 65])
def test_a_refused_payload_keeps_the_id_of_its_command(peer, payload):
    assert refusal_of(peer, peer.sends_payload(payload)).id == "3"


def test_a_payload_may_be_64_levels_deep_and_have_any_brackets_in_strings(peer):
    deep = "[" * 64 + "]" * 64
    assert payload_from(peer, deep) == deep.encode()
    assert payload_from(peer, json.dumps("[{" * 100 + '"[')) == json.dumps("[{" * 100 + '"[').encode()


@pytest.mark.parametrize(
    "request_object",
    [
        {"connect": {"data": "\0"}},
        {"connect": {"subs": {"a": {}, "b": {"data": "\0"}}}},
        {"subscribe": {"data": "\0"}},
        {"send": {"data": "\0"}},
        {"rpc": {"data": "\0"}},
    ],
)
def test_every_payload_is_checked_wherever_it_is(peer, request_object):
    assert "NUL" in refusal_of(peer, peer.sends({"id": 7, **request_object})).refusal.message


def test_a_bad_payload_spoils_its_own_command_alone(peer):
    good = peer.sends({"id": 1, "connect": {}}), peer.sends({"id": 9, "presence": {}})
    join = "\n" if isinstance(peer, JsonPeer) else b""
    commands = peer.codec.decode(join.join([good[0], peer.sends_payload('"\\u0000"'), good[1]]))
    assert [type(command) for command in commands] == [Command, Invalid, Command]
    assert [str(command.id) for command in commands] == ["1", "3", "9"]


def test_what_came_before_what_is_no_command_is_kept_and_nothing_after_it(peer):
    good = peer.sends({"id": 1, "connect": {}})
    broken = "\n{\n" if isinstance(good, str) else b"\x80"
    commands = peer.codec.decode(good + broken + good)
    assert [type(command) for command in commands] == [Command, Invalid]


def test_a_decoded_payload_does_not_hold_on_to_its_frame(peer):
    command = command_from(peer, {"id": 1, "publish": {"channel": "a" * 60_000, "data": 1}})
    assert bytes(command.publish.data) == b"1"
    assert len(memoryview(command.publish.data).obj) == 1


def test_a_broken_command_does_not_take_the_id_of_the_one_before(peer):
    sent = peer.sends({"id": 5, "presence": {}})
    _, invalid = peer.codec.decode(sent + ("\n{" if isinstance(sent, str) else b"\x80"))
    assert (type(invalid), invalid.id) == (Invalid, "")


def test_a_payload_has_no_line_breaks_of_any_kind(peer):
    assert payload_from(peer, '[1,\r2, "\\r"]') == b'[1,2,"\\r"]'


# What is sent

POSITION = Position("kQzT", TOP)


def extras_of(info: ClientInfo | None = None, tags: dict[str, str] | None = None) -> bytes:
    return msgspec.json.encode(Extras(info, tags or {}))


@pytest.mark.parametrize(
    ("publication", "pub"),
    [
        (messages.Publication(b"0"), {"data": 0}),
        (messages.Publication(b'"x"', None, "alice"), {"data": "x"}),
        (messages.Publication('{"山":1}'.encode(), POSITION), {"data": {"山": 1}, "offset": TOP}),
        (messages.Publication(b"1", None, "", extras_of()), {"data": 1}),
        (messages.Publication(b"1", None, "", extras_of(MIKO)), {"data": 1, "info": MIKO_OBJECT}),
        (messages.Publication(b"1", None, "", extras_of(None, {"名": '"'})), {"data": 1, "tags": {"名": '"'}}),
        (
            messages.Publication(b"[]", POSITION, "alice", extras_of(MIKO, {"a": "b", "": ""})),
            {"data": [], "info": MIKO_OBJECT, "tags": {"a": "b", "": ""}, "offset": TOP},
        ),
    ],
)
def test_a_publication_is_pushed_with_what_it_carries(peer, publication, pub):
    assert peer.reads(peer.codec.encode(publication, "部屋:1")) == [{"push": {"channel": "部屋:1", "pub": pub}}]


def test_those_who_joined_and_those_who_left_are_pushes_of_one_frame(peer):
    frame = peer.codec.encode(
        PresenceChanged(
            joined=(Member("6f", "42", "Miko", MIKO.conn_info, MIKO.chan_info), Member("7a")),
            left=(Member("8b", "43", "Ken"),),
        ),
        "room:1",
    )
    assert [reply["push"] for reply in peer.reads(frame)] == [
        {"channel": "room:1", "join": {"info": MIKO_OBJECT}},
        {"channel": "room:1", "join": {"info": {"client": "7a"}}},
        {"channel": "room:1", "leave": {"info": {"client": "8b", "user": "43"}}},
    ]


PUBLICATION = Publication(Raw(b'{"a":1}'), MIKO, TOP, {"a": "b"}, delta=True)
PUBLICATION_OBJECT = {"data": {"a": 1}, "info": MIKO_OBJECT, "offset": TOP, "tags": {"a": "b"}, "delta": True}
SUBSCRIBED = SubscribeResult(
    expires=True,
    ttl=60,
    recoverable=True,
    epoch="kQzT",
    publications=[PUBLICATION, Publication(Raw(b"null"))],
    recovered=True,
    offset=TOP,
    positioned=True,
    data=Raw(b"0"),
    was_recovering=True,
    delta=True,
)
SUBSCRIBED_OBJECT = {
    "expires": True,
    "ttl": 60,
    "recoverable": True,
    "epoch": "kQzT",
    "publications": [PUBLICATION_OBJECT, {"data": None}],
    "recovered": True,
    "offset": TOP,
    "positioned": True,
    "data": 0,
    "was_recovering": True,
    "delta": True,
}
CONNECTED = ConnectResult(
    client="6f",
    version="1.0",
    expires=True,
    ttl=5,
    data=Raw(b'{"hello":"\xe5\xb1\xb1"}'),
    subs={"部屋": SUBSCRIBED, "b": SubscribeResult()},
    ping=25,
    pong=True,
    session="s",
    node="n",
)
CONNECTED_OBJECT = {
    "client": "6f",
    "version": "1.0",
    "expires": True,
    "ttl": 5,
    "data": {"hello": "山"},
    "subs": {"部屋": SUBSCRIBED_OBJECT, "b": {}},
    "ping": 25,
    "pong": True,
    "session": "s",
    "node": "n",
}
STREAM = {"recoverable": True, "epoch": "e", "offset": 7, "positioned": True}
REPLIES = [
    (Reply(), {}),
    (
        Reply(id=2**32 - 1, error=Error(100, "oh", temporary=True)),
        {"error": {"code": 100, "message": "oh", "temporary": True}},
    ),
    (Reply(connect=CONNECTED), {"connect": CONNECTED_OBJECT}),
    (Reply(connect=ConnectResult()), {"connect": {}}),
    (Reply(subscribe=SUBSCRIBED), {"subscribe": SUBSCRIBED_OBJECT}),
    (Reply(subscribe=SubscribeResult()), {"subscribe": {}}),
    (Reply(unsubscribe=UnsubscribeResult()), {"unsubscribe": {}}),
    (Reply(publish=PublishResult()), {"publish": {}}),
    (
        Reply(presence=PresenceResult({"6f": MIKO, "7a": ClientInfo()})),
        {"presence": {"presence": {"6f": MIKO_OBJECT, "7a": {}}}},
    ),
    (Reply(presence=PresenceResult()), {"presence": {}}),
    (Reply(presence_stats=PresenceStatsResult(3, 2)), {"presence_stats": {"num_clients": 3, "num_users": 2}}),
    (Reply(presence_stats=PresenceStatsResult()), {"presence_stats": {}}),
    (
        Reply(history=HistoryResult([PUBLICATION], "kQzT", TOP)),
        {"history": {"publications": [PUBLICATION_OBJECT], "epoch": "kQzT", "offset": TOP}},
    ),
    (Reply(history=HistoryResult()), {"history": {}}),
    (Reply(rpc=RpcResult(Raw(b"6"))), {"rpc": {"data": 6}}),
    (Reply(rpc=RpcResult()), {"rpc": {}}),
    (
        Reply(refresh=RefreshResult("6f", "1.0", expires=True, ttl=9)),
        {"refresh": {"client": "6f", "version": "1.0", "expires": True, "ttl": 9}},
    ),
    (Reply(sub_refresh=SubRefreshResult(expires=True, ttl=9)), {"sub_refresh": {"expires": True, "ttl": 9}}),
    (Reply(push=Push(channel="a", pub=PUBLICATION)), {"push": {"channel": "a", "pub": PUBLICATION_OBJECT}}),
    (Reply(push=Push(channel="a", join=Join(MIKO))), {"push": {"channel": "a", "join": {"info": MIKO_OBJECT}}}),
    (Reply(push=Push(channel="a", leave=Leave(MIKO))), {"push": {"channel": "a", "leave": {"info": MIKO_OBJECT}}}),
    (
        Reply(push=Push(channel="a", unsubscribe=Unsubscribe(2500, "insufficient state"))),
        {"push": {"channel": "a", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}},
    ),
    (Reply(push=Push(message=Message(Raw(b"[1]")))), {"push": {"message": {"data": [1]}}}),
    (
        Reply(push=Push(channel="a", subscribe=Subscribe(data=Raw(b"1"), **STREAM))),
        {"push": {"channel": "a", "subscribe": {"data": 1, **STREAM}}},
    ),
    (
        Reply(push=Push(disconnect=Disconnect(3500, "invalid token"))),
        {"push": {"disconnect": {"code": 3500, "reason": "invalid token"}}},
    ),
    (Reply(push=Push(refresh=Refresh(expires=True, ttl=9))), {"push": {"refresh": {"expires": True, "ttl": 9}}}),
]


@pytest.mark.parametrize(("reply", "expected"), REPLIES)
def test_every_reply_is_sent_with_all_its_fields_and_what_is_empty_left_out(peer, reply, expected):
    with_id = {"id": reply.id, **expected} if reply.id else expected
    assert peer.reads(peer.codec.encode(reply)) == [with_id]


def test_the_ping_is_an_empty_reply(peer):
    assert peer.reads(peer.codec.ping) == [{}]
    assert peer.codec.ping.payload == peer.codec.encode(Reply()).payload


@pytest.mark.parametrize("event", [Acknowledged("1", None), Failed(BadRequest()), Gap(POSITION)])
def test_events_of_the_room_protocol_alone_are_told_apart(peer, event):
    with pytest.raises(TypeError, match=type(event).__name__):
        peer.codec.encode(event, "room:1")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_no_text_breaks_out_of_a_message(text):
    for peer in PEERS:
        publication = messages.Publication(b"1", None, text, extras_of(ClientInfo(text, text), {text: text}))
        (reply,) = peer.reads(peer.codec.encode(publication, text))
        info = {"user": text, "client": text} if text else {}
        assert reply["push"].get("channel", "") == text
        assert reply["push"]["pub"] == {"data": 1, "info": info, "tags": {text: text}}


# What else may arrive

VALID = [given_object for given_object, _ in COMMANDS] + [{}]
FRAMES = {peer: [peer.sends(*VALID), *map(peer.sends, VALID)] for peer in PEERS}


def assert_sound(commands: Any) -> None:
    """Only the last may be none at all, and what a command carries can be handed on."""
    assert commands
    assert all(isinstance(command, Command) or command.id for command in commands[:-1])
    for command in commands:
        if isinstance(command, Command):
            assert_fields_sound(command.request or SendRequest())


def assert_fields_sound(message: msgspec.Struct) -> None:
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if isinstance(value, Raw) and value:
            data = bytes(value)
            assert json.loads(data, parse_constant=pytest.fail) == msgspec.json.decode(data)
            assert b"\n" not in data
            assert b"\r" not in data
        elif isinstance(value, str):
            value.encode()
        elif isinstance(value, dict):
            for inner in value.values():
                if isinstance(inner, msgspec.Struct):
                    assert_fields_sound(inner)


@st.composite
def mutated(draw: st.DrawFn, frames: list[Any]) -> Any:
    """Return a frame with some of it cut out, or replaced, or put in elsewhere."""
    frame = draw(st.sampled_from(frames))
    for _ in range(draw(st.integers(1, 3))):
        start, end = sorted(draw(st.tuples(*[st.integers(0, len(frame))] * 2)))
        noise = st.text(max_size=4) if isinstance(frame, str) else st.binary(max_size=4)
        frame = frame[:start] + draw(noise | st.just(frame[start:end])) + frame[draw(st.sampled_from([start, end])) :]
    return frame


@given(st.data())
def test_whatever_arrives_is_a_command_or_invalid(data):
    for peer in PEERS:
        noise = st.text(st.characters(exclude_categories=[])) | st.binary() | mutated(FRAMES[peer])
        assert_sound(peer.codec.decode(data.draw(noise)))


@given(st.text('{}[]":,\\ \n012eE+-.idatpublsh') | st.sampled_from(PAYLOADS))
def test_whatever_payload_arrives_can_be_handed_on_or_is_refused(payload):
    for peer in PEERS:
        assert_sound(peer.codec.decode(peer.sends_payload(payload)))
