"""JSON that peers send, made fit for all who get it: read in full, not too deep, without NUL, on one line."""

from __future__ import annotations

import msgspec

from yamabiko.core.errors import BadRequest

DEEPEST = 64

# A Raw is passed over, not read: numbers out of range and broken strings in it are found by reading it in full.
_read_in_full = msgspec.json.Decoder().decode


def checked(data: bytes) -> bytes:
    """Return JSON in UTF-8 on one line. Raises BadRequest for what not every reader takes."""
    try:
        # Two cheap counts spare almost everything the full walk.
        if data.count(b"[") + data.count(b"{") > DEEPEST:
            check_depth(data.decode())
    except ValueError as error:
        raise BadRequest(str(error)) from error
    return checked_but_depth(data)


def checked_but_depth(data: bytes) -> bytes:
    """Do the same for JSON that is known not to be too deep."""
    try:
        value = _read_in_full(data)
    except (ValueError, RecursionError) as error:
        raise BadRequest(str(error)) from error
    if b"\\u0000" in data and _has_nul(value):
        raise BadRequest("a message has no NUL characters")
    return one_line(data)


def check_depth(text: str) -> None:
    """Raise BadRequest if brackets outside of strings are too deep, found without recursion."""
    if text.count("[") + text.count("{") > DEEPEST and _is_deeper(text, DEEPEST):
        raise BadRequest(f"a message is nested at most {DEEPEST} levels deep")


def one_line(data: bytes) -> bytes:
    """Return JSON without line breaks: other protocols separate messages by them, and so do logs."""
    if b"\n" in data or b"\r" in data:
        return msgspec.json.format(data, indent=-1)
    return data


def _is_deeper(text: str, depth: int) -> bool:
    open_brackets, in_string, is_escaped = 0, False, False
    for character in text:
        if in_string:
            in_string = is_escaped or character != '"'
            is_escaped = character == "\\" and not is_escaped
        elif character == '"':
            in_string = True
        elif character in "[{":
            open_brackets += 1
            if open_brackets > depth:
                return True
        elif character in "]}":
            open_brackets -= 1
    return False


def _has_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, list):
        return any(map(_has_nul, value))
    return isinstance(value, dict) and any(_has_nul(key) or _has_nul(item) for key, item in value.items())
