"""Everything that can be refused or closed, each with its code.

    YamabikoError
    +-- ConfigurationError      the project's settings or Room classes are wrong
    +-- PublishFailed           a publication was not accepted; nothing was published
    +-- Refusal                 one command is refused; the connection lives on
    |   +-- Refused             raised by an application, with a text for the sender
    |   +-- InternalError       100  +-- Unauthorized     101  +-- UnknownRoom  102
    |   +-- PermissionDenied    103  +-- AlreadyJoined    105  +-- BadRequest   107
    |   +-- NotAvailable        108
    +-- Close                   the connection ends, with a WebSocket close code and reason

Codes are those of the Centrifugo client protocol v2, sections "error codes" and "disconnect codes". Clients reconnect
after close codes 3000-3499 and 4000-4499, never after 3500-3999 and 4500-4999.
"""

from __future__ import annotations

from typing import ClassVar

APPLICATION_CODES = range(400, 2000)


class YamabikoError(Exception):
    """The root of all errors of this package."""


class ConfigurationError(YamabikoError):
    """The project is set up wrongly; the text says what was expected, what came and what to do."""


class PublishFailed(YamabikoError):
    """The broker did not accept a publication; it reached nobody and may be tried again."""


class Refusal(YamabikoError):
    """One command is refused with a `code`; the connection lives on."""

    code: int = 100
    phrase: ClassVar[str] = "internal server error"

    def __init__(self, detail: str = "") -> None:
        self.message = f"{self.phrase}: {detail}" if detail else self.phrase
        super().__init__(self.message)


class InternalError(Refusal):
    code, phrase = 100, "internal server error"


class Unauthorized(Refusal):
    code, phrase = 101, "unauthorized"


class UnknownRoom(Refusal):
    code, phrase = 102, "unknown room"


class PermissionDenied(Refusal):
    code, phrase = 103, "permission denied"


class AlreadyJoined(Refusal):
    code, phrase = 105, "already joined"


class BadRequest(Refusal):
    code, phrase = 107, "bad request"


class NotAvailable(Refusal):
    """What was asked for is not there, or cannot be reached now."""

    code, phrase = 108, "not available"


class Refused(Refusal):
    """What a Room class raises to refuse a join or a message; `message` goes to that client alone.

    `code` is one of the application's own, 400 to 1999.
    """

    def __init__(self, message: str, code: int = 400) -> None:
        if code not in APPLICATION_CODES:
            raise ValueError(f"Refused takes a code from 400 to 1999, not {code!r}")
        super().__init__()
        self.code, self.message = code, str(message)
        self.args = (self.message,)


class Close(YamabikoError):
    """End a connection: `code` and `reason` (at most 32 ASCII bytes) go into its close frame."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code, self.reason = code, reason


NOT_TEXT = Close(1007, "invalid UTF-8")
TOO_BIG = Close(1009, "message too big")
SHUTDOWN = Close(3001, "shutdown")
SERVER_ERROR = Close(3004, "internal server error")
SLOW = Close(3008, "slow")
NO_PONG = Close(3012, "no pong")
