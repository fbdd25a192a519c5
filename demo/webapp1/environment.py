"""Reads the settings that come from the environment; a wrong one says what would be right."""

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from urllib.parse import quote, urlsplit

from django.core.exceptions import ImproperlyConfigured

YES, NO = {"1", "true", "yes", "on"}, {"0", "false", "no", "off", ""}
REDIS_LAYER = "channels_redis.core.RedisChannelLayer"
LOCAL_REDIS = "redis://127.0.0.1:6379/0"
# The layer waits 5 s at a time for messages; redis-py, left alone, gives up after 5 s as well.
ANSWER_TIMEOUT_SECONDS = 20


def flag(name: str, *, default: bool) -> bool:
    value = os.environ.get(name)
    if value is None:
        return default
    if value.strip().lower() not in YES | NO:
        raise ImproperlyConfigured(f"{name} is 1 or 0, not {value!r}.")
    return value.strip().lower() in YES


def words(name: str) -> list[str]:
    """Return the words of a comma-separated variable."""
    return [word.strip() for word in os.environ.get(name, "").split(",") if word.strip()]


def secret_key(data: Path, *, may_make_own: bool) -> str:
    """Return SECRET_KEY, or one that the site makes once and keeps in `data`."""
    if key := os.environ.get("SECRET_KEY"):
        return key
    if not may_make_own:
        raise ImproperlyConfigured(
            "SECRET_KEY is missing. With DEBUG=0 the site needs one that is long, random and its own:\n"
            "  python -c 'import secrets; print(secrets.token_urlsafe(50))'\n"
            "or DATA_DIR, a folder that only the site reads, where it keeps one that it makes itself."
        )
    return kept_key(data / "secret_key")


def token_secret(data: Path, *, may_make_own: bool) -> str:
    """Return TOKEN_SECRET, or one that the site makes once and keeps in `data`; else none, and no tokens."""
    if secret := os.environ.get("TOKEN_SECRET"):
        return secret
    return kept_key(data / "token_secret") if may_make_own else ""


def kept_key(file: Path) -> str:
    if not file.exists():
        # Written elsewhere and then linked: two processes that start at once both read one whole key.
        with NamedTemporaryFile("w", dir=file.parent, encoding="ascii") as draft:
            draft.write(secrets.token_urlsafe(50))
            draft.flush()
            with suppress(FileExistsError):
                os.link(draft.name, file)
    return file.read_text(encoding="ascii")


def broker(data: Path) -> str:
    """Return Yamabiko's BROKER: BROKER itself, or CHANNEL_LAYER's layer if one is chosen, or a file in `data`."""
    if url := os.environ.get("BROKER"):
        return url
    if os.environ.get("CHANNEL_LAYER"):
        return "channels://default"
    return f"sqlite:///{quote((data / 'rooms.sqlite3').absolute().as_posix(), safe='/:')}"


def channel_layers() -> Mapping[str, Any]:
    """Return Django's CHANNEL_LAYERS for one of the article's three methods."""
    method = os.environ.get("CHANNEL_LAYER") or "memory"
    match method:
        case "memory":
            return {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
        case "local":
            return redis_layer(LOCAL_REDIS)
        case "hosted":
            return redis_layer(hosted_redis_url())
    raise ImproperlyConfigured(f"CHANNEL_LAYER is memory, local or hosted, not {method!r}.")


def redis_layer(url: str) -> Mapping[str, Any]:
    host = {"address": url, "socket_timeout": ANSWER_TIMEOUT_SECONDS}
    return {"default": {"BACKEND": REDIS_LAYER, "CONFIG": {"hosts": [host]}}}


def hosted_redis_url() -> str:
    url = os.environ.get("REDIS_URL", "")
    if urlsplit(url).scheme not in {"redis", "rediss"} or not urlsplit(url).hostname:
        # The URL itself is not shown: it holds a password.
        raise ImproperlyConfigured(
            "CHANNEL_LAYER=hosted needs REDIS_URL: rediss://:PASSWORD@HOST:PORT/0, or redis:// without TLS."
        )
    return url
