"""From which pages and to which hosts sockets may come, and what the log says of those that may not."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.test import override_settings

from tests.django.peers import aknock, knock
from tests.site.asgi import application

HOSTS = ["testserver", "www.example.com", ".friends.example", "127.0.0.1", "[::1]", "[2001:db8::1]"]


def status(host: str, origin: str | None, **changes: Any) -> int:
    headers = [("host", host)] if origin is None else [("host", host), ("origin", origin)]
    return knock(application, headers=headers, **changes).status


@pytest.fixture(autouse=True)
def _hosts() -> Any:
    with override_settings(ALLOWED_HOSTS=HOSTS):
        yield


@pytest.mark.parametrize(
    ("scheme", "host", "origin"),
    [
        ("ws", "www.example.com", "http://www.example.com"),
        ("ws", "www.example.com:80", "http://www.example.com"),
        ("ws", "www.example.com", "http://www.example.com:80"),
        ("ws", "www.example.com:8000", "http://www.example.com:8000"),
        ("wss", "www.example.com", "https://www.example.com"),
        ("wss", "www.example.com:443", "https://www.example.com"),
        ("wss", "www.example.com", "https://www.example.com:443"),
        ("wss", "www.example.com:8443", "https://www.example.com:8443"),
        ("ws", "www.example.com", "ws://www.example.com"),
        ("wss", "www.example.com", "wss://www.example.com:443"),
        ("ws", "WWW.Example.COM", "http://www.example.com"),
        ("ws", "www.example.com", "HTTP://WWW.EXAMPLE.COM"),
        ("ws", "any.friends.example", "http://any.friends.example"),
        ("ws", "www.example.com.", "http://www.example.com."),
        ("ws", "127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("ws", "[::1]", "http://[::1]"),
        ("ws", "[::1]:8000", "http://[::1]:8000"),
        ("ws", "[::1]:80", "http://[::1]"),
        ("wss", "[2001:DB8::1]", "https://[2001:db8::1]:443"),
    ],
)
def test_our_own_pages_may_come(scheme: str, host: str, origin: str) -> None:
    assert status(host, origin, scheme=scheme) == 101


@pytest.mark.parametrize(
    ("scheme", "host", "origin"),
    [
        pytest.param("ws", "www.example.com", "http://evil.example", id="another site"),
        pytest.param("ws", "www.example.com", "ws://evil.example", id="another site of a program"),
        pytest.param("ws", "www.example.com", "https://www.example.com", id="another scheme"),
        pytest.param("wss", "www.example.com", "http://www.example.com", id="unencrypted page"),
        pytest.param("ws", "www.example.com", "http://www.example.com:8000", id="another port"),
        pytest.param("ws", "www.example.com:8000", "http://www.example.com", id="default port for another"),
        pytest.param("wss", "www.example.com:80", "https://www.example.com", id="port of the other scheme"),
        pytest.param("ws", "www.example.com", "http://example.com", id="parent domain"),
        pytest.param("ws", "www.example.com", "http://a.www.example.com", id="subdomain"),
        pytest.param("ws", "any.friends.example", "http://other.friends.example", id="sibling, both allowed hosts"),
        pytest.param("ws", "www.example.com", "http://www.example.com.evil.test", id="look-alike"),
        pytest.param("ws", "www.example.com", "http://www.example.com@evil.test", id="as user name"),
        pytest.param("ws", "www.example.com", "http://evil.test/www.example.com", id="as path"),
        pytest.param("ws", "www.example.com", "http://www.example.com.", id="trailing dot"),
        pytest.param("ws", "www.example.com", "http://www.example.com/", id="trailing slash"),
        pytest.param("ws", "www.example.com", "http://www.example.com ", id="trailing blank"),
        pytest.param("ws", "www.example.com", "http://www.example.com:080", id="port with a zero"),
        pytest.param("ws", "www.example.com", "null", id="null: a sandboxed frame, a file, a data URL"),
        pytest.param("ws", "www.example.com", "", id="empty"),
        pytest.param("ws", "www.example.com", "*", id="star"),
        pytest.param("ws", "www.example.com", "www.example.com", id="no scheme"),
        pytest.param("ws", "www.example.com", "file://", id="file"),
        pytest.param("ws", "www.example.com", "chrome-extension://www.example.com", id="extension"),
        pytest.param("ws", "[::1]", "http://[::2]", id="another address"),
        pytest.param("ws", "[::1]", "http://localhost", id="another name of this machine"),
        pytest.param("ws", "www.example.com", "http://www.ex\u00e4mple.com", id="not ASCII"),
    ],
)
def test_other_pages_may_not_come(scheme: str, host: str, origin: str) -> None:
    answer = knock(application, headers=[("host", host), ("origin", origin)], scheme=scheme)
    assert (answer.status, answer.error) == (
        403,
        {"code": 103, "message": "permission denied: this origin is not allowed"},
    )


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "www.example.com.evil.test",
        "www.example.com@evil.test",
        "evil.test/www.example.com",
        "www.example.com:80:80",
        "www.example.com:port",
        "www.example.com,evil.test",
        "",
        "::1",
        "[::1",
        "www.example.com\u0085",
    ],
)
def test_other_hosts_are_refused_even_where_the_origin_is_theirs(host: str) -> None:
    for origin in (None, f"http://{host}"):
        assert status(host, origin) == 403


def test_while_debugging_this_machine_is_allowed_as_in_django() -> None:
    with override_settings(DEBUG=True, ALLOWED_HOSTS=[]):
        assert status("localhost:8000", "http://localhost:8000") == 101
        assert status("evil.example", "http://evil.example") == 403


def test_programs_may_come_without_an_origin() -> None:
    assert status("www.example.com", None) == 101


def test_a_session_cookie_needs_an_origin() -> None:
    """A page of another site must not speak for a visitor, and browsers always say from where they come."""
    assert knock(application, headers=[("cookie", "sessionid=a")]).status == 403
    assert knock(application, headers=[("cookie", "theme=dark")]).status == 101


def fetched(site: str, mode: str, wanted: str) -> list[tuple[str, str]]:
    return [("sec-fetch-site", site), ("sec-fetch-mode", mode), ("sec-fetch-dest", wanted)]


@pytest.mark.django_db
@pytest.mark.parametrize("cookie", ["sessionid=a", "theme=dark"])
def test_a_script_of_our_own_page_may_come_without_an_origin(cookie: str) -> None:
    """For an EventSource of the page's own site browsers send none."""
    headers = [("cookie", cookie), *fetched("same-origin", "cors", "empty")]
    assert knock(application, headers=headers).status == 101


@pytest.mark.parametrize("cookie", ["sessionid=a", "theme=dark"])
@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(fetched("same-origin", "navigate", "document"), id="link"),
        pytest.param(fetched("same-origin", "navigate", "iframe"), id="frame"),
        pytest.param(fetched("same-origin", "no-cors", "image"), id="image"),
        pytest.param(fetched("same-origin", "no-cors", "empty"), id="prefetch"),
        pytest.param(fetched("same-origin", "cors", "video"), id="video with crossorigin"),
        pytest.param([("origin", "http://testserver"), *fetched("same-origin", "cors", "image")], id="and an image"),
        pytest.param(fetched("cross-site", "cors", "empty"), id="script of another site"),
        pytest.param(fetched("same-site", "cors", "empty"), id="script of a sibling"),
        pytest.param(fetched("same-origin, cross-site", "cors", "empty"), id="two answers"),
        pytest.param([("sec-fetch-site", "same-origin")], id="no mode"),
    ],
)
def test_what_others_may_make_a_browser_ask_for_without_an_origin_is_refused(
    headers: list[tuple[str, str]], cookie: str
) -> None:
    """Whoever can place a link or an image in a page of ours must not speak for its visitors."""
    assert knock(application, headers=[("cookie", cookie), *headers]).status == 403


@pytest.mark.parametrize("wanted", ["empty", "websocket"])
def test_sockets_of_our_own_pages_may_come_whatever_a_browser_calls_them(wanted: str) -> None:
    headers = [("origin", "http://testserver"), *fetched("same-origin", "websocket", wanted)]
    assert knock(application, headers=headers).status == 101


def test_only_one_origin_may_be_named() -> None:
    twice = [("origin", "http://testserver"), ("origin", "http://testserver")]
    other = [("origin", "http://testserver"), ("origin", "http://evil.example")]
    assert knock(application, headers=twice).status == 403
    assert knock(application, headers=other).status == 403
    assert knock(application, headers=other[::-1]).status == 403


def test_only_one_host_may_be_named() -> None:
    assert knock(application, headers=[("host", "testserver"), ("host", "evil.example")]).status == 403
    assert knock(application, headers=[("host", "evil.example"), ("host", "testserver")]).status == 403


@pytest.mark.parametrize("origin", ["https://partner.example", "HTTPS://Partner.Example"])
def test_allowed_origins_may_come(origin: str) -> None:
    with override_settings(YAMABIKO={"ALLOWED_ORIGINS": ["https://Partner.example"]}):
        assert status("www.example.com", origin) == 101


@pytest.mark.parametrize(
    "origin", ["http://partner.example", "https://partner.example:8443", "https://a.partner.example", "https://partner"]
)
def test_only_full_matches_with_allowed_origins_may_come(origin: str) -> None:
    with override_settings(YAMABIKO={"ALLOWED_ORIGINS": ["https://partner.example"]}):
        assert status("www.example.com", origin) == 403


@pytest.mark.parametrize(
    ("allowed", "origin"),
    [
        ("https://partner.example:443", "https://partner.example"),
        ("http://partner.example:80", "http://partner.example"),
    ],
)
def test_the_default_port_may_be_written_out_in_allowed_origins(allowed: str, origin: str) -> None:
    """Browsers never send it."""
    with override_settings(YAMABIKO={"ALLOWED_ORIGINS": [allowed]}):
        assert status("www.example.com", origin) == 101


def test_a_proxy_that_ends_tls_says_so_as_in_django() -> None:
    forwarded = [("host", "www.example.com"), ("x-forwarded-proto", "https"), ("origin", "https://www.example.com")]
    assert knock(application, headers=forwarded).status == 403
    with override_settings(SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https")):
        assert knock(application, headers=forwarded).status == 101
        unencrypted = [("host", "www.example.com"), ("x-forwarded-proto", "http"), ("origin", "http://www.example.com")]
        assert knock(application, headers=unencrypted).status == 101


def test_the_proxys_host_counts_only_where_django_is_told_so() -> None:
    forwarded = [("host", "127.0.0.1:8000"), ("x-forwarded-host", "www.example.com")]
    ours = [*forwarded, ("origin", "http://www.example.com")]
    assert knock(application, headers=ours).status == 403
    with override_settings(USE_X_FORWARDED_HOST=True):
        assert knock(application, headers=ours).status == 101
        assert knock(application, headers=[*forwarded, ("origin", "http://127.0.0.1:8000")]).status == 403
        assert knock(application, headers=[("host", "127.0.0.1"), ("x-forwarded-host", "evil.example")]).status == 403


def test_the_proxys_port_counts_only_where_django_is_told_so() -> None:
    """Without a Host header the port is all that is left to tell two of our own sites apart."""
    headers = [("x-forwarded-port", "8443"), ("origin", "http://127.0.0.1:8443")]
    assert knock(application, headers=headers, host=None).status == 403
    with override_settings(USE_X_FORWARDED_PORT=True):
        assert knock(application, headers=headers, host=None).status == 101


def test_a_header_with_an_underscore_is_not_one_with_a_hyphen() -> None:
    """Proxies replace X-Forwarded-Host and let X_Forwarded_Host pass; Django ignores such headers, too."""
    with override_settings(USE_X_FORWARDED_HOST=True, SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https")):
        forged = [("x_forwarded_host", "any.friends.example"), ("origin", "http://any.friends.example")]
        assert knock(application, headers=forged).status == 403
        forged = [("x_forwarded_proto", "https"), ("origin", "https://testserver")]
        assert knock(application, headers=forged).status == 403


async def test_a_refusal_is_logged_with_what_came_from_where_and_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "yamabiko")
    await aknock(application, "/rooms/open/porch/", [("origin", "https://elsewhere.example")])
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    for part in (
        "origin 'https://elsewhere.example'",
        "path '/rooms/open/porch/'",
        "192.0.2.7",
        "expected http://testserver, or add it to YAMABIKO['ALLOWED_ORIGINS']",
    ):
        assert part in record.getMessage()


async def test_a_host_is_logged_with_the_setting_to_change(caplog: pytest.LogCaptureFixture) -> None:
    await aknock(application, headers=[("host", "new.example")])
    assert "'new.example' is not allowed" in caplog.text
    assert "ALLOWED_HOSTS" in caplog.text


NASTY = "a\r\nb\x1b[31m\x9b\u0085"


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"headers": [("origin", f"http://{NASTY}")]}, id="origin"),
        pytest.param({"headers": [("host", NASTY)]}, id="host"),
        pytest.param({"path": f"/rooms/{NASTY}\u202e\u2028/", "headers": [("origin", "null")]}, id="path"),
        pytest.param({"path": f"/nowhere/{NASTY}\u202e\u2028/"}, id="path of no room"),
        pytest.param({"path": f"/rooms/{NASTY}\u202e\u2028/"}, id="room"),
        pytest.param({"client": (NASTY, 1), "headers": [("origin", "null")]}, id="address that a proxy has passed on"),
    ],
)
def test_no_control_character_reaches_the_log(caplog: pytest.LogCaptureFixture, given: dict[str, Any]) -> None:
    caplog.set_level(logging.INFO, "yamabiko")
    knock(application, **given)
    for record in caplog.records:
        assert record.getMessage().isprintable(), record.getMessage()


def test_long_lines_are_cut(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "yamabiko")
    knock(application, "/" + "p" * 60_000, [("origin", "o" * 60_000)])
    knock(application, headers=[("host", "h" * 60_000)])
    knock(application, "/" + "p" * 60_000)
    assert len(caplog.records) == 3
    assert all(len(record.getMessage()) < 1000 for record in caplog.records)


def test_credentials_are_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "yamabiko")
    headers = [("cookie", "sessionid=hush"), ("authorization", "Bearer hush"), ("origin", "null")]
    knock(application, "/rooms/open/porch/", headers, query_string=b"token=hush")
    assert caplog.records
    assert "hush" not in caplog.text


def test_what_an_http_server_leaves_out_of_the_scope_is_no_trouble() -> None:
    scope = {"server": None, "client": None, "scheme": None, "query_string": b""}
    assert knock(application, headers=[("origin", "http://testserver")], **scope).status == 101
