"""Tokens as any JWT library makes them, for the users of the test site."""

from __future__ import annotations

import time
from typing import Any

import jwt

SECRET = "known to the servers of these tests alone"
ALICE, BOB = "1", "2"
"""The ids of the users, in the order in which they were made."""
HOUR = 3600.0


def connection_token(user: str = "", *, seconds: float = HOUR, **claims: Any) -> str:
    """Return a token that is good for so many seconds; "" is nobody known."""
    said = {"sub": user, "exp": time.time() + seconds} | claims
    return jwt.encode({name: value for name, value in said.items() if value is not None}, SECRET, algorithm="HS256")


def subscription_token(user: str, room: str, *, seconds: float = HOUR, **claims: Any) -> str:
    return connection_token(user, seconds=seconds, channel=room, **claims)
