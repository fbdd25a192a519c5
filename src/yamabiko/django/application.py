"""What the core asks of this Django project: whose rooms, which users, which calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from yamabiko.core.errors import INVALID_TOKEN
from yamabiko.core.identity import Grant, Identity
from yamabiko.core.interfaces import Rules
from yamabiko.django.auth import Visitors
from yamabiko.django.calls import call_function
from yamabiko.django.handshake import HandshakeRequest
from yamabiko.django.rooms import registry


@dataclass(frozen=True)
class Visitor:
    """An open handshake, with the ASGI scope in which middleware may have left a user."""

    request: HandshakeRequest
    scope: Any


class DjangoApplication:
    """The core's `Application`."""

    def __init__(self, visitors: Visitors) -> None:
        self._visitors = visitors

    def rules(self, room: str) -> Rules:
        return registry.room(room)

    async def identify(self, visitor: object, token: str) -> Identity:
        if token:
            return await self._identity_in(token)
        assert isinstance(visitor, Visitor)
        return identity_of(await self._visitors.user_of(visitor.request, visitor.scope))

    async def grant(self, token: str, *, room: str, user_id: str, client: str) -> Grant:
        from yamabiko.django.tokens import subscription_claims  # few sites use tokens, and PyJWT takes a while to load

        claims = subscription_claims(token)
        if (claims.room, claims.user) != (room, user_id) or claims.client not in ("", client):
            raise INVALID_TOKEN.anew()
        return claims.grant

    async def call(self, user: object, method: str, arguments: bytes) -> bytes:
        return await call_function(user, method, arguments)

    async def _identity_in(self, token: str) -> Identity:
        from yamabiko.django.tokens import connection_claims

        claims = connection_claims(token)
        user = await self._visitors.user_with_id(claims.user)
        if user is None:  # deleted, or deactivated, since the token was made
            raise INVALID_TOKEN.anew()
        return Identity(
            user=user,
            id=claims.user,
            name=name_of(user),
            info=claims.info,
            expires_in_seconds=claims.expires_in_seconds,
            grants=claims.grants,
        )


def identity_of(user: Any) -> Identity:
    """Return the identity of a user known from a session or a middleware."""
    name = name_of(user)
    if not name:
        return Identity(user=user)
    return Identity(user=user, id=str(user.pk), name=name, info=msgspec.Raw(msgspec.json.encode({"name": name})))


def name_of(user: Any) -> str:
    """Return the name others see, empty for someone unknown."""
    return str(user.get_username()) if getattr(user, "is_authenticated", False) else ""
