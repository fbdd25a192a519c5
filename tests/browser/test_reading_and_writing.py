"""The page by itself: input methods, keyboard, scrolling, screens, languages."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.page import RoomPage
from tests.browser.room_double import RoomDouble, ignore, refuse

pytestmark = [pytest.mark.browser, pytest.mark.server]


def test_enter_that_ends_a_composition_does_not_send(visitor):
    double = RoomDouble()
    page = RoomPage(double.answer(visitor()), "room1").live()
    page.composer.focus()
    input_method = page.page.context.new_cdp_session(page.page)
    input_method.send("Input.imeSetComposition", {"text": "にほんご", "selectionStart": 4, "selectionEnd": 4})
    enter = {"type": "rawKeyDown", "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 229}
    input_method.send("Input.dispatchKeyEvent", enter)
    input_method.send("Input.insertText", {"text": "日本語"})
    expect(page.composer).to_have_value("日本語")
    assert double.received == []
    page.page.keyboard.press("Enter")
    page.shows("日本語")


def test_enter_of_safaris_input_method_does_not_send(visitor):
    double = RoomDouble()
    page = RoomPage(double.answer(visitor()), "room1").live()
    page.composer.fill("日本語")
    page.evaluate(
        """document.getElementById('text').dispatchEvent(
            new KeyboardEvent('keydown', {key: 'Enter', keyCode: 229, bubbles: true, cancelable: true}))"""
    )
    page.composer.press("Enter")
    page.shows("日本語")
    assert len(double.received) == 1


def test_keyboard_alone_is_enough(visitor):
    double = RoomDouble()
    page = RoomPage(double.answer(visitor()), "room1").live()
    keyboard, focused = page.page.keyboard, page.page.locator(":focus")
    keyboard.press("Tab")
    expect(focused).to_have_text("Skip to the content")
    for _ in range(20):
        if focused.get_attribute("id") == "text":
            break
        keyboard.press("Tab")
    keyboard.type("one")
    keyboard.press("Shift+Enter")
    keyboard.type("two")
    keyboard.press("Enter")
    page.shows("one\ntwo")
    expect(page.composer).to_be_focused()
    double.on_message = refuse
    keyboard.type("three")
    keyboard.press("Enter")
    expect(page.page.locator(".refused")).to_contain_text("not today")
    keyboard.press("Shift+Tab")  # Edit, below the message it belongs to
    expect(focused).to_have_text("Edit")
    keyboard.press("Enter")
    expect(page.composer).to_have_value("three")
    expect(page.page.locator(".refused")).to_have_count(0)


def test_reader_of_old_messages_is_not_torn_away(visitor):
    double = RoomDouble()
    for number in range(60):
        double.keep(f"old {number}")
    page = RoomPage(double.answer(visitor()), "room1").live()
    expect(page.texts).to_have_count(60)
    expect(page.texts.last).to_be_in_viewport()
    page.page.locator("#log").evaluate("log => { log.scrollTop = 0 }")
    expect(page.texts.first).to_be_in_viewport()
    double.publish("new 1")
    double.publish("new 2")
    expect(page.page.locator("#newer")).to_have_text("New messages: 2")
    expect(page.texts.first).to_be_in_viewport()
    page.page.locator("#newer").click()
    expect(page.texts.last).to_be_in_viewport()
    expect(page.page.locator("#newer")).to_be_hidden()
    double.publish("new 3")
    expect(page.texts.last).to_have_text("new 3")
    expect(page.texts.last).to_be_in_viewport()


def test_very_long_conversations_keep_their_newest_messages(visitor):
    double = RoomDouble()
    for number in range(600):
        double.keep(f"message {number}")
    page = RoomPage(double.answer(visitor()), "room1").live()
    expect(page.texts.last).to_have_text("message 599")
    expect(page.texts.first).to_have_text("message 101")
    expect(page.texts.last).to_be_in_viewport()


def test_message_that_is_no_text_is_shown_as_json(visitor):
    double = RoomDouble()
    double.keep({"temperature": 21.5, "<b>": [None, True]})
    RoomPage(double.answer(visitor()), "room1").live().shows('{"temperature":21.5,"<b>":[null,true]}')


@pytest.mark.parametrize(
    ("size", "language"),
    [((320, 568), "en-US"), ((375, 667), "ja"), ((768, 1024), "en-US"), ((1280, 720), "ja")],
)
def test_no_screen_scrolls_sideways(visitor, size, language):
    double = RoomDouble()
    double.on_message = ignore
    double.keep("w" * 300, user="a" * 150)
    double.members = [{"client": "1", "user": "a" * 150}]
    context = visitor(viewport={"width": size[0], "height": size[1]}, locale=language)
    page = RoomPage(double.answer(context), "room1").live()
    page.say("u" * 300)
    expect(page.page.locator(".pending")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert page.evaluate("document.documentElement.scrollHeight") <= size[1]
    assert not page.log_scrolls_sideways()
    expect(page.composer).to_be_in_viewport(ratio=1)


def test_phone_shows_who_is_here_on_demand(visitor):
    double = RoomDouble()
    double.members = [{"client": "1", "user": "alice"}, {"client": "2"}]
    page = RoomPage(double.answer(visitor(viewport={"width": 375, "height": 667})), "room1").live().page
    expect(page.get_by_text("alice")).to_be_hidden()
    page.get_by_role("button", name="2 here").click()
    expect(page.get_by_text("alice")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_text("alice")).to_be_hidden()


def test_japanese_page_is_japanese(visitor):
    double = RoomDouble()
    double.on_message = refuse
    page = RoomPage(double.answer(visitor(locale="ja")), "room1").live()
    page.say("聞こえますか")
    expect(page.page.locator(".refused")).to_contain_text("送信できませんでした")
    expect(page.page.locator("html")).to_have_attribute("lang", "ja")
    seen = page.page.locator("body").inner_text() + str(page.composer.get_attribute("placeholder"))
    known = {"Yamabiko", "English", "room1", "Enter", "Shift", "yamabiko", "connect", "port", "not", "today"}
    assert set(re.findall(r"[A-Za-z]\w+", seen)) <= known


def test_every_word_of_the_scripts_is_translated(visitor):
    words = "JSON.parse(document.getElementById('words').textContent)"
    english = RoomPage(visitor(), "room1").evaluate(words)
    japanese = RoomPage(visitor(locale="ja"), "room1").evaluate(words)
    assert english.keys() == japanese.keys()
    assert [name for name in english if english[name] == japanese[name]] == []
    for name, sentence in english.items():
        assert set(re.findall(r"{\w+}", sentence)) == set(re.findall(r"{\w+}", japanese[name]))


def test_language_is_chosen_by_hand_and_kept(visitor):
    page = RoomPage(visitor(), "room7").live().page
    page.get_by_role("button", name="日本語").click()
    expect(page.locator("#state-text")).to_have_text("オンライン")
    page.reload()
    expect(page.locator("html")).to_have_attribute("lang", "ja")
    assert page.url.endswith("/rooms/room7/")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(visitor, scheme):
    double = RoomDouble()
    double.keep("theirs", user="alice")
    page = RoomPage(double.answer(visitor(color_scheme=scheme)), "room1").live()
    page.say("mine")
    expect(page.texts).to_have_count(2)
    ratios = page.evaluate(CONTRASTS, PLACES_OF_TEXT)
    assert {selector: ratio for selector, ratio in ratios.items() if ratio < 4.5} == {}


PLACES_OF_TEXT = [
    ".theirs .text",
    ".mine .text",
    ".by",
    ".hint",
    "#state-text",
    ".beside h2",
    "#newer",
    ".languages button",
    ".languages button:not([aria-current])",
]

CONTRASTS = """selectors => {
  const numbers = color => color.match(/[\\d.]+/g).map(Number);
  const light = color => numbers(color).slice(0, 3).map(value => value / 255)
    .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = element => {
    const color = getComputedStyle(element).backgroundColor;
    return numbers(color)[3] === 0 ? behind(element.parentElement) : color;
  };
  return Object.fromEntries(selectors.map(selector => {
    const element = document.querySelector(selector);
    const lights = [light(getComputedStyle(element).color), light(behind(element))];
    const [dark, bright] = lights.sort((a, b) => a - b);
    return [selector, (bright + 0.05) / (dark + 0.05)];
  }));
}"""
