"""The door of the HTTP API: who is let in, which bodies are read, and as what errors are told."""

from __future__ import annotations

import hmac
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import include, path, resolve, reverse

from tests.django.api_contract import KEY, SETTINGS, check_answer
from yamabiko.core.errors import YamabikoError
from yamabiko.core.node import Node
from yamabiko.django.api import views
from yamabiko.django.api.methods import METHODS
from yamabiko.django.api.views import api_view
from yamabiko.django.rare_warning import RareWarning

JSON = "application/json"
PREVIOUS = "the key that was there before"
WITH_KEY = {"X-API-Key": KEY}
URLS = ["/api/info", "/api/publish", "/api/openapi.json"]

urlpatterns = [path("under/", include("yamabiko.urls"))]


@pytest.fixture(autouse=True)
def _with_api() -> Iterator[None]:
    with override_settings(ROOT_URLCONF="yamabiko.urls", YAMABIKO=SETTINGS):
        yield


def post(body: Any = b"{}", method: str = "info", headers: Any = WITH_KEY, query: str = "") -> Any:
    return Client(headers=headers).generic("POST", f"/api/{method}{query}", body, JSON)


@override_settings(YAMABIKO={})
@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("method", ["get", "post", "put"])
@pytest.mark.parametrize("headers", [{}, WITH_KEY, {"X-API-Key": ""}, {"Authorization": "apikey "}])
def test_while_no_key_is_set_nothing_is_there(url: str, method: str, headers: Any) -> None:
    response = getattr(Client(headers=headers), method)(url)
    assert response.status_code == 404


def projects_own(request: HttpRequest, name: str) -> HttpResponse:
    return HttpResponse(f"the project's {name}")


urlpatterns += [path("shared/", include("yamabiko.urls")), path("shared/api/<str:name>", projects_own)]


@override_settings(ROOT_URLCONF=__name__)
def test_a_project_keeps_its_own_paths_beside_those_of_the_methods() -> None:
    client = Client(headers=WITH_KEY)
    assert client.get("/shared/api/orders").content == b"the project's orders"
    assert client.post("/shared/api/info", b"{}", JSON).json()["result"]["nodes"]
    with override_settings(YAMABIKO={}):
        assert client.get("/shared/api/info").content == b"the project's info"


@override_settings(YAMABIKO={"API_KEY_PREVIOUS": PREVIOUS.replace(" ", "-")})
def test_a_previous_key_alone_opens_nothing() -> None:
    assert post(headers={"X-API-Key": PREVIOUS.replace(" ", "-")}).status_code == 404


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        (WITH_KEY, ""),
        ({"Authorization": f"apikey {KEY}"}, ""),
        ({"Authorization": f"ApiKey  {KEY}"}, ""),
        ({}, f"?api_key={KEY}"),
        ({"Authorization": "Bearer of something else"}, f"?api_key={KEY}"),
        ({"X-API-Key": KEY, "Authorization": "apikey wrong"}, "?api_key=wrong"),
        ({"X-API-Key": "", "Authorization": f"apikey {KEY}"}, "?api_key=wrong"),
    ],
)
def test_a_key_comes_in_a_header_or_in_the_query(headers: Any, query: str) -> None:
    assert post(headers=headers, query=query).status_code == 200


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({}, ""),
        ({"X-API-Key": "wrong"}, ""),
        ({"X-API-Key": "wrong"}, f"?api_key={KEY}"),
        ({"X-API-Key": KEY + "x"}, ""),
        ({"X-API-Key": KEY[:-1]}, ""),
        ({"X-API-Key": KEY.upper()}, ""),
        ({"X-API-Key": "schlüssel"}, ""),
        ({"Authorization": KEY}, ""),
        ({"Authorization": f"Bearer {KEY}"}, ""),
        ({"Authorization": "apikey wrong"}, f"?api_key={KEY}"),
        ({}, "?api_key=wrong"),
        ({}, "?api_key=%ff%fe"),
        ({"Cookie": f"api_key={KEY}"}, ""),
    ],
)
@pytest.mark.parametrize("url", URLS)
def test_who_has_not_the_key_learns_nothing(headers: Any, query: str, url: str) -> None:
    for method in ("get", "post"):
        response = getattr(Client(headers=headers), method)(url + query)
        assert (response.status_code, response.content) == (401, b"")


def test_the_key_of_before_opens_it_too_while_keys_are_changed(settings: Any) -> None:
    previous = PREVIOUS.replace(" ", "-")
    settings.YAMABIKO = {"API_KEY": KEY, "API_KEY_PREVIOUS": previous}
    assert [post(headers={"X-API-Key": key}).status_code for key in (KEY, previous, "x")] == [200, 200, 401]


def test_all_keys_are_compared_in_constant_time(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.YAMABIKO = {"API_KEY": KEY, "API_KEY_PREVIOUS": KEY[::-1]}
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def compare_and_tell(one: Any, other: Any) -> bool:
        compared.append((one, other))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare_and_tell)
    for given in (KEY, "é"):
        compared.clear()
        post(headers={"X-API-Key": given})
        assert compared == [(given.encode(), KEY.encode()), (given.encode(), KEY[::-1].encode())]


def test_no_key_is_in_the_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "refused_keys", RareWarning("refused"))
    caplog.set_level(logging.DEBUG)
    for key in (KEY, "a-wrong-key-somebody-has-elsewhere"):
        for headers in ({"X-API-Key": key}, {"Authorization": f"apikey {key}"}):
            post(headers=headers)
        post(headers={}, query=f"?api_key={key}")
        post(b"{", headers={}, query=f"?api_key={key}")
    assert "refused: 127.0.0.1" in caplog.text
    assert KEY not in caplog.text
    assert "somebody" not in caplog.text


@override_settings(YAMABIKO={"API_KEY": "too short"})
def test_a_key_that_cannot_be_shuts_it_without_showing_the_key(caplog: pytest.LogCaptureFixture) -> None:
    response = post(headers={"X-API-Key": "too short"})
    assert (response.status_code, response.content) == (500, b"")
    assert "API_KEY" in caplog.text
    assert "too short" not in caplog.text


@pytest.mark.parametrize("method", ["get", "head", "put", "patch", "delete", "options"])
def test_methods_are_called_by_post_alone(method: str) -> None:
    response = getattr(Client(headers=WITH_KEY), method)("/api/info")
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize("method", ["nothing", "connections", "map_publish", "Publish", "__class__", "publish.json"])
def test_a_method_that_is_not_there_is_not_found(method: str) -> None:
    assert post(method=method).status_code == 404


def test_a_backend_needs_no_csrf_token_but_a_page_with_cookies_still_needs_the_key(settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.csrf.CsrfViewMiddleware"]
    client = Client(enforce_csrf_checks=True)
    assert client.post("/api/info", {}, JSON, headers=WITH_KEY).status_code == 200
    assert client.post("/api/info", {}, JSON, headers={"Cookie": "sessionid=somebody's"}).status_code == 401


def test_nobody_may_keep_an_answer() -> None:
    for response in (post(), post(headers={}), Client(headers=WITH_KEY).get("/api/openapi.json")):
        assert response.headers["Cache-Control"] == "no-store"


async def test_it_is_the_same_on_an_event_loop() -> None:
    client = AsyncClient()
    assert (await client.post("/api/info", {}, JSON)).status_code == 401
    response = await client.post("/api/info", {}, JSON, headers=WITH_KEY)
    assert (response.status_code, list(response.json())) == (200, ["result"])
    assert (await client.get("/api/info", headers=WITH_KEY)).status_code == 405


BROKEN = [
    b"{",
    b"}",
    b"x",
    b"\xff",
    b"{'a': 1}",
    b'{"a":"\xff"',
    b'{"a":' + b"[" * 50_000,
    b'{"a":NaN}',
    b"{} {}",
    b'{"a":"\\ud800"}',
]


@pytest.mark.parametrize("body", BROKEN)
def test_what_is_no_json_is_400(body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="yamabiko")
    response = post(body)
    assert error_of(response, 400) == 107
    check_answer("info", 400, response.json())
    assert not [record for record in caplog.records if record.exc_info]


def error_of(response: Any, status: int = 200) -> int:
    assert (response.status_code, list(response.json())) == (status, ["error"])
    code: int = response.json()["error"]["code"]
    return code


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"[]", "Expected `object`, got `array`"),
        (b"null", "Expected `object`, got `null`"),
        (b"", "missing required field `channel`"),
        (b"{}", "missing required field `channel`"),
        (b'{"channel": 1}', "Expected `str`, got `int`"),
        (b'{"channel": null}', "Expected `str`, got `null`"),
        (b'{"channel": "open/a", "tags": {"a": 1}}', "`$.tags"),
        (b'{"channel": "open/a", "tags": []}', "`$.tags"),
        (b'{"channel": "open/a", "skip_history": 1}', "`$.skip_history`"),
        (b'{"channel": "open/a", "version": -1}', "`$.version`"),
        (b'{"channel": "open/a", "version": 1e400}', "`$.version`"),
    ],
)
def test_json_that_something_else_was_expected_of_is_told_why(body: bytes, why: str) -> None:
    response = post(body, "publish")
    assert error_of(response) == 107
    assert why in response.json()["error"]["message"]
    check_answer("publish", 200, response.json())


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_body_is_read_as_json_whatever_it_is_called(content_type: str) -> None:
    body = b'{"channel": "open/a", "data": 1}'
    response = Client(headers=WITH_KEY).generic("POST", "/api/publish", body, content_type)
    assert response.json() == {"result": {}}


@override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=100)
def test_a_body_that_is_too_large_is_413() -> None:
    body = b'{"channel": "open/a", "data": 1}'
    assert post(body.ljust(100), "publish").json() == {"result": {}}
    response = post(body.ljust(101), "publish")
    assert (response.status_code, response.content) == (413, b"")


@override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=100)
async def test_a_body_that_does_not_say_its_size_has_the_same_limit() -> None:
    scope = {"type": "http", "method": "POST", "path": "/api/publish", "headers": [(b"x-api-key", KEY.encode())]}
    for size, status in ((100, 200), (101, 413)):
        body = io.BytesIO(b'{"channel": "open/a", "data": 1}'.ljust(size))
        assert (await api_view(ASGIRequest(scope, body), "publish")).status_code == status


@override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=None)
def test_without_a_limit_a_large_body_is_read() -> None:
    assert post(b'{"channel": "open/a", "data": 1%s}' % (b" " * 3_000_000), "publish").json() == {"result": {}}


async def test_a_body_that_breaks_off_is_400() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("the peer is gone")

    scope = {"type": "http", "method": "POST", "path": "/api/publish", "headers": [(b"x-api-key", KEY.encode())]}
    assert (await api_view(ASGIRequest(scope, Broken()), "publish")).status_code == 400


TRANSPORT = WITH_KEY | {"X-Centrifugo-Error-Mode": "transport"}


@pytest.mark.parametrize(
    ("method", "request_body", "code", "status"),
    [
        ("publish", {"channel": "nowhere", "data": 1}, 102, 404),
        ("rpc", {"method": "nothing"}, 104, 404),
        ("publish", {"channel": "open/a"}, 107, 400),
        ("publish", {}, 107, 400),
        ("history", {"channel": "open/a"}, 108, 400),
        ("history", {"channel": "kept/a", "limit": 1, "since": {"epoch": "other"}}, 112, 416),
        ("subscribe", {"user": "1", "channel": "kept/a", "expire_at": 1}, 110, 400),
    ],
)
def test_errors_have_http_statuses_for_who_wants_them(method: str, request_body: Any, code: int, status: int) -> None:
    body = json.dumps(request_body)
    assert error_of(post(body, method)) == code
    response = post(body, method, TRANSPORT)
    assert error_of(response, status) == code
    check_answer(method, status, response.json())
    assert post(body, method, WITH_KEY | {"X-Centrifugo-Error-Mode": "other"}).status_code == 200


def test_what_went_well_is_200_in_every_error_mode() -> None:
    assert post(headers=TRANSPORT).status_code == 200


@pytest.mark.parametrize("error", [ZeroDivisionError("a secret of ours"), YamabikoError("a secret of ours")])
def test_a_mistake_of_ours_is_error_100_and_the_log_has_why(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def break_down(node: Node) -> Any:
        raise error

    monkeypatch.setattr(Node, "statuses", break_down)
    response = post()
    assert (error_of(response), "secret" in response.content.decode()) == (100, False)
    assert error_of(post(headers=TRANSPORT), 500) == 100
    check_answer("info", 500, post(headers=TRANSPORT).json())
    assert "a secret of ours" in caplog.text


def test_a_project_includes_the_urls_wherever_it_likes(settings: Any) -> None:
    assert [reverse(name) for name in ("token", "openapi")] == ["/yamabiko/token/", "/api/openapi.json"]
    assert {resolve(f"/api/{method}").func for method in METHODS} == {api_view}
    settings.ROOT_URLCONF = __name__
    assert reverse("yamabiko:token") == "/under/yamabiko/token/"
    assert Client(headers=WITH_KEY).post("/under/api/info", {}, JSON).status_code == 200
    described = Client(headers=WITH_KEY).get("/under/api/openapi.json").json()
    assert described["servers"] == [{"url": "/under/api"}]
