"""Which closes and refusals are final, and how to say them in one line."""

from __future__ import annotations

import json
from http import HTTPStatus

# RFC 6455, 7.4.1: what no second attempt would mend. 3500-3999 and 4500-4999 are the room server's own.
FINAL_CLOSES = {
    1002: "protocol error",
    1003: "unsupported data",
    1007: "invalid text",
    1008: "policy violation",
    1009: "message too big",
    1010: "missing extension",
}
KNOWN_STATUSES = {status.value for status in HTTPStatus}
PASSING_STATUSES = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
}
HINTS = {
    HTTPStatus.UNAUTHORIZED: "sign in, and pass the session with YAMABIKO_COOKIE or --cookie",
    HTTPStatus.FORBIDDEN: "another user may be allowed: pass a session with YAMABIKO_COOKIE or --cookie",
    HTTPStatus.NOT_FOUND: "check the name of the room, or the path of --url",
}


def is_final_close(code: int) -> bool:
    return code in FINAL_CLOSES or 3500 <= code <= 3999 or 4500 <= code <= 4999


def is_final_status(status: int) -> bool:
    return status < 500 and status not in PASSING_STATUSES


def describe_close(code: int, reason: str) -> str:
    if code == 1006:
        return reason or "the connection broke"
    return f"closed by the server with {code} ({reason or FINAL_CLOSES.get(code) or 'no reason given'})"


def describe_refusal(status: int, body: bytes) -> str:
    """Return one line from a refused handshake: the server's own reason if its JSON body has one."""
    reason = reason_in(body)
    said = f"HTTP {status} {phrase_of(status)}".rstrip()
    return f"{said}: {reason}" if reason else said


def hint_for(status: int) -> str:
    if status < 400:
        return "no WebSocket is served there: check --port, --room or --url"
    return HINTS.get(HTTPStatus(status), "") if status in KNOWN_STATUSES else ""


def phrase_of(status: int) -> str:
    return HTTPStatus(status).phrase if status in KNOWN_STATUSES else ""


def reason_in(body: bytes) -> str:
    try:
        error = json.loads(body)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""
