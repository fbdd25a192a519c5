"""What an application may publish and how long it is kept."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import timedelta

import pytest

from yamabiko.core.messages import History, encode_message


@dataclass
class Reading:
    value: float


ENDLESS: list[object] = []
ENDLESS.append(ENDLESS)


@pytest.mark.parametrize(
    "message",
    [None, True, 0, -1.5, 2**70, "", "山彦 😀", "null", [], {}, {"a": [1, {"b": None}]}, [None, "NaN", 1e300]],
)
def test_what_json_can_hold_is_encoded_as_it_is(message):
    assert json.loads(encode_message(message)) == message


@pytest.mark.parametrize(
    "message",
    [
        math.nan,
        math.inf,
        -math.inf,
        [math.nan],
        {"a": [{"b": {"c": (1, None, math.nan)}}]},
        Reading(math.nan),
        [Reading(1.0), {"deep": [Reading(math.inf)]}],
        "\ud800",
        {"\udfff": 1},
        object(),
        {("a", "b"): 1},
        {None: 1},
        ENDLESS,
        1j,
    ],
)
def test_what_json_cannot_hold_is_refused_in_any_depth_with_a_text_for_people(message):
    with pytest.raises(TypeError, match="a message must be something JSON can hold, not "):
        encode_message(message)


def test_a_huge_wrong_message_is_not_repeated_in_full():
    with pytest.raises(TypeError) as refused:
        encode_message(["x" * 10_000, object()])
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("size", [0, -1, True, 1.5, "10", None])
def test_a_history_has_a_whole_number_of_publications(size):
    with pytest.raises(ValueError, match="whole number from 1"):
        History(size=size)


@pytest.mark.parametrize("ttl", [timedelta(0), timedelta(seconds=-1), 60, None])
def test_a_history_is_kept_for_some_time(ttl):
    with pytest.raises(ValueError, match="positive timedelta"):
        History(size=1, ttl=ttl)
