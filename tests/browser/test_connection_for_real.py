"""The JavaScript module against the real server, with real breaks."""

import time
from pathlib import Path

import jwt
import pytest
from playwright.sync_api import BrowserContext

from tests.browser.conftest import Site
from tests.browser.connection_page import ConnectionPage

pytestmark = [pytest.mark.browser, pytest.mark.server]

SECRET = "a secret of the tests, and of nothing else"


@pytest.fixture
def echo(room) -> str:
    return f"echo/{room}"


def signed_up(visitor: BrowserContext, name: str) -> BrowserContext:
    page = visitor.new_page()
    page.goto("/sign-up/")
    page.get_by_label("Username").fill(name)
    for field in page.locator("[type=password]").all():
        field.fill("three mountains")
    page.get_by_role("button", name="Create an account").click()
    page.wait_for_url("/")
    page.close()
    return visitor


def test_server_that_is_killed_and_comes_back_has_lost_nothing(tmp_path, visitor):
    with Site(tmp_path) as site:
        page = ConnectionPage(visitor(base_url=site.url, expects_errors=True)).enter("echo/valley")
        assert page.fate("room.publish('before')") == {"done": None}
        port = site.port
        site.kill()
        page.until("connection.state.name !== 'live'")
        page.run("globalThis.meanwhile = fate(room.publish('while it was down'))")
        site.start(port)
        page.run("dispatchEvent(new Event('online'))")  # or it may wait for up to 20 s
        assert page.get("meanwhile") == {"done": None}
        page.until_messages("before", "while it was down")
        assert page.told("gap") == []
        assert [each["isResumed"] for each in page.told("joined")] == [False, True]


def test_offline_and_back_loses_nothing_and_tells_nothing_twice(visitor, echo):
    away = visitor(expects_errors=True)
    one, other = ConnectionPage(away).enter(echo), ConnectionPage(visitor()).enter(echo)
    one.fate("room.publish('before')")
    away.set_offline(True)
    one.until_state("waiting")
    for text in ("missed 1", "missed 2"):
        assert other.fate(f"room.publish('{text}')") == {"done": None}
    away.set_offline(False)
    one.until_messages("before", "missed 1", "missed 2")
    assert one.told("gap") == []


def test_newcomer_begins_with_the_last_messages_and_goes_on_live(visitor, echo):
    one = ConnectionPage(visitor()).enter(echo)
    for text in "abcd":
        one.fate(f"room.publish('{text}')")
    newcomer = ConnectionPage(visitor()).enter(echo, "{ history: 2 }")
    one.fate("room.publish('e')")
    newcomer.until_messages("c", "d", "e")


def test_everyone_sees_who_comes_and_goes_and_by_what_name(visitor, echo, room):
    hanako = signed_up(visitor(), f"hanako-{room}")
    one = ConnectionPage(hanako).enter(echo, "{ presence: true }")
    one.until("room.members.length === 1")
    tab = ConnectionPage(hanako).enter(echo)
    guest = ConnectionPage(visitor()).enter(echo, "{ presence: true }")
    for page in (one, guest):
        page.until("room.members.length === 3")
        assert sorted(page.get("room.members.map(({ name }) => name)")) == ["", f"hanako-{room}", f"hanako-{room}"]
    assert len(set(one.get("room.members.map(({ user }) => user)"))) == 2
    tab.run("room.leave()")
    guest.run("connection.close()")
    one.until("room.members.length === 1")
    assert one.get("room.members[0].client === connection.client")


def test_call_is_answered_or_refused_by_its_code(visitor, echo):
    page = ConnectionPage(visitor()).enter(echo)
    assert page.fate("room.call('roll', { sides: 2 })")["done"] in {1, 2}
    assert page.fate("room.call('roll', { sides: 1 })")["code"] == 400
    assert page.fate("room.call('roll', { sides: 'six' })")["code"] == 107
    assert page.fate("room.call('shout')")["code"] == 104
    assert page.fate("connection.call('shout')")["code"] == 104
    assert page.fate("room.publish(7)")["message"] == "a message is a text"
    page.run("globalThis.nowhere = enter('nowhere')")
    page.until("nowhere.state === 'left'")
    assert page.told("left")[0]["code"] == 102


def test_two_rooms_share_one_socket(visitor, echo):
    context = visitor()
    sockets = []
    context.on("page", lambda page: page.on("websocket", lambda socket: sockets.append(socket)))
    page = ConnectionPage(context).enter(echo).enter(f"{echo}-2")
    for room in (echo, f"{echo}-2"):
        page.fate(f"connection.join('{room}').publish('into {room}')")
    page.until_messages(f"into {echo}", f"into {echo}-2")
    assert len(sockets) == 1


@pytest.fixture
def site_with_tokens(tmp_path):
    settings, root = "tests.browser.with_tokens", str(Path(__file__).parents[2])
    with Site(tmp_path, DJANGO_SETTINGS_MODULE=settings, PYTHONPATH=root, TOKEN_SECRET=SECRET) as site:
        yield site


def new_token(lives_seconds: float) -> str:
    return jwt.encode({"sub": "", "exp": time.time() + lives_seconds}, SECRET, "HS256")


def test_connection_outlives_its_tokens_by_renewing_them(visitor, site_with_tokens):
    context = visitor(base_url=site_with_tokens.url)
    context.expose_function("newToken", lambda: new_token(2))
    token = "{ token: () => { globalThis.tokens = (globalThis.tokens ?? 0) + 1; return newToken() } }"
    page = ConnectionPage(context, token).enter("echo/valley")
    page.until("tokens === 5")  # the first would have ended it by now
    assert page.fate("room.publish('still here')") == {"done": None}
    assert [state["name"] for state in page.told("state")] == ["live"]


def test_token_that_nobody_signed_closes_the_connection_for_good(visitor, site_with_tokens):
    page = ConnectionPage(visitor(base_url=site_with_tokens.url), "{ token: async () => 'a.b.c' }").until_state(
        "closed"
    )
    assert page.get("connection.state") == {"name": "closed", "code": 3500, "reason": "invalid token"}
