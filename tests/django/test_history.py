"""History from code: forwards, backwards, since a position, from any thread and loop."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import sync_to_async

from tests.django.conftest import LiveSite
from yamabiko import HistoryPage, NotAvailable, Position, YamabikoError, ahistory, history, publish
from yamabiko.core.errors import UnknownRoom


@pytest.fixture
def positions() -> list[Position]:
    return [position for number in range(1, 6) if (position := publish("kept/a", number)) is not None]


def messages(page: HistoryPage) -> list[Any]:
    return [kept.message for kept in page.messages]


def test_the_oldest_come_first(positions: list[Position]) -> None:
    page = history("kept/a")
    assert messages(page) == [1, 2, 3, 4, 5]
    assert [kept.position for kept in page.messages] == positions
    assert (page.top, page.is_whole) == (positions[-1], True)


def test_the_limit_takes_the_oldest_and_in_reverse_the_newest(positions: list[Position]) -> None:
    assert messages(history("kept/a", limit=2)) == [1, 2]
    assert messages(history("kept/a", limit=2, reverse=True)) == [5, 4]
    assert (messages(history("kept/a", limit=0)), history("kept/a", limit=0).top) == ([], positions[-1])


def test_since_a_position_comes_what_is_after_it_and_in_reverse_what_is_before(positions: list[Position]) -> None:
    assert messages(history("kept/a", since=positions[1])) == [3, 4, 5]
    assert messages(history("kept/a", since=positions[1], limit=1)) == [3]
    assert messages(history("kept/a", since=positions[3], reverse=True)) == [3, 2, 1]
    assert messages(history("kept/a", since=positions[3], limit=2, reverse=True)) == [3, 2]
    assert messages(history("kept/a", since=positions[0], reverse=True)) == []


def test_pages_in_either_direction_join_to_the_whole(positions: list[Position]) -> None:
    first = history("kept/a", limit=3)
    assert messages(first) + messages(history("kept/a", since=first.messages[-1].position)) == [1, 2, 3, 4, 5]
    last = history("kept/a", limit=3, reverse=True)
    rest = history("kept/a", since=last.messages[-1].position, reverse=True)
    assert messages(last) + messages(rest) == [5, 4, 3, 2, 1]


@pytest.mark.parametrize("reverse", [False, True])
def test_since_another_epoch_the_page_is_not_whole(positions: list[Position], reverse: bool) -> None:
    assert not history("kept/a", since=Position("elsewhere", 3), reverse=reverse).is_whole


def test_a_room_in_which_nothing_was_said_has_an_empty_history() -> None:
    page = history("kept/silent")
    assert (page.messages, page.top.offset, page.is_whole) == ([], 0, True)


def test_a_room_that_keeps_nothing_says_so() -> None:
    with pytest.raises(NotAvailable, match="keeps no history"):
        history("open/a")


def test_a_room_that_nobody_declared_is_told() -> None:
    with pytest.raises(UnknownRoom):
        history("nowhere")


def test_a_limit_below_zero_is_told() -> None:
    with pytest.raises(ValueError, match="limit is a number of messages from 0, not -1"):
        history("kept/a", limit=-1)


async def test_on_an_event_loop_it_is_awaited() -> None:
    await sync_to_async(publish)("kept/a", "hello")
    assert messages(await ahistory("kept/a")) == ["hello"]
    with pytest.raises(YamabikoError, match=r"await yamabiko\.ahistory"):
        history("kept/a")


def test_what_a_server_has_is_read_from_other_threads(live_site: LiveSite) -> None:
    member = live_site.member("kept/a")
    publish("kept/a", {"from": "a view"})
    live_site.hear(member)
    (kept,) = history("kept/a").messages
    assert (kept.message, kept.user) == ({"from": "a view"}, "")
