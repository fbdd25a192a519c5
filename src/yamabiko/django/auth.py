"""Who a handshake's session belongs to."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import (
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
    get_user_model,
    load_backend,
)
from django.db import close_old_connections
from django.utils.crypto import constant_time_compare

from yamabiko.django.handshake import HandshakeRequest


async def user_of(request: HandshakeRequest, scope: Any) -> Any:
    """Return the user of a handshake: whom a middleware such as AuthMiddlewareStack has found, else the session's."""
    user = scope.get("user")
    if user is not None:
        return user
    session_key = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    if session_key is None:
        return _nobody()
    return await sync_to_async(_ask_database)(session_key)


def _ask_database(session_key: str) -> Any:
    """Use the database as a request would: a connection that is broken or too old is not used again."""
    close_old_connections()
    try:
        return user_of_session(session_key)
    finally:
        close_old_connections()


def user_of_session(session_key: str) -> Any:
    """Return the user whom a session is signed in as, or an AnonymousUser. The session is only read, never flushed.

    A session is good if its hash fits the user's password under SECRET_KEY or one of SECRET_KEY_FALLBACKS.
    """
    session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    backend_path = session.get(BACKEND_SESSION_KEY)
    if SESSION_KEY not in session or backend_path not in settings.AUTHENTICATION_BACKENDS:
        return _nobody()
    user_id = get_user_model()._meta.pk.to_python(session[SESSION_KEY])
    user = load_backend(backend_path).get_user(user_id)
    if user is None or not _is_current(session.get(HASH_SESSION_KEY, ""), user):
        return _nobody()
    return user


def _nobody() -> Any:
    # Imported late, so that asgi.py may import yamabiko before Django is set up.
    from django.contrib.auth.models import AnonymousUser

    return AnonymousUser()


def _is_current(session_hash: str, user: Any) -> bool:
    if not hasattr(user, "get_session_auth_hash"):
        return True
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return any(constant_time_compare(session_hash, known) for known in hashes)
