"""Room classes: what an application says of its rooms, and the patterns by which a room's name finds its class."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, ClassVar, TypeVar

from django.urls.resolvers import RoutePattern

from yamabiko.core.errors import MethodNotFound, UnknownRoom
from yamabiko.core.messages import History
from yamabiko.core.names import room_name
from yamabiko.django.calls import Call, calls_of


class Room:
    """Subclass it in an app's `rooms.py` and `register` it with a pattern. It begins closed: say what it opens.

    An instance speaks for one room: `name` is the room's, `kwargs` what the pattern took from it. `user` is Django's,
    an AnonymousUser for someone unknown. The methods run on the event loop: use Django's async ORM methods in them.
    """

    history: History | None = None
    """What is kept of the room's messages; None keeps nothing, and nothing can be resumed."""
    presence: bool = False
    """Whether members may see who is there."""
    delta: bool = False
    """Whether clients that ask for it get what has changed since the message before, where that is shorter.

    For rooms with a history whose messages are large and much alike; it costs time for each message, not each member.
    """
    channels_group: str = ""
    """The room's group with BROKER "channels://...", for old code that uses it: "chat_{name}", or with all of `{room}`.

    Whatever has a "message" and is sent to that group is published in the room.
    """
    changes_messages: ClassVar[bool] = False
    calls: ClassVar[dict[str, Call]] = {}

    name: str
    kwargs: dict[str, Any]

    def __init__(self, name: str, kwargs: dict[str, Any]) -> None:
        self.name = name
        self.kwargs = kwargs

    @property
    def group(self) -> str:
        """The room's Channels group: `channels_group` filled in, or a hash: no client's words choose a group."""
        if self.channels_group:
            return self.channels_group.format(**{**self.kwargs, "room": self.name})
        return f"yamabiko-{blake2b(self.name.encode(), digest_size=16).hexdigest()}"

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.changes_messages = cls.on_publish is not Room.on_publish
        cls.calls = calls_of(cls)

    async def can_join(self, user: Any) -> bool:
        """Return whether `user` may be in the room and read its history. Asked once, when they join."""
        return False

    async def can_publish(self, user: Any) -> bool:
        """Return whether `user` may publish here. Asked once, when they join."""
        return False

    async def on_publish(self, user: Any, message: Any) -> Any:
        """Return what is to be published for a client's `message`. Raise `Refused` to tell the sender why not."""
        return message

    async def on_join(self, user: Any) -> None:
        """Called when a connection of `user` has become a member."""

    async def on_leave(self, user: Any) -> None:
        """Called when a connection of `user` that was a member is gone, whatever ended it."""

    async def call(self, user: Any, method: str, arguments: bytes) -> bytes:
        """Call the `@rpc` method of this name with a JSON object, and return its result as JSON."""
        call = type(self).calls.get(method)
        if call is None:
            raise MethodNotFound(f"{self.name} has no method {method[:80]!r}")
        return await call(self, user, arguments=arguments)


class Registry:
    """Patterns and their Room classes, in the order of their registration; the first that matches has the room."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, RoutePattern, type[Room]]] = []

    def add(self, pattern: str, room_class: type[Room]) -> None:
        if not (isinstance(room_class, type) and issubclass(room_class, Room)):
            raise TypeError(f"register({pattern!r}) is for a subclass of yamabiko.Room, not {room_class!r}")
        self.entries.append((pattern, RoutePattern(pattern, is_endpoint=True), room_class))

    def room(self, name: str) -> Room:
        """Return the Room instance of a room. Raises UnknownRoom if no pattern matches its name."""
        name = room_name(name)
        for _, pattern, room_class in self.entries:
            match = pattern.match(name)
            if match is not None:
                return room_class(name, match[2])
        raise UnknownRoom(f"no Room class is registered for {name!r}")


registry = Registry()

R = TypeVar("R", bound=type[Room])


def register(pattern: str) -> Callable[[R], R]:
    """Give the rooms whose names match `pattern`, in the syntax of Django's `path()`, to the decorated Room class.

    Raises django.core.exceptions.ImproperlyConfigured for a pattern that Django does not take.
    """
    if not isinstance(pattern, str):
        raise TypeError('register needs a pattern: @register("chat/<slug:name>")')

    def add(room_class: R) -> R:
        registry.add(pattern, room_class)
        return room_class

    return add
