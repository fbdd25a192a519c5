"""What one peer may cost: sizes in bytes, times in seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Larger messages end the connection with 1009, a larger backlog of unsent bytes with 3008, silence with 3012.

    So does, with 3009, a backlog of which the peer takes nothing for `write_timeout_seconds`.
    """

    message_bytes: int = 65_536
    backlog_bytes: int = 1_048_576
    ping_interval_seconds: int = 25
    pong_timeout_seconds: int = 8
    write_timeout_seconds: float = 1
