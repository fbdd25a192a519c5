"""The one settings dict, `YAMABIKO`: its keys, their defaults, and what may stand in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from math import inf
from urllib.parse import urlsplit

from django.conf import settings as django_settings

from yamabiko.core.errors import ConfigurationError
from yamabiko.core.sdk.limits import SdkLimits
from yamabiko.transports.limits import Limits


@dataclass(frozen=True)
class Key:
    default: object
    expected: str
    is_valid: Callable[[object], bool]
    is_secret: bool = False
    """Whether no error may show what it is set to."""


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_duration(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < inf


def _is_delay(value: object) -> bool:
    return _is_duration(value) or (value == 0 and not isinstance(value, bool))


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_secret(value: object) -> bool:
    return isinstance(value, str) and (not value or len(value.encode(errors="replace")) >= 32)


def _is_public_key(value: object) -> bool:
    return isinstance(value, str) and (not value or value.lstrip().startswith("-----BEGIN "))


def _is_api_key(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("|[!-~]{16,}", value) is not None


def _is_prefix(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9._-]{1,64}", value) is not None


def _are_origins(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(origin, str) and _is_origin(origin) for origin in value)


def _is_origin(text: str) -> bool:
    try:
        scheme, netloc = urlsplit(text)[:2]
    except ValueError:
        return False
    return scheme in ("http", "https") and bool(netloc) and text == f"{scheme}://{netloc}" and "*" not in text


_LONG_TEXT = "empty or a text of at least 32 bytes"
_PUBLIC_KEY = "empty or the PEM of a public key"
_API_KEY = "empty or at least 16 visible ASCII characters, without spaces"

KEYS = {
    "BROKER": Key("memory://", "a URL such as sqlite:///rooms.sqlite3", _is_text, is_secret=True),
    "BROKER_TIMEOUT_SECONDS": Key(2, "a number of seconds above 0", _is_duration),
    "PREFIX": Key("yamabiko", "1 to 64 letters, digits or any of . _ -", _is_prefix),
    "ALLOWED_ORIGINS": Key((), "a list of origins such as https://www.example.com, without wildcards", _are_origins),
    "MAX_MESSAGE_BYTES": Key(65_536, "a number of bytes from 1", _is_whole),
    "MAX_BACKLOG_BYTES": Key(1_048_576, "a number of bytes from 1", _is_whole),
    "PING_INTERVAL_SECONDS": Key(25, "a whole number of seconds from 1", _is_whole),
    "PONG_TIMEOUT_SECONDS": Key(8, "a whole number of seconds from 1", _is_whole),
    "WRITE_TIMEOUT_SECONDS": Key(1, "a number of seconds above 0", _is_duration),
    "SHUTDOWN_TIMEOUT_SECONDS": Key(30, "a number of seconds above 0", _is_duration),
    "TOKEN_SECRET": Key("", _LONG_TEXT, _is_secret, is_secret=True),
    "TOKEN_SECRET_PREVIOUS": Key("", _LONG_TEXT, _is_secret, is_secret=True),
    "TOKEN_PUBLIC_KEY": Key("", _PUBLIC_KEY, _is_public_key, is_secret=True),
    "TOKEN_PUBLIC_KEY_PREVIOUS": Key("", _PUBLIC_KEY, _is_public_key, is_secret=True),
    "TOKEN_AUDIENCE": Key("", "a text", _is_text),
    "TOKEN_ISSUER": Key("", "a text", _is_text),
    "TOKEN_TTL_SECONDS": Key(900, "a whole number of seconds from 1", _is_whole),
    "API_KEY": Key("", _API_KEY, _is_api_key, is_secret=True),
    "API_KEY_PREVIOUS": Key("", _API_KEY, _is_api_key, is_secret=True),
    "MAX_ROOMS_PER_CONNECTION": Key(128, "a number of rooms from 1", _is_whole),
    "MAX_HISTORY_READ": Key(300, "a number of publications from 1", _is_whole),
    "MAX_RECOVERED": Key(300, "a number of publications from 1", _is_whole),
    "MAX_CALLS_PER_CONNECTION": Key(4, "a number of calls from 1", _is_whole),
    "CONNECT_TIMEOUT_SECONDS": Key(10, "a number of seconds above 0", _is_duration),
    "EXPIRY_GRACE_SECONDS": Key(25, "a number of seconds above 0", _is_duration),
    "POSITION_CHECK_SECONDS": Key(40, "a number of seconds above 0", _is_duration),
    "PRESENCE_LINGER_SECONDS": Key(15, "a number of seconds from 0", _is_delay),
}


def given() -> Mapping[str, object]:
    """Return what the project has set. Raises ConfigurationError if YAMABIKO is no dict."""
    value = getattr(django_settings, "YAMABIKO", {})
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"settings.YAMABIKO is a dict, not {type(value).__name__}")
    return value


def setting(name: str) -> object:
    """Return a setting or its default. Raises ConfigurationError for a value that cannot be."""
    key = KEYS[name]
    value = given().get(name, key.default)
    if not key.is_valid(value):
        raise ConfigurationError(f"YAMABIKO[{name!r}] is {key.expected}, not {_shown(value, key)}")
    return value


def _shown(value: object, key: Key) -> str:
    """Return `value` for an error; of a secret, what kind of thing it is and how long, and no more."""
    if not key.is_secret:
        return repr(value)
    if isinstance(value, str):
        return f"a text of {len(value.encode(errors='replace'))} bytes"
    return type(value).__name__


def check_all() -> None:
    """Raise ConfigurationError for the first value that cannot be, before anything depends on it."""
    for name in KEYS:
        setting(name)


def broker_url() -> str:
    return str(setting("BROKER"))


def broker_scheme() -> str:
    return broker_url().partition("://")[0]


def broker_timeout_seconds() -> float:
    return _seconds("BROKER_TIMEOUT_SECONDS")


def prefix() -> str:
    return str(setting("PREFIX"))


def allowed_origins() -> frozenset[str]:
    origins = setting("ALLOWED_ORIGINS")
    assert isinstance(origins, list | tuple)
    return frozenset(origin.lower() for origin in origins)


def limits() -> Limits:
    """Return what one peer may cost. Raises ConfigurationError if the times contradict each other."""
    made = Limits(
        message_bytes=_whole("MAX_MESSAGE_BYTES"),
        backlog_bytes=_whole("MAX_BACKLOG_BYTES"),
        ping_interval_seconds=_whole("PING_INTERVAL_SECONDS"),
        pong_timeout_seconds=_whole("PONG_TIMEOUT_SECONDS"),
        write_timeout_seconds=_seconds("WRITE_TIMEOUT_SECONDS"),
    )
    if made.pong_timeout_seconds >= made.ping_interval_seconds:
        raise ConfigurationError(
            "YAMABIKO['PONG_TIMEOUT_SECONDS'] is shorter than PING_INTERVAL_SECONDS, "
            f"not {made.pong_timeout_seconds} to {made.ping_interval_seconds}"
        )
    if made.message_bytes > made.backlog_bytes // 2:
        raise ConfigurationError(
            "YAMABIKO['MAX_MESSAGE_BYTES'] is at most half of MAX_BACKLOG_BYTES, "
            f"not {made.message_bytes} to {made.backlog_bytes}"
        )
    return made


def sdk_limits() -> SdkLimits:
    """Return what one peer of the SDK protocol may ask for."""
    return SdkLimits(
        rooms=_whole("MAX_ROOMS_PER_CONNECTION"),
        history_read=_whole("MAX_HISTORY_READ"),
        recovered=_whole("MAX_RECOVERED"),
        calls=_whole("MAX_CALLS_PER_CONNECTION"),
        answer_bytes=_whole("MAX_BACKLOG_BYTES") // 2,
        connect_timeout_seconds=_seconds("CONNECT_TIMEOUT_SECONDS"),
        expiry_grace_seconds=_seconds("EXPIRY_GRACE_SECONDS"),
        ping_interval_seconds=_whole("PING_INTERVAL_SECONDS"),
        pong_timeout_seconds=_whole("PONG_TIMEOUT_SECONDS"),
    )


def shutdown_timeout_seconds() -> float:
    """Return how long requests under way may take once the server is to end."""
    return _seconds("SHUTDOWN_TIMEOUT_SECONDS")


def position_check_seconds() -> float:
    """Return how often the position of a room is compared with the broker's, at most."""
    return _seconds("POSITION_CHECK_SECONDS")


def presence_linger_seconds() -> float:
    """Return how long a lost client stays present; 0 is gone at once."""
    return _seconds("PRESENCE_LINGER_SECONDS")


def token_audience() -> str:
    return str(setting("TOKEN_AUDIENCE"))


def token_issuer() -> str:
    return str(setting("TOKEN_ISSUER"))


def token_ttl_seconds() -> int:
    return _whole("TOKEN_TTL_SECONDS")


def api_keys() -> tuple[str, ...]:
    """Return the keys that open the HTTP API, the current one first; none while API_KEY is empty."""
    if not setting("API_KEY"):
        return ()
    return tuple(str(setting(name)) for name in ("API_KEY", "API_KEY_PREVIOUS") if setting(name))


def _whole(name: str) -> int:
    value = setting(name)
    assert isinstance(value, int)
    return value


def _seconds(name: str) -> float:
    value = setting(name)
    assert isinstance(value, int | float)
    return float(value)


def unknown_keys() -> list[tuple[str, str]]:
    """Return each key that is not ours with the one that was probably meant, or an empty text."""
    return [(key, next(iter(get_close_matches(str(key), KEYS, n=1)), "")) for key in given() if key not in KEYS]
