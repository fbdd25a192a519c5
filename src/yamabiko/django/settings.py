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
from yamabiko.transports.limits import Limits


@dataclass(frozen=True)
class Key:
    default: object
    expected: str
    is_valid: Callable[[object], bool]


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_duration(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < inf


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


KEYS = {
    "BROKER": Key("memory://", "a URL such as sqlite:///rooms.sqlite3", lambda value: isinstance(value, str)),
    "BROKER_TIMEOUT_SECONDS": Key(2, "a number of seconds above 0", _is_duration),
    "PREFIX": Key("yamabiko", "1 to 64 letters, digits or any of . _ -", _is_prefix),
    "ALLOWED_ORIGINS": Key((), "a list of origins such as https://www.example.com, without wildcards", _are_origins),
    "MAX_MESSAGE_BYTES": Key(65_536, "a number of bytes from 1", _is_whole),
    "MAX_BACKLOG_BYTES": Key(1_048_576, "a number of bytes from 1", _is_whole),
    "PING_INTERVAL_SECONDS": Key(25, "a whole number of seconds from 1", _is_whole),
    "PONG_TIMEOUT_SECONDS": Key(8, "a whole number of seconds from 1", _is_whole),
}


def given() -> Mapping[str, object]:
    """Return what the project has set. Raises ConfigurationError if YAMABIKO is no dict."""
    value = getattr(django_settings, "YAMABIKO", {})
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"settings.YAMABIKO is a dict, not {value!r}")
    return value


def setting(name: str) -> object:
    """Return a setting or its default. Raises ConfigurationError for a value that cannot be."""
    key = KEYS[name]
    value = given().get(name, key.default)
    if not key.is_valid(value):
        raise ConfigurationError(f"YAMABIKO[{name!r}] is {key.expected}, not {value!r}")
    return value


def broker_url() -> str:
    return str(setting("BROKER"))


def broker_scheme() -> str:
    return broker_url().partition("://")[0]


def broker_timeout_seconds() -> float:
    value = setting("BROKER_TIMEOUT_SECONDS")
    assert isinstance(value, int | float)
    return float(value)


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


def _whole(name: str) -> int:
    value = setting(name)
    assert isinstance(value, int)
    return value


def unknown_keys() -> list[tuple[str, str]]:
    """Return each key that is not ours with the one that was probably meant, or an empty text."""
    return [(key, next(iter(get_close_matches(str(key), KEYS, n=1)), "")) for key in given() if key not in KEYS]
