"""The SDK protocol in JSON, byte by byte."""

from __future__ import annotations

import json

import msgspec
import pytest
from msgspec import Raw

from yamabiko.codecs.sdk_json import SDK_JSON
from yamabiko.core import messages
from yamabiko.core.messages import Invalid, Member, Position, PresenceChanged
from yamabiko.core.sdk.messages import (
    ClientInfo,
    Command,
    ConnectResult,
    Extras,
    Publication,
    PublishResult,
    Reply,
    RpcResult,
    SubscribeResult,
    UnsubscribeResult,
)


def only(payload: str) -> Command | Invalid:
    (command,) = SDK_JSON.decode(payload)
    return command


def sent(event: object, room: str = "") -> bytes:
    frame = SDK_JSON.encode(event, room)
    assert frame.is_text
    return frame.payload


def test_the_first_frame_of_a_session_is_read_as_it_is_documented():
    connect, subscribe = SDK_JSON.decode(
        '{"id":1,"connect":{"token":"…","name":"js"}}\n{"id":2,"subscribe":{"channel":"room:1","flag":1}}'
    )
    assert (connect.id, connect.connect.token, connect.connect.name) == (1, "…", "js")
    assert (subscribe.id, subscribe.subscribe.channel, subscribe.subscribe.flag) == (2, "room:1", 1)


def test_a_wish_to_recover_is_read_as_it_is_documented():
    command = only('{"id":9,"subscribe":{"channel":"room:1","recover":true,"offset":8,"epoch":"kQzT","flag":1}}')
    wish = command.subscribe
    assert (wish.channel, wish.recover, wish.offset, wish.epoch, wish.flag) == ("room:1", True, 8, "kQzT", 1)


JOINED = Member("6f…", "42", "Miko")
PUBLISHED = messages.Publication(
    b'{"text":"hi"}', Position("kQzT", 8), "Miko", msgspec.json.encode(Extras(ClientInfo(client="6f…", user="42")))
)


@pytest.mark.parametrize(
    ("event", "documented"),
    [
        (
            Reply(id=1, connect=ConnectResult(client="6f…", version="1.0", ping=25, pong=True)),
            {"id": 1, "connect": {"client": "6f…", "version": "1.0", "ping": 25, "pong": True}},
        ),
        (
            Reply(id=2, subscribe=SubscribeResult(recoverable=True, positioned=True, epoch="kQzT", offset=7)),
            {"id": 2, "subscribe": {"recoverable": True, "epoch": "kQzT", "offset": 7, "positioned": True}},
        ),
        (
            PresenceChanged((JOINED,)),
            {"push": {"channel": "room:1", "join": {"info": {"user": "42", "client": "6f…"}}}},
        ),
        (
            PUBLISHED,
            {
                "push": {
                    "channel": "room:1",
                    "pub": {"data": {"text": "hi"}, "info": {"user": "42", "client": "6f…"}, "offset": 8},
                }
            },
        ),
        (Reply(id=3, publish=PublishResult()), {"id": 3, "publish": {}}),
        (Reply(id=3, unsubscribe=UnsubscribeResult()), {"id": 3, "unsubscribe": {}}),
        (Reply(), {}),
        (
            Reply(
                id=9,
                subscribe=SubscribeResult(
                    recoverable=True,
                    positioned=True,
                    epoch="kQzT",
                    offset=8,
                    was_recovering=True,
                    recovered=True,
                    publications=[Publication(Raw(b"{}"), offset=9)],
                ),
            ),
            {
                "id": 9,
                "subscribe": {
                    "recoverable": True,
                    "epoch": "kQzT",
                    "publications": [{"data": {}, "offset": 9}],
                    "recovered": True,
                    "offset": 8,
                    "positioned": True,
                    "was_recovering": True,
                },
            },
        ),
    ],
)
def test_a_session_is_sent_as_it_is_documented(event, documented):
    """The order of fields is that of the Protobuf encoding; to peers it means nothing."""
    assert sent(event, "room:1") == json.dumps(documented, separators=(",", ":"), ensure_ascii=False).encode()


def test_payloads_and_extras_are_embedded_as_they_are():
    extras = b'{"info":{"user" : "\\u0034"},"later":1e2}'
    assert sent(messages.Publication(b'{"a" : 1.0}', None, "", extras), "a") == (
        b'{"push":{"channel":"a","pub":{"data":{"a" : 1.0},"info":{"user" : "\\u0034"},"later":1e2}}}'
    )
    assert sent(Reply(id=1, rpc=RpcResult(Raw(b'{"a" : 1.0}')))) == b'{"id":1,"rpc":{"data":{"a" : 1.0}}}'


def test_a_line_break_in_a_payload_does_not_end_a_message():
    assert sent(Reply(id=1, rpc=RpcResult(Raw(b'{\n"a":\r\n"\\n"}')))) == b'{"id":1,"rpc":{"data":{"a":"\\n"}}}'


def test_pushes_of_one_frame_are_lines():
    lines = sent(PresenceChanged((JOINED, Member("7a")), (JOINED,)), "a").split(b"\n")
    assert [[*json.loads(line)["push"]][1] for line in lines] == ["join", "join", "leave"]


@pytest.mark.parametrize("frame", [' {"id":1}\n', '\r\n{"id":1}\r\n', '{ "id" : 1 }'])
def test_space_around_commands_is_no_command(frame):
    assert only(frame).id == 1


@pytest.mark.parametrize(
    "frame",
    [
        " \n",
        "null",
        "[]",
        "1",
        '"a"',
        "{",
        '{"id":1} {"id":2}',
        '{"id":"1"}',
        '{"id":1.5}',
        '{"id":true}',
        '{"id":-1}',
        '{"id":4294967296}',
        '{"id":' + "9" * 5000 + "}",
        '{"id":1,"connect":[]}',
        '{"id":1,"connect":{"token":1}}',
        '{"id":1,"connect":{"token":"\ud800"}}',
        '{"id":1,"connect":{"subs":{"a":1}}}',
        '{"id":1,"connect":{"subs":{"a":{"offset":-1}}}}',
        '{"id":1,"connect":{"headers":{"a":1}}}',
        '{"id":1,"subscribe":{"offset":-1}}',
        '{"id":1,"subscribe":{"offset":18446744073709551616}}',
        '{"id":1,"subscribe":{"flag":9223372036854775808}}',
        '{"id":1,"subscribe":{"recover":1}}',
        '{"id":1,"history":{"limit":2147483648}}',
        '{"id":1,"history":{"limit":-2147483649}}',
        '{"id":1,"history":{"since":{"offset":-1}}}',
        '{"unknown":' + "[" * 60_000 + "]" * 60_000 + "}",
        '{"unknown":' + '{"a":' * 10_000 + "1" + "}" * 10_000 + "}",
    ],
)
def test_what_is_no_command_is_invalid(frame):
    assert isinstance(only(frame), Invalid)


def test_a_number_out_of_range_is_refused_by_its_name():
    assert "offset is out of range" in only('{"id":7,"subscribe":{"offset":-1}}').refusal.message
    assert only('{"id":7,"subscribe":{"offset":-1}}').id == "7"
    assert only('{"id":-7}').id == ""


@pytest.mark.parametrize(
    "frame",
    [
        '{"id":1,"later":{"a":[1]},"connect":{"dict":[],"token":"t","profile":{}}}',
        '{"id":2,"id":1,"connect":{"token":"s"},"connect":{"token":"t"}}',
        '{"connect":{"data":{"a":1,"a":2},"token":"t"},"id":1}',
    ],
)
def test_unknown_fields_are_passed_over_and_of_two_alike_the_last_counts(frame):
    command = only(frame)
    assert (command.id, command.connect.token) == (1, "t")


def test_a_filter_is_taken_as_it_is():
    assert bytes(only('{"id":1,"subscribe":{"tf":{"op":"and"}}}').subscribe.tf) == b'{"op":"and"}'


def test_lines_after_a_broken_one_are_not_read():
    first, second = SDK_JSON.decode('{"id":1}\nnonsense\n{"id":2}')
    assert first.id == 1
    assert isinstance(second, Invalid)


def test_empty_lines_between_commands_are_passed_over():
    assert [command.id for command in SDK_JSON.decode('{"id":1}\n\n \r\n{"id":2}\n')] == [1, 2]


def test_null_is_what_was_not_given_but_for_data():
    command = only('{"id":1,"connect":{"token":null,"name":null,"data":null,"subs":null},"subscribe":null}')
    assert (command.connect.token, command.connect.subs, command.subscribe) == ("", {}, None)
    assert bytes(only('{"id":1,"publish":{"channel":"a","data":null,"key":null}}').publish.data) == b"null"
    assert only('{"id":null}').id == 0
