"""What one peer of the SDK protocol may ask for, and how long it may take: numbers of things, times in seconds."""

from __future__ import annotations

from dataclasses import dataclass

LONGEST_TTL = 2**32 - 1
"""What the protocol's number of seconds can hold."""


@dataclass(frozen=True)
class SdkLimits:
    """Defaults are those that client SDKs expect of a server.

    `rooms` and `calls` are at a time, `history_read` and `recovered` publications in one answer. An answer of more than
    `answer_bytes`, half of what a peer may leave unread, is refused. A peer that does not connect in time is closed
    with 3502; one that does not renew what has expired, after a grace, with 3005 or 3006.
    """

    rooms: int = 128
    history_read: int = 300
    recovered: int = 300
    calls: int = 4
    answer_bytes: int = 524_288
    connect_timeout_seconds: float = 10
    expiry_grace_seconds: float = 25
    ping_interval_seconds: int = 25
    pong_timeout_seconds: int = 8


def expiry(seconds: float | None) -> tuple[bool, int]:
    """Return whether something expires, and in how many whole seconds, at least one."""
    return (False, 0) if seconds is None else (True, min(max(int(seconds), 1), LONGEST_TTL))
