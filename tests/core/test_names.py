"""Which names a room may have."""

from __future__ import annotations

import pytest

from yamabiko.core.errors import UnknownRoom
from yamabiko.core.names import room_name


@pytest.mark.parametrize("name", ["room1", "chat/lobby", "山彦", "a b", "é", "😀", "$:._-", "x" * 255, "é" * 127])
def test_a_name_is_any_unicode_of_up_to_255_bytes(name):
    assert room_name(name) == name


def test_names_that_look_the_same_are_the_same():
    assert room_name("cafe\u0301") == room_name("caf\u00e9") == "caf\u00e9"


def test_the_length_counts_bytes_of_the_composed_name():
    assert len(room_name("e\u0301" * 127).encode()) == 254


@pytest.mark.parametrize("name", ["", "x" * 256, "é" * 128, "山" * 86])
def test_a_name_of_another_length_is_refused_and_told_its_size(name):
    with pytest.raises(UnknownRoom, match=f"this one has {len(name.encode())}"):
        room_name(name)


@pytest.mark.parametrize("character", ["\0", "\n", "\x7f", "\x85", "\x9b", "\u2028", "\u2029", "\ud800"])
def test_control_characters_line_separators_and_surrogates_are_refused(character):
    with pytest.raises(UnknownRoom, match="control characters"):
        room_name(f"room{character}1")


@pytest.mark.parametrize("character", ["\u061c", "\u200e", "\u200f", "\u202a", "\u202e", "\u2066", "\u2069"])
def test_characters_that_change_the_direction_of_text_are_refused(character):
    with pytest.raises(UnknownRoom, match="direction"):
        room_name(f"room{character}1")
