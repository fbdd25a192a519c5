"""The page of a room on the real site: what one says, the others see."""

import pytest
from playwright.sync_api import expect

from tests.browser.page import RoomPage

pytestmark = [pytest.mark.browser, pytest.mark.server]


def test_message_typed_in_one_tab_appears_in_the_other(visitor, room):
    one, other = RoomPage(visitor(), room).live(), RoomPage(visitor(), room).live()
    one.say("hello")
    other.say("やまびこ 🏔️")
    one.shows("hello", "やまびこ 🏔️")
    other.shows("hello", "やまびこ 🏔️")


def test_late_comer_sees_what_was_said_before(visitor, room):
    early = RoomPage(visitor(), room).live()
    for text in ("first", "second", "third"):
        early.say(text)
    early.shows("first", "second", "third")
    RoomPage(visitor(), room).shows("first", "second", "third")


def test_rooms_do_not_hear_each_other(visitor, room):
    here, there = RoomPage(visitor(), room).live(), RoomPage(visitor(), f"{room}0").live()
    there.say("only there")
    there.shows("only there")
    here.say("only here")
    here.shows("only here")


def test_front_page_is_room1(visitor):
    front = visitor().new_page()
    front.goto("/")
    expect(front.locator("#state")).to_have_attribute("data-state", "live")
    RoomPage(visitor(), "room1").live().say("to the front")
    expect(front.locator(".message .text").last).to_have_text("to the front")


def test_own_message_is_shown_once_and_as_ours(visitor, room):
    one = RoomPage(visitor(), room).live()
    one.say("mine")
    one.shows("mine")
    expect(one.page.locator(".message")).to_have_count(1)
    expect(one.page.locator(".message")).to_have_class("message mine")


def test_script_in_a_message_is_shown_as_text(visitor, room):
    attack = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    one, other = RoomPage(visitor(), room).live(), RoomPage(visitor(), room).live()
    one.say(attack)
    other.shows(attack)
    assert other.page.locator(".log img, .log script").count() == 0
    assert "owned" not in other.page.title()


def test_long_words_wrap(visitor, room):
    one = RoomPage(visitor(viewport={"width": 360, "height": 640}), room).live()
    one.say("山" * 250 + "w" * 250)
    expect(one.texts).to_have_count(1)
    assert not one.log_scrolls_sideways()


def test_too_long_a_message_stays_in_the_composer(visitor, room):
    one = RoomPage(visitor(), room).live()
    one.say("x" * 501)
    expect(one.page.locator("#count")).to_contain_text("501 characters")
    expect(one.composer).to_have_value("x" * 501)
    one.say("🏔" * 500)  # counted as the server does, not as UTF-16
    one.shows("🏔" * 500)


def test_presence_lists_two_visitors_and_forgets_one_who_left(visitor, room):
    one, leaver = RoomPage(visitor(), room).live(), visitor()
    RoomPage(leaver, room).live()
    expect(one.page.locator("#people")).to_have_text("Guests: 2")
    leaver.close()
    expect(one.page.locator("#people")).to_have_text("Guests: 1")


def test_signed_up_visitor_speaks_by_name(visitor, room):
    guest, member = RoomPage(visitor(), room).live(), visitor().new_page()
    member.goto(f"/rooms/{room}/")
    member.get_by_role("link", name="Sign in").click()
    member.get_by_role("link", name="Create an account").click()
    member.get_by_label("Username").fill("花子")
    member.get_by_label("Password:").fill("mountain-echo-7")
    member.get_by_label("Password confirmation").fill("mountain-echo-7")
    member.get_by_role("button", name="Create an account").click()
    member.wait_for_url(f"**/rooms/{room}/")
    expect(member.locator("#people")).to_contain_text("花子 (you)")
    expect(guest.page.locator("#people bdi")).to_have_text(["花子", "Guests: 1"])
    member.locator("#text").fill("I am 花子")
    member.locator("#text").press("Enter")
    guest.shows("I am 花子")
    expect(guest.page.locator(".message .by")).to_have_text("花子")
    windows = [member.context.new_page(), member.context.new_page()]
    windows[0].goto(f"/rooms/{room}/")
    windows[1].goto("/together/")
    for window in windows:
        expect(window.locator("#people")).to_contain_text("花子 (you)")
    member.get_by_role("button", name="Sign out").click()
    for window in windows:  # nobody goes on as her
        expect(window.get_by_role("link", name="Sign in")).to_be_visible()
        expect(window.locator("#state")).to_have_attribute("data-state", "live")
    expect(guest.page.locator("#people bdi")).to_have_text(["Guests: 3"])


def test_staff_announces_from_an_ordinary_view(visitor, room, site):
    account = ("--username", "keeper", "--email", "")
    site.manage("createsuperuser", "--no-input", *account, DJANGO_SUPERUSER_PASSWORD="k")
    guest, keeper = RoomPage(visitor(), room).live(), visitor().new_page()
    keeper.goto(f"/sign-in/?next=/rooms/{room}/")
    keeper.get_by_label("Username").fill("keeper")
    keeper.get_by_label("Password").fill("k")
    keeper.get_by_role("button", name="Sign in").click()
    keeper.get_by_label("Announcement").fill("The hut closes at six")
    keeper.get_by_role("button", name="Announce").click()
    expect(guest.page.locator(".announcement .text")).to_have_text("The hut closes at six")


def test_number_leads_to_another_room(visitor):
    page = RoomPage(visitor(), "room1").live().page
    page.get_by_label("Number").fill("42")
    page.get_by_role("button", name="Go there").click()
    page.wait_for_url("**/rooms/room42/")
    expect(page.get_by_role("heading", level=1)).to_have_text("room42")
