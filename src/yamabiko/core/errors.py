"""Everything that can be refused or closed, each with its code.

    YamabikoError
    +-- ConfigurationError      the project's settings or Room classes are wrong
    +-- PublishFailed           a publication was not accepted, or that is not known
    +-- Refusal                 one command is refused; the connection lives on
    |   +-- Refused             raised by an application, with a text for the sender
    |   +-- InternalError       100  +-- Unauthorized     101  +-- UnknownRoom      102
    |   +-- PermissionDenied    103  +-- MethodNotFound   104  +-- AlreadyJoined    105
    |   +-- LimitExceeded       106  +-- BadRequest       107  +-- NotAvailable     108
    |   +-- TokenExpired        109  +-- Expired          110  +-- TooManyRequests  111
    |   +-- UnrecoverablePosition  112
    +-- Close                   the connection ends, with a WebSocket close code and reason

Codes are those of the Centrifugo client protocol v2, sections "error codes" and "disconnect codes". Clients reconnect
after close codes 3000-3499 and 4000-4499, never after 3500-3999 and 4500-4999.
"""

from __future__ import annotations

from typing import ClassVar

APPLICATION_CODES = range(400, 2000)
CLOSE_CODES = range(3000, 5000)
LONGEST_REASON = 32
PUSHED_FROM = 3000
"""Closes from this code on are told in the SDK protocol's own words too: some servers lose a close frame's reason."""


class YamabikoError(Exception):
    """The root of all errors of this package."""


class ConfigurationError(YamabikoError):
    """The project is set up wrongly; the text says what was expected, what came and what to do."""


class PublishFailed(YamabikoError):
    """The broker did not accept a publication, and it may be tried again.

    Where `may_be_published` nobody knows: it may have been accepted though the answer was lost.
    """

    def __init__(self, detail: str, *, may_be_published: bool = False) -> None:
        super().__init__(detail)
        self.may_be_published = may_be_published


class Refusal(YamabikoError):
    """One command is refused with a `code`; the connection lives on."""

    code: int = 100
    phrase: ClassVar[str] = "internal server error"
    is_temporary: ClassVar[bool] = False
    """Whether the same command may well succeed a little later."""

    def __init__(self, detail: str = "") -> None:
        self.message = f"{self.phrase}: {detail}" if detail else self.phrase
        super().__init__(self.message)


class InternalError(Refusal):
    code, phrase, is_temporary = 100, "internal server error", True


class Unauthorized(Refusal):
    code, phrase = 101, "unauthorized"


class UnknownRoom(Refusal):
    code, phrase = 102, "unknown room"


class PermissionDenied(Refusal):
    code, phrase = 103, "permission denied"


class MethodNotFound(Refusal):
    code, phrase = 104, "method not found"


class AlreadyJoined(Refusal):
    code, phrase = 105, "already joined"


class LimitExceeded(Refusal):
    code, phrase = 106, "limit exceeded"


class BadRequest(Refusal):
    code, phrase = 107, "bad request"


class NotAvailable(Refusal):
    """What was asked for is not there, or cannot be reached now."""

    code, phrase = 108, "not available"


class TokenExpired(Refusal):
    """Clients get a new token and try again."""

    code, phrase = 109, "token expired"


class Expired(Refusal):
    code, phrase = 110, "expired"


class TooManyRequests(Refusal):
    code, phrase, is_temporary = 111, "too many requests", True


class UnrecoverablePosition(Refusal):
    """History no longer reaches back to a position, or it was numbered in another epoch."""

    code, phrase = 112, "unrecoverable position"


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


def refusal_of(code: int, message: str) -> Refusal:
    """Return the Refusal with that code and that whole text, as another process told it."""
    refusal = next(
        (kind() for kind in Refusal.__subclasses__() if kind is not Refused and kind.code == code), Refusal()
    )
    refusal.code, refusal.message = code, message
    refusal.args = (message,)
    return refusal


class Close(YamabikoError):
    """End a connection: `code` and `reason` (at most 32 ASCII bytes) go into its close frame."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code, self.reason = code, reason

    def anew(self) -> Close:
        """Return one to raise: an exception that all share would gather the traceback of every time it is raised."""
        return Close(self.code, self.reason)


def close_of(code: int, reason: str) -> Close:
    """Return the Close that an application asks for. Raises ValueError, with a text for people, if it cannot be."""
    if code not in CLOSE_CODES:
        raise ValueError(f"a close code is a number from 3000 to 4999, not {code!r}")
    if not (reason.isascii() and reason.isprintable() and 0 < len(reason) <= LONGEST_REASON):
        raise ValueError(f"a reason has 1 to {LONGEST_REASON} ASCII characters; this is {reason!r}")
    return Close(code, reason)


def can_come_back(close: Close) -> bool:
    """Tell whether clients connect again after this close."""
    return close.code < 3500 or 4000 <= close.code < 4500


NOT_TEXT = Close(1007, "invalid UTF-8")
TOO_BIG = Close(1009, "message too big")
CONNECTION_CLOSED = Close(3000, "connection closed")
SHUTDOWN = Close(3001, "shutdown")
SERVER_ERROR = Close(3004, "internal server error")
CONNECTION_EXPIRED = Close(3005, "connection expired")
SUBSCRIPTION_EXPIRED = Close(3006, "subscription expired")
SLOW = Close(3008, "slow")
WRITE_ERROR = Close(3009, "write error")
INSUFFICIENT_STATE = Close(3010, "insufficient state")
FORCE_RECONNECT = Close(3011, "force reconnect")
NO_PONG = Close(3012, "no pong")
INVALID_TOKEN = Close(3500, "invalid token")
BAD_REQUEST = Close(3501, "bad request")
STALE = Close(3502, "stale")
FORCE_DISCONNECT = Close(3503, "force disconnect")
TOO_MANY_ROOMS = Close(3505, "channel limit")
NOT_OFFERED = Close(3508, "not available")
