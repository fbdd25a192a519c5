"""Functions and Room methods that clients call: `@rpc`, and the check of what they are called with."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, TypeVar, get_type_hints

import msgspec
from asgiref.sync import sync_to_async
from django.db import close_old_connections

from yamabiko.core.errors import BadRequest, MethodNotFound
from yamabiko.core.messages import encode_message

logger = logging.getLogger("yamabiko")

MARK = "_yamabiko_call"
NO_ARGUMENTS = b"{}"

F = TypeVar("F", bound=Callable[..., Any])


class Call:
    """A function that clients may call. Beside `self`, in a Room class, it takes the user, then its arguments."""

    def __init__(self, function: Callable[..., Any], *, is_method: bool) -> None:
        self.name = function.__name__
        self._function = function
        parameters = list(inspect.signature(function).parameters.values())
        first = 2 if is_method else 1
        if len(parameters) < first or any(each.kind is not each.POSITIONAL_OR_KEYWORD for each in parameters[:first]):
            raise TypeError(
                f"@rpc {self.name}: it takes {'self, ' if is_method else ''}user, then its arguments by name"
            )
        self._parameters = parameters[first:]
        for each in self._parameters:
            if each.kind not in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY):
                raise TypeError(f"@rpc {self.name}: clients give arguments by name, and *{each.name} has none")

    async def __call__(self, *bound: Any, arguments: bytes) -> bytes:
        """Call it with `bound` (self, if it has one, and the user) and a JSON object; return its result as JSON.

        Raises BadRequest for arguments that do not fit, or what the function raises.
        """
        try:
            given = (
                self._decoder.decode(arguments) if arguments and arguments != b"null" else self._decoder.decode(b"{}")
            )
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            raise BadRequest(f"{self.name} takes {self._signature}: {error}") from error
        named = {each.name: getattr(given, each.name) for each in self._parameters}
        return encode_message(await self._run(partial(self._function, *bound, **named)))

    async def _run(self, work: Callable[[], Any]) -> Any:
        if inspect.iscoroutinefunction(self._function):
            return await work()
        return await sync_to_async(_in_thread, thread_sensitive=False)(work)

    @cached_property
    def _decoder(self) -> msgspec.json.Decoder[Any]:
        """Made when it is first called, when all that its annotations name is there."""
        hints = get_type_hints(self._function, include_extras=True)
        fields: list[Any] = [
            (each.name, hints.get(each.name, Any), *(() if each.default is each.empty else (each.default,)))
            for each in self._parameters
        ]
        arguments = msgspec.defstruct(f"{self.name}_arguments", fields, kw_only=True, forbid_unknown_fields=True)
        return msgspec.json.Decoder(arguments)

    @property
    def _signature(self) -> str:
        return "{" + ", ".join(str(each) for each in self._parameters) + "}"


def _in_thread(work: Callable[[], Any]) -> Any:
    """Use the database as a request does: a connection that is broken or too old is not used again."""
    close_old_connections()
    try:
        return work()
    finally:
        close_old_connections()


functions: dict[str, Call] = {}
"""What clients may call outside of rooms, by name."""


def rpc(function: F) -> F:
    """Let clients call the decorated function, or method of a Room class, by its name.

    It takes the user and then arguments that clients give by name, in a JSON object; they are checked against their
    annotations. What it returns must be something JSON can hold. Raise `Refused` to tell the caller why not. A method
    is for members of its room, called as "room:method". A function that is not async runs in a thread.

    Raises TypeError for a function that cannot be called like that, or a name that is taken.
    """
    owner = function.__qualname__.rpartition(".")[0]
    is_method = bool(owner) and not owner.endswith("<locals>")
    call = Call(function, is_method=is_method)
    if not is_method:
        if call.name in functions:
            raise TypeError(f"@rpc {call.name}: another function has this name for clients")
        functions[call.name] = call
    setattr(function, MARK, call)
    return function


def calls_of(room_class: type) -> dict[str, Call]:
    """Return what members may call in rooms of a class, its bases' calls included, by name."""
    named = {name: getattr(value, MARK, None) for name, value in inspect.getmembers_static(room_class)}
    return {name: call for name, call in named.items() if isinstance(call, Call)}


async def call_function(user: Any, method: str, arguments: bytes) -> bytes:
    """See `Application.call`."""
    call = functions.get(method)
    if call is None:
        raise MethodNotFound(f"there is no function {method[:80]!r}")
    return await call(user, arguments=arguments)
