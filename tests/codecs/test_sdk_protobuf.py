"""The SDK protocol in Protobuf, byte by byte."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.codecs.sdk_peers import ProtobufPeer, prefixed
from yamabiko.codecs.sdk_protobuf import SDK_PROTOBUF
from yamabiko.core import messages
from yamabiko.core.messages import Invalid, Position
from yamabiko.core.sdk.messages import Command, Reply, UnsubscribeResult

PONG = b"\0"
PUBLISH = b"\x08\x03\x3a\x06\x0a\x01a\x12\x011"


def only(payload: bytes) -> Command | Invalid:
    (command,) = SDK_PROTOBUF.decode(payload)
    return command


def test_a_command_is_read_byte_by_byte():
    command = only(b"\x0a" + PUBLISH)
    assert (command.id, command.publish.channel, bytes(command.publish.data)) == (3, "a", b"1")


def test_replies_are_written_byte_by_byte():
    assert SDK_PROTOBUF.encode(Reply(id=3, unsubscribe=UnsubscribeResult())).payload == b"\x04\x08\x03\x3a\x00"
    publication = messages.Publication(b"1", Position("kQzT", 300))
    pub = b"\x22\x01" + b"1" + b"\x30\xac\x02"
    push = b"\x12\x01a" + b"\x22\x06" + pub
    assert SDK_PROTOBUF.encode(publication, "a").payload == b"\x0d\x22\x0b" + push


@pytest.mark.parametrize("size", [1, 127, 128, 16_383, 16_384, 70_000])
def test_a_reply_of_any_length_comes_after_its_length(size):
    publication = messages.Publication(b'"%s"' % (b"x" * size))
    (reply,) = ProtobufPeer().reads(SDK_PROTOBUF.encode(publication, "a"))
    assert reply["push"]["pub"]["data"] == "x" * size


def test_a_length_may_be_written_longer_than_it_need_be():
    assert [command.id for command in SDK_PROTOBUF.decode(b"\x8a\x80\x80\x80\x00" + PUBLISH + PONG)] == [3, 0]


@pytest.mark.parametrize(
    "payload",
    [
        b"\x80",
        b"\xff" * 5,
        b"\xff" * 60_000,
        b"\x8a\x80\x80\x80\x80\x00" + PUBLISH,
        b"\x0b" + PUBLISH,
        b"\xff\xff\xff\xff\x0f" + PUBLISH,
        b"\x09" + PUBLISH,
        b"\x01\xff",
        b"\x01\x00",
        b"\x01\x08",
        prefixed(b"\x08" + b"\xff" * 11),
        prefixed(b"\x3a\xff\xff\xff\xff\x0f"),
        prefixed(b"\x22\x03\x0a\x01\xff"),
        prefixed(b"\x22\x05\x1a\x03\x0a\x01\xff"),
        prefixed(b"\x7b" * 30_000),
        prefixed(b"\x7b" * 30_000 + b"\x7c" * 30_000),
        b'{"id":1}',
    ],
)
def test_what_is_no_command_is_invalid(payload):
    assert isinstance(only(payload), Invalid)


def test_what_came_before_a_broken_message_is_kept():
    pong, command, invalid = SDK_PROTOBUF.decode(PONG + b"\x0a" + PUBLISH + b"\xff")
    assert (pong.id, command.id) == (0, 3)
    assert isinstance(invalid, Invalid)


def test_fields_of_later_versions_are_passed_over_however_deep():
    nested = b""
    for _ in range(1000):
        nested = b"\xa2\x06" + prefixed(nested)
    assert only(prefixed(PUBLISH + nested)).publish.channel == "a"


def test_numbers_too_great_for_their_field_are_no_trouble():
    command = only(prefixed(b"\x08" + b"\xff" * 9 + b"\x01" + b"\x52\x0b\x38" + b"\xff" * 9 + b"\x01"))
    assert (command.id, command.history.limit) == (2**32 - 1, -1)


def test_a_request_given_twice_is_merged_as_protobuf_says():
    command = only(prefixed(b"\x22\x03\x0a\x01a" + b"\x22\x03\x0a\x01b" + b"\x22\x03\x22\x01c"))
    assert (command.connect.token, command.connect.name) == ("b", "c")


def test_of_a_filter_it_is_known_that_there_is_one():
    assert bytes(only(prefixed(b"\x2a\x05\x6a\x03\x0a\x01a")).subscribe.tf) == b"{}"
    assert not only(prefixed(b"\x2a\x03\x0a\x01a")).subscribe.tf


def test_a_payload_on_many_lines_is_taken_on_one():
    command = only(ProtobufPeer().sends_payload('{\r\n "a":\n1 }'))
    assert bytes(command.publish.data) == b'{"a":1}'


def test_the_runtime_is_imported_with_the_first_message_or_when_asked_to():
    program = """
import sys
from yamabiko.codecs.sdk_protobuf import SDK_PROTOBUF
assert SDK_PROTOBUF.ping and "google.protobuf" not in sys.modules
SDK_PROTOBUF.load()
assert "google.protobuf" in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=30)
