"""The page of two rooms over one connection: what a visitor sees and does there."""

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.browser.conftest import Site
from tests.browser.connection_double import ConnectionDouble

pytestmark = [pytest.mark.browser, pytest.mark.server]

VALLEY, SUMMIT = 0, 1


@pytest.fixture
def own_site(tmp_path, translations):
    """Its rooms are empty: the page is always of the same two."""
    with Site(tmp_path) as site:
        yield site


class TogetherPage:
    def __init__(self, visitor: BrowserContext) -> None:
        self.page: Page = visitor.new_page()
        self.sockets: list[str] = []
        self.page.on("websocket", lambda socket: self.sockets.append(socket.url))
        self.page.goto("/together/")

    def live(self) -> "TogetherPage":
        expect(self.page.locator("#state")).to_have_attribute("data-state", "live")
        return self

    def panel(self, room: int) -> Locator:
        return self.page.locator("[data-room]").nth(room)

    def button(self, room: int, name: str) -> Locator:
        return self.panel(room).get_by_role("button", name=name)

    def say(self, room: int, text: str) -> None:
        self.panel(room).locator("textarea").fill(text)
        self.panel(room).locator("textarea").press("Enter")

    def shows(self, room: int, *texts: str) -> None:
        expect(self.panel(room).locator(".message:not(.pending, .refused) .text")).to_have_text(list(texts))

    def people(self, *people: str) -> None:
        expect(self.page.locator("#people li bdi")).to_have_text(list(people))


def test_two_rooms_are_heard_over_one_socket(own_site, visitor):
    one = TogetherPage(visitor(base_url=own_site.url)).live()
    other = TogetherPage(visitor(base_url=own_site.url)).live()
    one.say(VALLEY, "hello")
    other.say(SUMMIT, "cold up here")
    for page in (one, other):
        page.shows(VALLEY, "hello")
        page.shows(SUMMIT, "cold up here")
        assert len(page.sockets) == 1
    expect(one.panel(VALLEY).locator(".message.mine")).to_have_count(1)
    expect(other.panel(VALLEY).locator(".message.mine")).to_have_count(0)
    newcomer = TogetherPage(visitor(base_url=own_site.url)).live()
    newcomer.shows(VALLEY, "hello")


def test_die_is_rolled_before_everyones_eyes(own_site, visitor):
    one = TogetherPage(visitor(base_url=own_site.url)).live()
    other = TogetherPage(visitor(base_url=own_site.url, locale="ja")).live()
    one.button(VALLEY, "Roll a die").click()
    expect(one.panel(VALLEY).locator(".announcement .text")).to_contain_text("Guest rolled")
    expect(other.panel(VALLEY).locator(".announcement .text")).to_contain_text("ゲスト が")
    expect(other.panel(SUMMIT).locator(".message")).to_have_count(0)


def test_person_with_several_tabs_is_one_and_is_gone_with_the_last(own_site, visitor):
    hanako = visitor(base_url=own_site.url)
    page = hanako.new_page()
    page.goto("/sign-up/?next=/together/")
    page.get_by_label("Username").fill("hanako")
    for field in page.locator("[type=password]").all():
        field.fill("three mountains")
    page.get_by_role("button", name="Create an account").click()
    page.wait_for_url("/together/")
    tab = TogetherPage(hanako).live()
    guest = TogetherPage(visitor(base_url=own_site.url)).live()
    guest.people("hanako", "Guests: 1")
    tab.people("hanako (you)", "Guests: 1")
    expect(guest.panel(VALLEY).locator(".here")).to_have_text("2 here")
    tab.button(VALLEY, "Leave").click()
    expect(guest.panel(SUMMIT).locator(".here")).to_have_text("2 here")
    page.close()
    tab.page.close()
    guest.people("Guests: 1")


def test_room_that_was_left_is_entered_again_without_a_hole(own_site, visitor):
    one = TogetherPage(visitor(base_url=own_site.url)).live()
    other = TogetherPage(visitor(base_url=own_site.url)).live()
    one.say(VALLEY, "before")
    one.shows(VALLEY, "before")
    one.button(VALLEY, "Leave").click()
    expect(one.panel(VALLEY).locator(".note")).to_contain_text("You have left")
    expect(one.button(VALLEY, "Roll a die")).to_be_disabled()
    other.say(VALLEY, "meanwhile")
    other.shows(VALLEY, "before", "meanwhile")
    one.button(VALLEY, "Come in").click()
    one.shows(VALLEY, "before", "meanwhile")
    expect(one.button(VALLEY, "Roll a die")).to_be_enabled()


def test_break_is_shown_and_what_was_said_meanwhile_arrives(own_site, visitor):
    away = visitor(base_url=own_site.url, expects_errors=True)
    one, other = TogetherPage(away).live(), TogetherPage(visitor(base_url=own_site.url)).live()
    away.set_offline(True)
    expect(one.page.locator("#state")).to_have_attribute("data-state", "waiting")
    one.say(VALLEY, "from the dead spot")
    expect(one.panel(VALLEY).locator(".pending")).to_have_count(1)
    other.say(SUMMIT, "missed")
    other.shows(SUMMIT, "missed")
    away.set_offline(False)
    one.live()
    one.shows(SUMMIT, "missed")
    one.shows(VALLEY, "from the dead spot")
    other.shows(VALLEY, "from the dead spot")


def test_what_is_refused_says_why_and_final_closing_can_be_undone(visitor):
    double = ConnectionDouble(publish={"error": {"code": 400, "message": "not today"}})
    page = TogetherPage(double.answer(visitor())).live()
    page.say(VALLEY, "hello")
    expect(page.panel(VALLEY).locator(".refused .fate")).to_contain_text("Not published: not today")
    double.close(4500, "come back tomorrow")
    expect(page.page.locator("#state-text")).to_have_text("Closed by the server: come back tomorrow")
    page.page.get_by_role("button", name="Try now").click()
    page.live()


def test_page_is_linked_from_the_page_of_a_room_and_is_japanese_for_the_japanese(visitor):
    page = visitor(locale="ja").new_page()
    page.goto("/")
    page.get_by_role("link", name="ひとつの接続で、ふたつのルーム").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("ひとつの接続で、ふたつのルーム")
    expect(page.locator("#state-text")).to_have_text("オンライン")


@pytest.mark.parametrize("width", [360, 900, 1280])
def test_nothing_sticks_out_at_any_width(visitor, width):
    page = TogetherPage(visitor(viewport={"width": width, "height": 700})).live()
    page.say(VALLEY, "w" * 300)
    expect(page.panel(VALLEY).locator(".message").last).to_be_visible()
    assert page.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_every_control_has_a_name_for_those_who_do_not_see_it(visitor):
    page = TogetherPage(visitor()).live()
    nameless = page.page.evaluate(
        """() => [...document.querySelectorAll("button:not([hidden]), textarea, a, [role=log]")]
            .filter((each) => !(each.textContent.trim() || each.ariaLabel || each.labels?.length))
            .map((each) => each.outerHTML)"""
    )
    assert nameless == []
