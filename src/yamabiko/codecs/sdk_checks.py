"""What both encodings of the SDK protocol demand of a command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Raw, Struct

from yamabiko.codecs.json_data import checked
from yamabiko.core.errors import BadRequest
from yamabiko.core.messages import Invalid
from yamabiko.core.sdk.messages import Command

# What the integers of the Protobuf encoding can hold, so that JSON says no more.
_UINT32, _UINT64 = range(2**32), range(2**64)
_INT32, _INT64 = range(-(2**31), 2**31), range(-(2**63), 2**63)
_RANGES = {"id": _UINT32, "offset": _UINT64, "limit": _INT32, "type": _INT32, "flag": _INT64}


def checked_commands(commands: Iterator[Command]) -> Sequence[Command | Invalid]:
    """Return the commands of a frame, read by an iterator that raises BadRequest for what is none.

    In the place of one that holds something it must not is an `Invalid`. One without an id, as for what is no command
    at all, is the last.
    """
    taken: list[Command | Invalid] = []
    try:
        for command in map(_checked, commands):
            taken.append(command)
            if isinstance(command, Invalid) and not command.id:
                break  # nobody could be told of it
    except BadRequest as refusal:
        taken.append(Invalid(refusal))
    return taken


def _checked(command: Command) -> Command | Invalid:
    try:
        _check(command)
    except BadRequest as refusal:
        return Invalid(refusal, str(command.id) if command.id and command.id in _UINT32 else "")
    return command


def _check(command: Command) -> None:
    _check_number("id", command.id)
    if command.request is not None:
        _check_fields(command.request)


def _check_fields(message: Struct) -> None:
    """Check payloads and numbers, those of inner messages too, and put payloads on one line."""
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if isinstance(value, Raw):
            # A copy too: a Raw that was decoded holds on to the whole frame.
            setattr(message, name, Raw(checked(bytes(value))) if value else value)
        elif isinstance(value, Struct):
            _check_fields(value)
        elif isinstance(value, dict):
            for inner in filter(lambda inner: isinstance(inner, Struct), value.values()):
                _check_fields(inner)
        elif name in _RANGES:
            _check_number(name, value)


def _check_number(name: str, number: int) -> None:
    if number not in _RANGES[name]:
        raise BadRequest(f"{name} is out of range")
