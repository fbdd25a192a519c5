"""Who a handshake's session, or a token's subject, belongs to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from functools import partial
from importlib import import_module
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model, load_backend
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.core.exceptions import ValidationError
from django.db import close_old_connections
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from yamabiko.core.interfaces import Runtime
from yamabiko.django.handshake import HandshakeRequest
from yamabiko.django.lookup import rows_with

ASKED_AT_ONCE = 500
QUIET_SECONDS = 1.0
"""How long after the last handshake the database connection is given back, as Django does after a request."""


class Visitors:
    """Finds the users of handshakes and tokens; those that come together share one hop to a thread and two queries."""

    def __init__(self, runtime: Runtime) -> None:
        self._sessions = _Lookup(users_of_sessions, runtime)
        self._ids = _Lookup(users_of_ids, runtime)

    async def user_of(self, request: HandshakeRequest, scope: Any) -> Any:
        """Return the user whom a middleware such as AuthMiddlewareStack has found, else the session's."""
        user = scope.get("user")
        if user is not None:
            return user
        session_key = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
        if session_key is None or "\0" in session_key:
            return _nobody()
        return await self._sessions.find(session_key)

    async def user_with_id(self, user_id: str) -> Any:
        """Return the active user with this primary key, an AnonymousUser for "", None if there is none."""
        if not user_id:
            return _nobody()
        return await self._ids.find(user_id) if "\0" not in user_id else None


class _Lookup:
    """Finds users by text keys: all keys that come together are asked for at once."""

    def __init__(self, find: Callable[[Collection[str]], dict[str, Any]], runtime: Runtime) -> None:
        self._ask_in_thread = sync_to_async(partial(_ask_database, find))
        self._runtime = runtime
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._is_asking = False
        self._asked_until = 0.0

    async def find(self, key: str) -> Any:
        if key not in self._waiting:
            self._waiting[key] = asyncio.get_running_loop().create_future()
        answer = self._waiting[key]
        if not self._is_asking:
            self._is_asking = True
            self._runtime.spawn(self._ask())
        return await asyncio.shield(answer)

    async def _ask(self) -> None:
        """Ask for all who wait, and again for those who have come meanwhile."""
        time = asyncio.get_running_loop().time
        is_first = self._asked_until + QUIET_SECONDS < time()
        try:
            while self._waiting:
                waiting = {key: self._waiting.pop(key) for key in list(self._waiting)[:ASKED_AT_ONCE]}
                await self._answer(waiting, on_fresh_connection=is_first)
                is_first = False
        finally:
            self._is_asking = False
            self._asked_until = time()
            self._runtime.call_later(QUIET_SECONDS, self._give_back)

    async def _answer(self, waiting: dict[str, asyncio.Future[Any]], *, on_fresh_connection: bool) -> None:
        try:
            users = await self._ask_in_thread(list(waiting), on_fresh_connection)
        except Exception as error:
            if len(waiting) > 1:  # one bad key must not be everybody's trouble
                for key, answer in waiting.items():
                    await self._answer({key: answer}, on_fresh_connection=False)
                return
            for answer in waiting.values():
                answer.set_exception(error)
                answer.exception()  # whoever asked may have left
        else:
            for key, answer in waiting.items():
                answer.set_result(users[key])

    def _give_back(self) -> None:
        if not self._is_asking and self._asked_until + QUIET_SECONDS <= asyncio.get_running_loop().time():
            self._runtime.spawn(sync_to_async(close_old_connections)())


def _ask_database(
    find: Callable[[Collection[str]], dict[str, Any]], keys: Collection[str], on_fresh_connection: bool
) -> dict[str, Any]:
    """Use the database as a request would: a connection that is broken or too old is not used again."""
    if on_fresh_connection:
        close_old_connections()
    try:
        return find(keys)
    except Exception:
        close_old_connections()
        raise


def users_of_ids(ids: Collection[str]) -> dict[str, Any]:
    """Return the active users with these primary keys, None for those that there are not."""
    key = get_user_model()._meta.pk
    keys = set()
    for text in ids:
        try:
            value = key.to_python(text)
            key.run_validators(value)  # else the database complains of what it cannot hold
            keys.add(value)
        except ValidationError:
            continue  # no user can have it
    found = rows_with(get_user_model(), "pk", keys)
    # By its own text alone: under another spelling its connections would not be found again.
    active = {str(user.pk): user for user in found if getattr(user, "is_active", True)}
    return {text: active.get(text) for text in ids}


def users_of_sessions(session_keys: Collection[str]) -> dict[str, Any]:
    """Return whom each session is signed in as, an AnonymousUser for none. Sessions are only read, never flushed.

    A session is good if its hash fits the user's password under SECRET_KEY or one of SECRET_KEY_FALLBACKS.
    """
    sessions = _sessions(session_keys)
    signed_in = [data for data in sessions.values() if _is_signed_in(data)]
    users = _users({(data[BACKEND_SESSION_KEY], data[SESSION_KEY]) for data in signed_in})
    return {key: _user_of(sessions.get(key, {}), users) for key in session_keys}


def _user_of(session: dict[str, Any], users: dict[tuple[str, str], Any]) -> Any:
    user = users.get((session.get(BACKEND_SESSION_KEY, ""), session.get(SESSION_KEY, "")))
    if user is None or not _is_current(session.get(HASH_SESSION_KEY, ""), user):
        return _nobody()
    return user


def _sessions(session_keys: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return what is in the sessions that exist: in one query where they are in the database as Django keeps them."""
    store = import_module(settings.SESSION_ENGINE).SessionStore
    if store.load is DatabaseStore.load:
        rows = rows_with(store.get_model_class(), "session_key", session_keys)
        now = timezone.now()
        return {row.session_key: store().decode(row.session_data) for row in rows if row.expire_date > now}
    return {key: dict(store(key).items()) for key in session_keys}


def _is_signed_in(session: dict[str, Any]) -> bool:
    return SESSION_KEY in session and session.get(BACKEND_SESSION_KEY) in settings.AUTHENTICATION_BACKENDS


def _users(wanted: set[tuple[str, str]]) -> dict[tuple[str, str], Any]:
    """Return the users by backend and id: in one query for each backend that looks them up as Django's own does."""
    from django.contrib.auth.backends import ModelBackend

    users: dict[tuple[str, str], Any] = {}
    for path in {path for path, _ in wanted}:
        backend: Any = load_backend(path)
        to_python = get_user_model()._meta.pk.to_python
        ids = {to_python(user_id): user_id for backend_path, user_id in wanted if backend_path == path}
        if type(backend).get_user is ModelBackend.get_user:
            found = rows_with(get_user_model(), "pk", ids)
            known = [user for user in found if backend.user_can_authenticate(user)]
        else:
            known = [user for user in map(backend.get_user, ids) if user is not None]
        users |= {(path, ids[user.pk]): user for user in known}
    return users


def _is_current(session_hash: str, user: Any) -> bool:
    if not hasattr(user, "get_session_auth_hash"):
        return True
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return any(constant_time_compare(session_hash, known) for known in hashes)


def _nobody() -> Any:
    # Imported late, so that asgi.py may import yamabiko before Django is set up.
    from django.contrib.auth.models import AnonymousUser

    return AnonymousUser()
