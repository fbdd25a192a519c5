"""What may be shown of a header, a URL or a frame: everything but the secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from urllib.parse import urlsplit, urlunsplit

MASK = "***"
# Not "auth" alone: it would hide every author.
SECRET_WORDS = (
    "token",
    "secret",
    "password",
    "passwd",
    "key",
    "authorization",
    "authenticat",
    "cookie",
    "session",
    "credential",
    "ticket",
)
URL_HEADERS = {"location", "origin", "referer"}
PARAMETER_VALUE = re.compile(r"(?P<name>[^&;=]+)=[^&;]*")
COOKIE_VALUE = re.compile(r"(?P<name>[^;=\s]+)=[^;]*")


def is_secret(name: str) -> bool:
    lower = name.lower()
    return lower == "auth" or any(word in lower for word in SECRET_WORDS)


def masked_header(name: str, value: str) -> str:
    """Return the header's value as it may be shown: of a cookie that is sent, the names only."""
    if name.lower() == "cookie":
        return COOKIE_VALUE.sub(rf"\g<name>={MASK}", value)
    if is_secret(name):
        return MASK
    return masked_url(value) if name.lower() in URL_HEADERS else value


def masked_url(url: str) -> str:
    """Return `url` without its password and without the values of secret query parameters."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK
    user, at, place = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{MASK}{at}{place}" if user else place, query=masked_query(parts.query)))


def masked_query(query: str) -> str:
    return PARAMETER_VALUE.sub(lambda match: f"{match['name']}={MASK}" if is_secret(match["name"]) else match[0], query)


def masked_payload(payload: str) -> str:
    """Return a frame's text with the values of secret JSON fields masked; other text comes back as it is."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return payload
    masked = masked_value(value)
    return payload if masked == value else json.dumps(masked, ensure_ascii=False)


def masked_value(value: object) -> object:
    if isinstance(value, dict):
        return dict(masked_fields(value.items()))
    if isinstance(value, list):
        return [masked_value(item) for item in value]
    return value


def masked_fields(fields: Iterable[tuple[str, object]]) -> Iterable[tuple[str, object]]:
    for name, value in fields:
        yield name, MASK if is_secret(name) else masked_value(value)
