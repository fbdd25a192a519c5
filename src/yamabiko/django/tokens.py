"""Tokens (JWT): what those of clients say once they are verified, and the ones that a project makes for its users.

Claims are those of the Centrifugo client protocol v2, connection and subscription JWT. RFC 7515, 7519 and 8725.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable
from datetime import timedelta
from math import inf
from time import time
from typing import Any, TypeVar

import msgspec
from jwt import PyJWS, PyJWTError
from msgspec import UNSET, Raw, UnsetType

from yamabiko.core.errors import INVALID_TOKEN, Close, Expired, PermissionDenied, TokenExpired, UnknownRoom
from yamabiko.core.identity import Grant
from yamabiko.core.messages import NOTHING, encode_message
from yamabiko.core.names import room_name
from yamabiko.django import settings
from yamabiko.django.rare_warning import RareWarning
from yamabiko.django.token_keys import signing_secret, verifying_keys

refused = RareWarning("refused a token")

_JWS = PyJWS(algorithms=["HS256", "RS256", "ES256"])


class ConnectionClaims(msgspec.Struct, frozen=True, kw_only=True):
    """What a connection token says: `user` is an id, empty for nobody known; `grants` are by room."""

    user: str
    info: Raw = NOTHING
    expires_in_seconds: float | None = None
    grants: dict[str, Grant] = {}


class SubscriptionClaims(msgspec.Struct, frozen=True, kw_only=True):
    """What a subscription token says: for which user and room it was made, and, if not empty, for which client."""

    user: str
    room: str
    client: str = ""
    grant: Grant


def connection_claims(token: str, *, now: float | None = None) -> ConnectionClaims:
    """Return what a connection token says, at `now` in seconds since 1970.

    Raises the Close INVALID_TOKEN (another object with its code) for one that cannot be trusted or understood,
    TokenExpired, and Expired if the connection was to end before now. Raises ConfigurationError.
    """
    now = time() if now is None else now
    try:
        said = _verified(token, _ConnectionToken, now)
        if said.channel is not UNSET:
            raise ValueError("this is a subscription token: it has a channel")
        return ConnectionClaims(
            user=said.sub,
            info=_json(said.info, said.b64info),
            expires_in_seconds=_expires_in_seconds(said, now),
            grants=_grants(said),
        )
    except (ValueError, RecursionError) as error:
        refused.tell(str(error))
        raise _invalid_token() from error


def subscription_claims(token: str, *, now: float | None = None) -> SubscriptionClaims:
    """Return what a subscription token says, at `now` in seconds since 1970.

    Raises PermissionDenied for one that cannot be trusted or understood, the Close INVALID_TOKEN (another object with
    its code) for one that is for no room, TokenExpired, and Expired if the subscription was to end before now. Raises
    ConfigurationError.
    """
    now = time() if now is None else now
    try:
        said = _verified(token, _SubscriptionToken, now)
        grant = Grant(
            info=_json(said.info, said.b64info),
            data=_json(said.data, said.b64data),
            expires_in_seconds=_expires_in_seconds(said, now),
        )
    except (ValueError, RecursionError) as error:
        refused.tell(str(error))
        raise PermissionDenied("this token cannot be trusted") from error
    try:
        return SubscriptionClaims(user=said.sub, room=_room(said.channel), client=said.client or "", grant=grant)
    except ValueError as error:
        refused.tell(str(error))
        raise _invalid_token() from error


def token(user: Any, *, info: Any = None, rooms: Iterable[str] = (), ttl: timedelta | None = None) -> str:
    """Return a token with which a client connects as `user`, a Django user; for nobody known, an AnonymousUser.

    `info`, anything JSON can hold, is told to others of the connection; by default the name of the user. The connection
    is subscribed to `rooms` from the beginning, whatever their Room classes say of joining. After `ttl`, by default
    YAMABIKO["TOKEN_TTL_SECONDS"], the client needs another token.

    Raises ConfigurationError without YAMABIKO["TOKEN_SECRET"], UnknownRoom for what can be no room's name, TypeError
    for an `info` that JSON cannot hold, ValueError for a `ttl` that is not positive and for a user who is not saved.
    """
    if isinstance(rooms, str):
        raise TypeError(f"rooms is a list of names: rooms=[{rooms!r}]")
    claims = _claims(user, ttl)
    if info is None and claims["sub"]:
        info = {"name": user.get_username()}
    if info is not None:
        claims["info"] = Raw(encode_message(info))
    if names := [room_name(room) for room in rooms]:
        claims["channels"] = names
    return _signed(claims)


def subscription_token(
    user: Any, room: str, *, info: Any = None, data: Any = None, ttl: timedelta | None = None
) -> str:
    """Return a token with which a client of `user` joins `room`, whatever its Room class says of joining.

    `info` is told to others of this member, `data` to the member itself. Otherwise as `token`.
    """
    claims = _claims(user, ttl) | {"channel": room_name(room)}
    claims |= {
        name: Raw(encode_message(value)) for name, value in (("info", info), ("data", data)) if value is not None
    }
    return _signed(claims)


class _Token(msgspec.Struct, frozen=True):
    """The claims of both kinds. What is null is not given, except who it is for and how long it is good."""

    sub: str = ""
    exp: float = inf
    nbf: float = -inf
    expire_at: float | None = None
    aud: str | list[str] | None = None
    iss: str | None = None
    info: Raw = NOTHING
    b64info: str | None = None


class _RoomOptions(msgspec.Struct, frozen=True):
    info: Raw = NOTHING
    b64info: str | None = None
    data: Raw = NOTHING
    b64data: str | None = None


class _ConnectionToken(_Token, frozen=True):
    channel: Raw | UnsetType = UNSET
    channels: list[str] | None = None
    subs: dict[str, _RoomOptions] | None = None


class _SubscriptionToken(_Token, frozen=True):
    channel: str = ""
    client: str | None = None
    data: Raw = NOTHING
    b64data: str | None = None


T = TypeVar("T", bound=_Token)


def _verified(token: str, kind: type[T], now: float) -> T:
    """Return what is signed. Raises ValueError or RecursionError for what cannot be used, and TokenExpired."""
    said = msgspec.json.decode(_signed_payload(token), type=kind)
    _check_audience_and_issuer(said)
    if said.exp <= now or said.nbf > now:
        raise TokenExpired
    return said


def _signed_payload(token: str) -> bytes:
    keys = verifying_keys()
    if not keys:
        raise ValueError("set YAMABIKO['TOKEN_SECRET'] or YAMABIKO['TOKEN_PUBLIC_KEY'] to verify it with")
    reasons = []
    for key in keys:
        try:
            payload: bytes = _JWS.decode(token, key.key, [key.algorithm])
        except PyJWTError as error:
            reasons.append(f"{key.algorithm}: {error}")
        else:
            return payload
    raise ValueError("; ".join(dict.fromkeys(reasons)))


def _check_audience_and_issuer(said: _Token) -> None:
    audience, issuer = settings.token_audience(), settings.token_issuer()
    audiences = said.aud if isinstance(said.aud, list) else [said.aud]
    if audience and audience not in audiences:
        raise ValueError("it is for another audience than YAMABIKO['TOKEN_AUDIENCE']")
    if issuer and issuer != said.iss:
        raise ValueError("it is of another issuer than YAMABIKO['TOKEN_ISSUER']")


def _expires_in_seconds(said: _Token, now: float) -> float | None:
    """Return when the connection or subscription ends, which need not be when the token does.

    `expire_at` 0 is never. Raises Expired.
    """
    end = said.exp if said.expire_at is None else said.expire_at or inf
    if end < 0:
        raise ValueError("expire_at is a time, or 0")
    if end <= now:
        raise Expired
    return None if end == inf else end - now


def _grants(said: _ConnectionToken) -> dict[str, Grant]:
    options = dict.fromkeys(said.channels or (), _RoomOptions()) | (said.subs or {})
    return {
        _room(name): Grant(info=_json(option.info, option.b64info), data=_json(option.data, option.b64data))
        for name, option in options.items()
    }


def _room(text: str) -> str:
    """Return the name of a room as a token says it: clients compare names to the letter, so nothing is mended."""
    try:
        name = room_name(text)
    except UnknownRoom as error:
        raise ValueError(error.message) from error
    if name != text:
        raise ValueError("the name of a room is not in Unicode's form NFC")
    return name


def _json(given: Raw, in_base64: str | None) -> Raw:
    """Return checked JSON without line breaks, which separate messages; null is nothing."""
    text = b64decode(in_base64, validate=True) if in_base64 else bytes(given)
    if not text or msgspec.json.decode(text) is None:
        return NOTHING
    return Raw(msgspec.json.format(text, indent=-1))


def _invalid_token() -> Close:
    # A new one each time: what is raised again and again would keep every traceback, with the tokens in it.
    return Close(INVALID_TOKEN.code, INVALID_TOKEN.reason)


def _claims(user: Any, ttl: timedelta | None) -> dict[str, Any]:
    now = time()
    claims = {"sub": _user_id(user), "iat": int(now), "exp": int(now + _ttl_seconds(ttl))}
    claims |= {"iss": settings.token_issuer()} if settings.token_issuer() else {}
    claims |= {"aud": settings.token_audience()} if settings.token_audience() else {}
    return claims


def _user_id(user: Any) -> str:
    if not hasattr(user, "is_authenticated"):
        raise TypeError(f"a token is for a Django user, or an AnonymousUser, not {user!r:.80}")
    if not user.is_authenticated:
        return ""
    if user.pk is None:
        raise ValueError("a token is for a user who is saved; this one has no id yet")
    return str(user.pk)


def _ttl_seconds(ttl: timedelta | None) -> float:
    if ttl is None:
        return settings.token_ttl_seconds()
    if not isinstance(ttl, timedelta) or ttl <= timedelta(0):
        raise ValueError(f"ttl is a positive timedelta, not {ttl!r}")
    return ttl.total_seconds()


def _signed(claims: dict[str, Any]) -> str:
    return _JWS.encode(msgspec.json.encode(claims), signing_secret(), "HS256")
