"""Whose session a handshake brings. Sessions are read, and never written, renewed or flushed by a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends import db
from django.contrib.sessions.models import Session
from django.db import OperationalError, connection
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.test import Client, override_settings
from django.utils import timezone

from tests.django.peers import Answer, Peer, aknock, knock, socket_scope
from tests.site.asgi import application
from yamabiko.django.auth import Visitors, users_of_sessions
from yamabiko.django.handshake import HandshakeRequest
from yamabiko.transports.runtime import AsyncioRuntime

MEMBERS = "/rooms/members/club/"


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_user("alice", password="wonderland")


@pytest.fixture
def session_key(alice: User) -> str:
    return sign_in(alice)


def user_of_session(session_key: str) -> Any:
    return users_of_sessions([session_key])[session_key]


async def user_of(request: HandshakeRequest, scope: Any) -> Any:
    return await Visitors(AsyncioRuntime()).user_of(request, scope)


def sign_in(user: User) -> str:
    client = Client()
    client.force_login(user)
    return str(client.cookies[settings.SESSION_COOKIE_NAME].value)


def cookies(session_key: str) -> list[tuple[str, str]]:
    return [("origin", "http://testserver"), ("cookie", f"theme=dark; sessionid={session_key}; lang=ja")]


def stored() -> list[tuple[Any, ...]]:
    return list(Session.objects.order_by("pk").values_list("session_key", "session_data", "expire_date"))


def test_a_session_cookie_says_who_it_is(session_key: str, alice: User) -> None:
    assert user_of_session(session_key) == alice
    assert knock(application, MEMBERS, cookies(session_key)) == Answer(101, {})


def test_a_publication_carries_the_name_of_the_user(session_key: str) -> None:
    @async_to_sync
    async def publication() -> Any:
        peer = await Peer(application, socket_scope(MEMBERS, cookies(session_key))).join()
        await peer.say("hello")
        heard = await peer.hear()
        await peer.leave()
        return heard["payload"]

    assert publication()["user"] == "alice"


def test_a_good_session_costs_two_queries(session_key: str, django_assert_num_queries: Callable[[int], Any]) -> None:
    with django_assert_num_queries(2):
        knock(application, MEMBERS, cookies(session_key))


def test_without_a_session_cookie_nothing_is_asked_of_the_database(db: None) -> None:
    with connection.execute_wrapper(refuse_queries):
        assert knock(application, MEMBERS).status == 401
        assert knock(application, "/rooms/open/porch/", [("cookie", "theme=dark")]).status == 101


def refuse_queries(*_: Any) -> None:
    raise AssertionError("a query")


def test_a_foreign_page_causes_no_query(session_key: str) -> None:
    headers = [("origin", "https://evil.example"), *cookies(session_key)[1:]]
    with connection.execute_wrapper(refuse_queries):
        assert knock(application, MEMBERS, headers).status == 403


def test_an_expired_session_is_nobodys(session_key: str) -> None:
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
    assert_nobody(session_key)


def test_a_session_from_before_a_change_of_password_is_nobodys(session_key: str, alice: User) -> None:
    alice.set_password("looking-glass")
    alice.save()
    assert_nobody(session_key)


def test_an_inactive_users_session_is_nobodys(session_key: str, alice: User) -> None:
    alice.is_active = False
    alice.save()
    assert_nobody(session_key)


def test_a_deleted_users_session_is_nobodys(session_key: str, alice: User) -> None:
    alice.delete()
    assert_nobody(session_key)


def test_a_session_of_a_backend_that_is_no_longer_there_is_nobodys(session_key: str) -> None:
    with override_settings(AUTHENTICATION_BACKENDS=["django.contrib.auth.backends.AllowAllUsersModelBackend"]):
        assert_nobody(session_key)


def test_a_session_without_a_hash_is_nobodys(session_key: str) -> None:
    store = db.SessionStore(session_key)
    del store["_auth_user_hash"]
    store.save()
    assert_nobody(session_key)


@pytest.mark.parametrize(
    "key", ["", "short", "a" * 32, "a" * 10_000, "../../etc/passwd", "'; drop table", "\u5c71" * 9]
)
def test_a_key_of_no_session_is_nobodys(db: None, key: str) -> None:
    assert_nobody(key)


def test_someone_not_signed_in_has_a_session_and_is_nobody(db: None) -> None:
    store = _new_store()
    store["basket"] = ["hat"]
    store.save()
    assert_nobody(store.session_key)


def _new_store() -> Any:
    return db.SessionStore()


def assert_nobody(session_key: str) -> None:
    before = stored()
    assert isinstance(user_of_session(session_key), AnonymousUser)
    assert stored() == before, "the session was written"


def test_sessions_outlive_a_rotation_of_the_secret_key(session_key: str, alice: User) -> None:
    before = stored()
    with override_settings(SECRET_KEY="a new one", SECRET_KEY_FALLBACKS=["older still", settings.SECRET_KEY]):
        assert user_of_session(session_key) == alice
        assert knock(application, MEMBERS, cookies(session_key)).status == 101
    assert stored() == before


def test_without_the_fallback_a_rotation_ends_sessions_but_no_socket_flushes_them(session_key: str) -> None:
    with override_settings(SECRET_KEY="a new one"):
        assert_nobody(session_key)
        assert knock(application, MEMBERS, cookies(session_key)).status == 401
    assert Session.objects.filter(pk=session_key).exists()


@pytest.mark.parametrize("engine", ["cache", "cached_db", "signed_cookies", "file"])
def test_every_session_engine_is_read(alice: User, engine: str, tmp_path: Any) -> None:
    with override_settings(
        SESSION_ENGINE=f"django.contrib.sessions.backends.{engine}", SESSION_FILE_PATH=str(tmp_path)
    ):
        assert user_of_session(sign_in(alice)) == alice


def test_the_name_of_the_session_cookie_is_djangos_setting(session_key: str) -> None:
    with override_settings(SESSION_COOKIE_NAME="__Host-s"):
        named = [("origin", "http://testserver"), ("cookie", f"__Host-s={session_key}")]
        assert knock(application, MEMBERS, named).status == 101
        assert knock(application, MEMBERS, cookies(session_key)).status == 401


def test_cookies_in_several_headers_are_all_read(session_key: str) -> None:
    """HTTP/2 may send each cookie in a header of its own (RFC 9113, section 8.2.3)."""
    split = [("origin", "http://testserver"), ("cookie", f"sessionid={session_key}"), ("cookie", "theme=dark")]
    assert knock(application, MEMBERS, split).status == 101


def test_whom_a_middleware_has_found_is_believed_and_the_session_not_asked(session_key: str, alice: User) -> None:
    scope = socket_scope(MEMBERS, cookies(session_key))
    for user in (User(username="bob"), AnonymousUser()):
        with connection.execute_wrapper(refuse_queries):
            assert async_to_sync(user_of)(HandshakeRequest(scope), scope | {"user": user}) is user


def test_a_middleware_that_found_nobody_yet_leaves_it_to_the_session(session_key: str, alice: User) -> None:
    scope = socket_scope(MEMBERS, cookies(session_key)) | {"user": None}
    assert async_to_sync(user_of)(HandshakeRequest(scope), scope) == alice


def test_a_database_that_is_down_refuses_the_handshake_for_now(
    session_key: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise OperationalError("the database is down")

    with connection.execute_wrapper(fail):
        answer = knock(application, MEMBERS, cookies(session_key))
    assert (answer.status, answer.error["code"]) == (503, 100)
    assert "the database is down" in caplog.text


@pytest.mark.django_db(transaction=True)
async def test_a_database_connection_that_has_outlived_its_time_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody else would close it: Django's own requests run in threads of their own."""
    user = await User.objects.acreate_user("alice")
    key = await sync_to_async(sign_in)(user)
    await sync_to_async(setattr)(connection, "close_at", 0)
    closed = []
    monkeypatch.setattr(DatabaseWrapper, "close", lambda self: closed.append(self.alias))
    await aknock(application, MEMBERS, cookies(key))
    assert "default" in closed


def test_handshakes_that_come_together_share_two_queries(db: None, django_assert_num_queries: Any) -> None:
    users = [User.objects.create_user(f"user{number}") for number in range(20)]
    keys = [*map(sign_in, users), "unknown"]

    @async_to_sync
    async def found() -> list[Any]:
        visitors = Visitors(AsyncioRuntime())
        scopes = [socket_scope(MEMBERS, cookies(key)) for key in keys]
        return await asyncio.gather(*(visitors.user_of(HandshakeRequest(scope), scope) for scope in scopes))

    with django_assert_num_queries(2):
        *known, unknown = found()
    assert known == users
    assert isinstance(unknown, AnonymousUser)


def test_one_session_in_two_handshakes_is_one_user(session_key: str, alice: User) -> None:
    @async_to_sync
    async def found() -> list[Any]:
        visitors, scope = Visitors(AsyncioRuntime()), socket_scope(MEMBERS, cookies(session_key))
        return await asyncio.gather(*(visitors.user_of(HandshakeRequest(scope), scope) for _ in range(2)))

    assert found() == [alice, alice]


class BackendOfOne:
    """A project's own: it knows users by other means than their table."""

    def get_user(self, user_id: int) -> User | None:
        return User(pk=user_id, username="of its own") if user_id == 7 else None


@pytest.mark.parametrize(("user_id", "name"), [(7, "of its own"), (8, "")])
def test_a_backend_of_the_projects_own_is_asked_for_each_user(db: None, settings: Any, user_id: int, name: str) -> None:
    path = f"{__name__}.BackendOfOne"
    settings.AUTHENTICATION_BACKENDS = [path]
    store = import_module(settings.SESSION_ENGINE).SessionStore()
    user = User(pk=user_id)
    store.update(
        {"_auth_user_id": str(user_id), "_auth_user_backend": path, "_auth_user_hash": user.get_session_auth_hash()}
    )
    store.save()
    assert user_of_session(store.session_key).get_username() == name


def test_a_session_that_the_database_cannot_take_troubles_only_its_own(session_key: str, alice: User) -> None:
    store = import_module(settings.SESSION_ENGINE).SessionStore()
    store.update({"_auth_user_id": "no number", "_auth_user_backend": settings.AUTHENTICATION_BACKENDS[0]})
    store.save()

    @async_to_sync
    async def found() -> list[Any]:
        visitors = Visitors(AsyncioRuntime())
        scopes = [socket_scope(MEMBERS, cookies(key)) for key in (session_key, store.session_key)]
        asked = (visitors.user_of(HandshakeRequest(scope), scope) for scope in scopes)
        return await asyncio.gather(*asked, return_exceptions=True)

    good, bad = found()
    assert good == alice
    assert isinstance(bad, Exception)


def test_a_session_key_with_a_nul_is_nobodys(db: None) -> None:
    scope = socket_scope(MEMBERS, [("origin", "http://testserver"), ("cookie", 'sessionid="\\000abc"')])
    with connection.execute_wrapper(refuse_queries):
        assert isinstance(async_to_sync(user_of)(HandshakeRequest(scope), scope), AnonymousUser)
