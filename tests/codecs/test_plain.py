"""The room protocol, line by line: every frame in, every frame out, and whatever else arrives."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from yamabiko.codecs.plain import PLAIN
from yamabiko.core.errors import BadRequest, PermissionDenied, Refused
from yamabiko.core.messages import (
    Acknowledged,
    Command,
    Event,
    Failed,
    Gap,
    Invalid,
    Member,
    Position,
    PresenceChanged,
    Publication,
    Publish,
)

AT = Position("kQzT", 7)


def decoded(payload: str | bytes) -> Command:
    (command,) = PLAIN.decode(payload)
    return command


def published(payload: str) -> Any:
    """Return what a frame publishes, read with another library than ours."""
    command = decoded(payload)
    assert isinstance(command, Publish), command
    return json.loads(command.data, parse_constant=pytest.fail)


def refusal_of(payload: str | bytes) -> str:
    command = decoded(payload)
    assert isinstance(command, Invalid), command
    assert type(command.refusal) is BadRequest
    assert command.refusal.code == 107
    return command.refusal.message


def sent(event: Event) -> Any:
    frame = PLAIN.encode(event)
    assert frame.is_text
    assert b"\n" not in frame.payload
    return json.loads(frame.payload)


def nested(depth: int, inner: str = "") -> str:
    return "[" * depth + inner + "]" * depth


@pytest.mark.parametrize(
    "text",
    ["hello", "42", "[1]", '"quoted"', "null", "NaN", " spaced ", "two\nlines", "山彦", "😀", "a{", "[{]", "\ufeff{}"],
)
def test_text_that_is_not_a_json_object_is_published_exactly_as_typed(text):
    assert published(text) == text


def test_text_may_be_deep_because_it_is_only_text():
    assert published(nested(100)) == nested(100)


@pytest.mark.parametrize(
    "value",
    ["hello", "", 42, -0.5, 2**64, True, None, [], {}, [1, {"a": [None]}], {"message": 1}, "山彦 😀", "\x7f", "\u2028"],
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_an_object_with_a_message_publishes_its_value(value, ascii_only):
    frame = json.dumps({"message": value}, ensure_ascii=ascii_only)
    assert published(frame) == value
    assert published(f" \t\r\n{frame}\n") == value
    assert decoded(frame).id == ""


@pytest.mark.parametrize("id", ["1", "山彦", "x" * 64, "é" * 32, " "])
def test_an_id_of_up_to_64_bytes_comes_with_the_message(id):
    command = decoded(json.dumps({"message": "hello", "id": id}))
    assert command == Publish(b'"hello"', id)


def test_an_id_of_null_is_no_id():
    assert decoded('{"message": 1, "id": null}') == Publish(b"1")


@pytest.mark.parametrize(
    "frame",
    [
        "{}",
        '{"messages": "hello"}',
        '{"text": "hello"}',
        '{"message": "hello", "room": "room1"}',
        '{"payload": {"message": "hello"}}',
        '{"id": "1"}',
    ],
)
def test_any_other_object_is_a_bad_request_that_says_what_was_expected(frame):
    assert '{"message": ..., "id": "..."}' in refusal_of(frame)


@pytest.mark.parametrize(
    "frame",
    [
        "{",
        '{"message"',
        '{"message": }',
        '{"message": hello}',
        "{'message': 'hello'}",
        '{"message": "hello",}',
        '{"message": [1,]}',
        '{"message": "hello"}}',
        '{"message": 1} {"message": 2}',
        '{"message": 01}',
        '{"message": 1.}',
        '{"message": tru}',
        '{"message": "\\q"}',
        '{"message": "\\u12"}',
        '{"message": "two\nlines"}',
        '{"message": "\x01"}',
        "{message: 1}",
    ],
)
def test_an_invalid_json_object_is_a_bad_request(frame):
    assert refusal_of(frame).startswith("bad request: ")


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "[1, NaN]", '{"a": [NaN]}', "1e999", "[-1e999]", "9" * 5000]
)
def test_a_number_that_json_cannot_hold_is_a_bad_request(number):
    refusal_of(f'{{"message": {number}}}')


@pytest.mark.parametrize("id", ["5", "[]", "true", '""', json.dumps("x" * 65), json.dumps("é" * 33)])
def test_an_id_of_another_type_or_length_is_a_bad_request(id):
    refusal_of(f'{{"message": "hello", "id": {id}}}')


def test_the_size_of_a_too_long_id_is_told():
    assert "64 bytes; this one has 66" in refusal_of(json.dumps({"message": 1, "id": "é" * 33}))


@pytest.mark.parametrize("payload", [b"", b"hello", b'{"message": "hello"}', b"\xff\xfe", b"\x00"])
def test_a_binary_frame_is_a_bad_request(payload):
    assert "binary frames are not taken" in refusal_of(payload)


def test_an_empty_frame_is_a_bad_request():
    assert "an empty frame" in refusal_of("")


@pytest.mark.parametrize("depth", [64, 65, 1000, 30_000])
def test_a_message_is_at_most_64_levels_deep_its_object_included(depth):
    arrays = '{"message": ' + nested(depth - 1) + "}"
    objects = '{"message": ' + '{"a":' * (depth - 1) + "1" + "}" * (depth - 1) + "}"
    for frame in (arrays, objects):
        if depth <= 64:
            published(frame)
        else:
            assert "at most 64 levels deep" in refusal_of(frame)


def test_brackets_in_strings_and_side_by_side_are_no_depth():
    value = ["[" * 200, '"[' * 200, "\\" * 3 + "{" * 100, [[]] * 100]
    assert published(json.dumps({"message": value})) == value


def test_brackets_that_are_never_closed_are_a_bad_request_however_many():
    refusal_of('{"message": ' + "[" * 60_000)
    refusal_of('{"a":' * 12_000)


@pytest.mark.parametrize(
    "frame",
    [
        "\0",
        "a\0b",
        '{"message": "\0"}',
        '{"message": "\\u0000"}',
        '{"message": {"\\u0000": 1}}',
        '{"message": ["\\u0000"]}',
        '{"message": 1, "id": "\\u0000"}',
    ],
)
def test_nul_is_a_bad_request_however_it_is_written(frame):
    assert "NUL" in refusal_of(frame)


def test_an_escaped_backslash_before_u0000_is_no_nul():
    assert published('{"message": "\\\\u0000"}') == "\\u0000"


@pytest.mark.parametrize("frame", ["\ud800", "a\udfffb", '{"message": "\ud800"}', '{"message": "\\ud800"}'])
def test_half_a_surrogate_pair_is_a_bad_request(frame):
    refusal_of(frame)


def test_four_byte_utf8_may_be_written_as_a_surrogate_pair():
    assert published('{"message": "\\ud83d\\ude00"}') == "😀"


@pytest.mark.parametrize(
    "frame",
    ['{"text": 1, "id": "7"}', '{"id": "7"}', '{"message": "\\u0000", "id": "7"}'],
)
def test_a_refused_frame_keeps_its_id_so_that_its_sender_knows_which(frame):
    assert decoded(frame).id == "7"


@pytest.mark.parametrize("frame", ['{"id": 7}', '{"id": ""}', json.dumps({"id": "x" * 65}), '{"id": "7"', b"\xff"])
def test_an_id_that_cannot_be_read_is_left_out(frame):
    assert decoded(frame).id == ""


def test_a_publication_is_the_articles_frame_with_position_and_user_where_known():
    assert sent(Publication(b'"hello"')) == {"payload": {"type": "send_message", "message": "hello"}}
    assert sent(Publication(b'{"a":[1]}', AT, "alice")) == {
        "payload": {"type": "send_message", "message": {"a": [1]}, "offset": 7, "epoch": "kQzT", "user": "alice"}
    }


def test_an_ack_has_the_position_where_there_is_one():
    assert sent(Acknowledged("1", AT)) == {"ack": {"id": "1", "offset": 7, "epoch": "kQzT"}}
    assert sent(Acknowledged("1", None)) == {"ack": {"id": "1"}}


def test_an_error_has_its_code_its_message_and_the_id_where_there_was_one():
    assert sent(Failed(PermissionDenied())) == {"error": {"code": 103, "message": "permission denied"}}
    assert sent(Failed(Refused('no "this"\nway', 400), "7")) == {
        "error": {"code": 400, "message": 'no "this"\nway', "id": "7"}
    }


def test_a_gap_is_the_position_after_which_publications_follow():
    assert sent(Gap(Position("kQzT", 9))) == {"gap": {"epoch": "kQzT", "offset": 9}}


def test_presence_names_who_came_and_who_went():
    alice, unknown = Member("c1", "7", "alice"), Member("c2")
    assert sent(PresenceChanged(joined=(alice, unknown))) == {
        "presence": {"joined": [{"client": "c1", "user": "alice"}, {"client": "c2"}]}
    }
    assert sent(PresenceChanged(left=(alice,))) == {"presence": {"left": [{"client": "c1"}]}}
    assert [*sent(PresenceChanged((alice,), (unknown,)))["presence"]] == ["joined", "left"]


@example("\ud800")
@example('{"message": 1e999}')
@given(st.text(st.characters(exclude_categories=[])) | st.binary() | st.text('{}[]":,\\ u0id message1eE+-.\0\n'))
def test_decode_never_raises_and_takes_only_what_every_reader_takes(payload):
    command = decoded(payload)
    if isinstance(command, Publish):
        assert json.loads(command.data) == msgspec.json.decode(command.data)
        assert not {b"\n", b"\r", b"\0"} & {bytes([byte]) for byte in command.data}


NO_NUL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | NO_NUL,
    lambda inner: st.lists(inner) | st.dictionaries(NO_NUL, inner),
    max_leaves=20,
)


@given(JSON_VALUES, st.sampled_from([None, 2]), st.booleans())
def test_any_json_value_comes_out_as_it_went_in_on_one_line(value, indent, ascii_only):
    frame = json.dumps({"message": value}, indent=indent, ensure_ascii=ascii_only)
    command = decoded(frame)
    assert isinstance(command, Publish)
    message = sent(Publication(command.data, AT, "alice"))["payload"]["message"]
    assert message == value
    assert not (isinstance(value, float) and math.copysign(1, value) != math.copysign(1, message))


@given(NO_NUL, NO_NUL, NO_NUL)
def test_no_text_breaks_out_of_a_frame(user, epoch, id):
    payload = sent(Publication(b"1", Position(epoch, 1), user))["payload"]
    assert (payload["epoch"], payload.get("user", "")) == (epoch, user)
    assert sent(Acknowledged(id, Position(epoch, 1)))["ack"] == {"id": id, "offset": 1, "epoch": epoch}
    sent(Failed(Refused(user), id))
    sent(PresenceChanged((Member(id, name=user),), (Member(id),)))
