"""The view that gives pages their tokens: to whom, for what, and what it answers otherwise."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.middleware.csrf import get_token
from django.test import AsyncClient, AsyncRequestFactory, Client, RequestFactory, override_settings
from django.urls import path

from yamabiko import Refused, Room
from yamabiko.core.errors import ConfigurationError
from yamabiko.django.rooms import Registry
from yamabiko.django.token_view import token_view
from yamabiko.django.tokens import connection_claims, subscription_claims

SECRET = "a random text of well over thirty-two bytes"
URL = "/yamabiko/token/"
JSON = "application/json"

urlpatterns = [path("yamabiko/token/", token_view)]


@pytest.fixture(autouse=True)
def _with_view(db: None) -> Iterator[None]:
    with override_settings(ROOT_URLCONF=__name__, YAMABIKO={"TOKEN_SECRET": SECRET}):
        yield


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_user("alice")


@pytest.fixture
def client(alice: User) -> Client:
    client = Client()
    client.force_login(alice)
    return client


def error_of(response: Any) -> tuple[int, int]:
    """Return the status and the code of a refusal in JSON, which nobody may keep."""
    assert response.headers["Content-Type"] == JSON
    assert response.headers["Cache-Control"] == "no-store"
    assert list(response.json()) == ["error"]
    assert isinstance(response.json()["error"]["message"], str)
    return response.status_code, response.json()["error"]["code"]


def message_of(response: Any) -> str:
    return str(response.json()["error"]["message"])


def test_a_signed_in_user_gets_a_token_to_connect_with(client: Client, alice: User) -> None:
    response = client.post(URL)
    assert (response.status_code, response.headers["Cache-Control"]) == (200, "no-store")
    assert list(response.json()) == ["token"]
    claims = connection_claims(response.json()["token"])
    assert (claims.user, bytes(claims.info), claims.grants) == (str(alice.pk), b'{"name":"alice"}', {})


ASKING: list[Callable[[Client, str], Any]] = [
    lambda client, room: client.post(URL, {"channel": room}),
    lambda client, room: client.post(URL, f"channel={room}&x=1", "application/x-www-form-urlencoded"),
    lambda client, room: client.post(URL, {"channel": room}, JSON),
    lambda client, room: client.post(URL, json.dumps({"x": [1], "channel": room}), "application/json; charset=utf-8"),
]


@pytest.mark.parametrize("ask", ASKING, ids=["multipart", "form", "JSON", "JSON with more"])
@pytest.mark.parametrize("room", ["members/club", "members/山"])
def test_with_a_room_it_is_a_token_to_join_that_room(client: Client, alice: User, ask: Any, room: str) -> None:
    response = ask(client, room)
    assert (response.status_code, response.headers["Cache-Control"]) == (200, "no-store")
    claims = subscription_claims(response.json()["token"])
    assert (claims.user, claims.room) == (str(alice.pk), room)


@pytest.mark.parametrize("ask", ASKING)
def test_a_room_that_its_class_does_not_open_to_the_user_is_forbidden(client: Client, ask: Any) -> None:
    assert error_of(ask(client, "closed/club")) == (403, 103)


@pytest.mark.parametrize("ask", ASKING)
@pytest.mark.parametrize("room", ["nowhere", "", "a" * 300])
def test_a_room_that_no_class_has_is_not_found(client: Client, ask: Any, room: str) -> None:
    assert error_of(ask(client, room)) == (404, 102)


def test_a_room_class_says_why_in_its_own_words(client: Client, only_new_rooms: Registry) -> None:
    class PaidRoom(Room):
        async def can_join(self, user: Any) -> bool:
            raise Refused(f"{user.get_username()}, this room is for members", 402)

    only_new_rooms.add("paid", PaidRoom)
    response = client.post(URL, {"channel": "paid"})
    assert error_of(response) == (403, 402)
    assert message_of(response) == "alice, this room is for members"


@pytest.mark.parametrize("body", [{}, {"channel": "open/club"}, {"channel": "nowhere"}])
def test_somebody_unknown_gets_nothing_and_learns_of_no_room(body: Any) -> None:
    assert error_of(Client().post(URL, body, JSON)) == (401, 101)


def test_someone_who_is_no_longer_active_gets_nothing(client: Client, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert error_of(client.post(URL)) == (401, 101)


@pytest.mark.parametrize("method", ["get", "head", "put", "patch", "delete", "options"])
def test_any_other_method_is_told_the_right_one(client: Client, method: str) -> None:
    response = getattr(client, method)(URL)
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")
    if method != "head":
        assert error_of(response) == (405, 107)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"{", JSON),
        (b"null", JSON),
        (b'["members/club"]', JSON),
        (b'"members/club"', JSON),
        (b'{"channel": 7}', JSON),
        (b'{"channel": "\xff"}', JSON),
        (b"[" * 50_000, JSON),
        (b'{"channel": "members/club"}', "text/plain"),
        (b'{"channel": "members/club"}', ""),
        (b"channel=members/club", "application/octet-stream"),
        (b"no parts", "multipart/form-data"),
        (b"no parts", "multipart/form-data; boundary=x\xff"),
        (b"channel=a", "application/x-www-form-urlencoded; charset=utf-16"),
    ],
)
def test_a_body_that_cannot_be_is_told_what_was_expected(
    client: Client, caplog: pytest.LogCaptureFixture, body: bytes, content_type: str
) -> None:
    caplog.set_level(logging.DEBUG, logger="yamabiko")
    response = client.generic("POST", URL, body, content_type)
    assert error_of(response) == (400, 107)
    assert 'with a room: {"channel": "chat/lobby"}' in message_of(response)
    assert not [record for record in caplog.records if record.exc_info]


@override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=10)
@pytest.mark.parametrize("content_type", [JSON, "application/x-www-form-urlencoded"])
def test_a_body_that_is_too_large_is_told_what_was_expected(client: Client, content_type: str) -> None:
    assert error_of(client.generic("POST", URL, b"x" * 11, content_type)) == (400, 107)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"channel": null}', b'{"user": 1}'])
def test_json_without_a_room_is_for_the_connection(client: Client, alice: User, body: bytes) -> None:
    response = client.generic("POST", URL, body, JSON)
    assert connection_claims(response.json()["token"]).user == str(alice.pk)


@pytest.mark.parametrize("has_middleware", [False, True])
@pytest.mark.parametrize("in_session", [False, True])
def test_another_sites_page_gets_no_token_through_its_visitor(
    alice: User, settings: Any, has_middleware: bool, in_session: bool
) -> None:
    settings.CSRF_USE_SESSIONS = in_session
    if has_middleware:
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.csrf.CsrfViewMiddleware"]
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    for body in ({}, {"channel": "members/club"}):
        assert client.post(URL, body).status_code == 403
        assert client.post(URL, body, JSON).status_code == 403


@pytest.mark.parametrize("has_middleware", [False, True])
def test_the_sites_own_page_gets_a_token_with_the_header_that_django_asks_for(
    alice: User, settings: Any, has_middleware: bool
) -> None:
    if has_middleware:
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.csrf.CsrfViewMiddleware"]
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    csrf_token = get_token(RequestFactory().get("/"))
    client.cookies[settings.CSRF_COOKIE_NAME] = csrf_token
    response = client.post(URL, {"channel": "members/club"}, JSON, headers={"X-CSRFToken": csrf_token})
    assert subscription_claims(response.json()["token"]).room == "members/club"
    form = {"channel": "members/club", "csrfmiddlewaretoken": csrf_token}
    assert subscription_claims(client.post(URL, form).json()["token"]).room == "members/club"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("in_session", [False, True])
async def test_it_is_the_same_on_an_event_loop(settings: Any, in_session: bool) -> None:
    settings.CSRF_USE_SESSIONS = in_session
    alice = await User.objects.acreate(username="alice")
    client = AsyncClient()
    await client.aforce_login(alice)
    assert connection_claims((await client.post(URL)).json()["token"]).user == str(alice.pk)
    response = await client.post(URL, {"channel": "members/club"}, JSON)
    assert subscription_claims(response.json()["token"]).room == "members/club"
    assert error_of(await client.post(URL, {"channel": "closed/club"})) == (403, 103)
    assert error_of(await AsyncClient().post(URL)) == (401, 101)
    strict = AsyncClient(enforce_csrf_checks=True)
    await strict.aforce_login(alice)
    assert (await strict.post(URL)).status_code == 403


async def test_where_no_secret_is_set_the_error_says_what_to_set(settings: Any) -> None:
    settings.YAMABIKO = {}
    request = AsyncRequestFactory().post(URL)

    async def auser() -> User:
        return User(pk=1, username="alice")

    request.auser = auser
    request._dont_enforce_csrf_checks = True
    with pytest.raises(ConfigurationError, match="TOKEN_SECRET"):
        await token_view(request)
