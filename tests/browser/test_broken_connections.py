"""What a page does when its connection breaks: it comes back, and nothing is lost or shown twice."""

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Site
from tests.browser.page import RoomPage
from tests.browser.room_double import RoomDouble, accept, ignore, refuse

pytestmark = [pytest.mark.browser, pytest.mark.server]

GOING_AWAY, TERMINAL, MESSAGE_TOO_BIG = 4000, 4500, 1009


def test_offline_and_back_loses_nothing_and_shows_nothing_twice(visitor, room):
    away = visitor(expects_errors=True)
    one, other = RoomPage(away, room).live(), RoomPage(visitor(), room).live()
    one.say("before")
    other.shows("before")
    away.set_offline(True)
    expect(one.state).to_have_attribute("data-state", "waiting")
    expect(one.page.locator("#state-text")).to_contain_text("Reconnecting in")
    one.say("from the dead spot")
    expect(one.page.locator(".pending")).to_have_count(1)
    for text in ("missed 1", "missed 2"):
        other.say(text)
    other.shows("before", "missed 1", "missed 2")
    away.set_offline(False)
    one.live().shows("before", "missed 1", "missed 2", "from the dead spot")
    other.shows("before", "missed 1", "missed 2", "from the dead spot")


def talk_over_a_restart(visitor, site: Site, end: Callable[[], None]) -> RoomPage:
    """Say something before the server ends and while it is down; return the page when it is live again."""
    page = RoomPage(visitor(base_url=site.url, expects_errors=True), "room1").live()
    page.say("before")
    page.shows("before")
    port = site.port
    end()
    expect(page.state).not_to_have_attribute("data-state", "live")
    page.say("while it was down")
    site.start(port)
    page.evaluate("dispatchEvent(new Event('online'))")  # or it may wait for up to 20 s
    page.live().shows("before", "while it was down")
    return page


def test_server_that_is_killed_and_comes_back_has_lost_nothing(tmp_path, visitor):
    with Site(tmp_path) as site:
        page = talk_over_a_restart(visitor, site, site.kill)
        expect(page.page.locator(".note")).to_have_count(0)
        newcomer = RoomPage(visitor(base_url=site.url), "room1").live()
        newcomer.shows("before", "while it was down")


def test_server_that_restarts_with_empty_rooms_is_found_again_and_the_gap_is_told(tmp_path, visitor):
    with Site(tmp_path, BROKER="memory://") as site:
        page = talk_over_a_restart(visitor, site, site.stop)
        # In memory nothing outlives the process, so there may have been more.
        expect(page.page.locator(".note")).to_contain_text("Messages may be missing here")


def test_break_is_resumed_after_the_last_publication_seen(visitor):
    double = RoomDouble()
    double.keep("one")
    page = RoomPage(double.answer(visitor()), "room1").live()
    page.shows("one")
    double.close(GOING_AWAY)
    double.keep("two")
    page.shows("one", "two")
    assert double.asked == [{"presence": "1", "history": "50"}, {"presence": "1", "since": "first:1"}]


def test_publication_that_comes_twice_is_shown_once(visitor):
    double = RoomDouble()
    page = RoomPage(double.answer(visitor()), "room1").live()
    first = double.publish("one")
    double.tell(payload=first)
    double.publish("two")
    page.shows("one", "two")


def test_unacknowledged_message_is_sent_again_with_the_same_id(visitor):
    double = RoomDouble()
    double.on_message = ignore
    page = RoomPage(double.answer(visitor()), "room1").live()
    page.say("hello?")
    expect(page.page.locator(".pending")).to_contain_text("Sending")
    double.on_message = accept
    double.close(GOING_AWAY)
    page.shows("hello?")
    expect(page.page.locator(".message")).to_have_count(1)
    first, second = double.received
    assert first == second
    assert len(first["id"]) == 32


def test_message_whose_ack_was_lost_is_shown_once(visitor):
    double = RoomDouble()
    double.on_message = lambda room, message: room.publish(message["message"])  # and no ack
    page = RoomPage(double.answer(visitor()), "room1").live()
    page.say("hello")
    expect(page.page.locator(".message:not(.pending)")).to_have_count(1)
    double.on_message = lambda room, message: room.tell(ack={"id": message["id"], "offset": 1, "epoch": room.epoch})
    double.close(GOING_AWAY)
    expect(page.page.locator(".pending")).to_have_count(0)
    expect(page.page.locator(".message")).to_have_class("message mine")


def test_ack_before_the_copy_and_after_it_are_alike(visitor):
    double = RoomDouble()

    def acknowledge_first(room, message):
        publication = room.keep(message["message"])
        room.acknowledge(message["id"], publication["offset"])
        room.tell(payload=publication)

    double.on_message = acknowledge_first
    page = RoomPage(double.answer(visitor()), "room1").live()
    page.say("one")
    double.on_message = accept
    page.say("two")
    page.shows("one", "two")
    expect(page.page.locator(".message.mine")).to_have_count(2)
    expect(page.page.locator(".message")).to_have_count(2)


@pytest.mark.parametrize("acknowledges_first", [True, False])
def test_own_message_is_shown_once_where_the_room_numbers_nothing(visitor, acknowledges_first):
    double = RoomDouble(keeps_history=False)

    def answer(room, message):
        publication = room.keep(message["message"])
        if acknowledges_first:
            room.acknowledge(message["id"], offset=0)
        room.tell(payload=publication)
        if not acknowledges_first:
            room.acknowledge(message["id"], offset=0)

    double.on_message = answer
    page = RoomPage(double.answer(visitor()), "room1").live()
    for text in ("one", "two", "one"):
        page.say(text)
    page.shows("one", "two", "one")
    expect(page.page.locator(".message.mine")).to_have_count(3)
    expect(page.page.locator(".message")).to_have_count(3)


def test_break_in_a_room_that_keeps_nothing_is_told(visitor):
    double = RoomDouble(keeps_history=False)
    page = RoomPage(double.answer(visitor()), "room1").live()
    double.publish("one")
    page.shows("one")
    expect(page.page.locator(".note")).to_have_count(0)
    double.close(GOING_AWAY)
    double.keep("nobody hears this")
    expect(page.page.locator(".note")).to_contain_text("Messages may be missing here")
    double.publish("three")
    page.shows("one", "three")


def test_refused_message_says_why_and_can_be_sent_again(visitor):
    double = RoomDouble()
    double.on_message = refuse
    page = RoomPage(double.answer(visitor()), "room1").live()
    page.say("hello")
    expect(page.page.locator(".refused .fate")).to_contain_text("Not published: not today")
    double.on_message = accept
    page.page.get_by_role("button", name="Try again").click()
    page.shows("hello")
    expect(page.page.locator(".message")).to_have_count(1)


def test_gap_is_told_in_its_place_and_resumed_from(visitor):
    double = RoomDouble()
    double.keep("old")
    page = RoomPage(double.answer(visitor()), "room1").live()
    page.shows("old")
    double.tell(gap={"epoch": "second", "offset": 7})
    expect(page.page.locator(".note")).to_contain_text("Messages may be missing here")
    double.close(GOING_AWAY)
    expect(page.state).to_have_attribute("data-state", "live")
    assert double.asked[-1]["since"] == "second:7"


def test_terminal_close_is_final_until_the_visitor_tries_again(visitor):
    double = RoomDouble()
    page = RoomPage(double.answer(visitor()), "room1").live()
    double.close(TERMINAL, "come back tomorrow")
    expect(page.page.locator("#state-text")).to_have_text("Closed by the server: come back tomorrow")
    page.evaluate("dispatchEvent(new Event('online'))")
    expect(page.state).to_have_attribute("data-state", "closed")
    page.page.get_by_role("button", name="Try now").click()
    page.live()
    assert len(double.asked) == 2


def test_message_too_big_for_the_server_is_refused_and_not_sent_for_ever(visitor):
    double = RoomDouble()
    double.on_message = lambda room, message: room.close(MESSAGE_TOO_BIG, "message too big")
    page = RoomPage(double.answer(visitor()), "room1").live()
    page.say("too big")
    expect(page.page.locator(".refused")).to_contain_text("message too big")
    page.live()
    assert len(double.received) == 1


def test_waits_grow_to_twenty_seconds_and_are_spread(visitor):
    page = RoomPage(RoomDouble().answer(visitor()), "room1").live()
    waits = page.evaluate(
        """async () => {
            const { waitSeconds } = await import('/static/webapp1/room.js');
            return [1, 2, 5, 6, 50].map(n => [waitSeconds(n, () => 0), waitSeconds(n, () => 1)]);
        }"""
    )
    assert waits == [[0.5, 1], [0.5, 2], [0.5, 16], [0.5, 20], [0.5, 20]]


def test_coming_online_connects_at_once(visitor):
    double = RoomDouble()
    page = RoomPage(double.answer(visitor()), "room1").live()
    page.evaluate("globalThis.setTimeout = () => 0")  # left alone, it would wait for ever
    double.close(GOING_AWAY)
    expect(page.state).to_have_attribute("data-state", "waiting")
    page.evaluate("dispatchEvent(new Event('online'))")
    page.live()


def test_silence_after_a_message_is_a_broken_connection(visitor):
    double = RoomDouble()
    double.on_message = ignore
    context = double.answer(visitor())
    context.clock.install()
    page = RoomPage(context, "room1").live()
    page.say("anybody?")
    page.page.clock.fast_forward(10_001)
    expect(page.state).to_have_attribute("data-state", "waiting")
    double.on_message = accept
    page.page.clock.fast_forward(1_000)
    page.live().shows("anybody?")
