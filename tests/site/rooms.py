"""Room classes of every kind, for the tests."""

import asyncio
from datetime import timedelta
from typing import Any

import yamabiko
from yamabiko import History, Refused, Room, register


class OpenRoom(Room):
    async def can_join(self, user: Any) -> bool:
        return True

    async def can_publish(self, user: Any) -> bool:
        return True


@register("open/<path:name>")
class PlainRoom(OpenRoom):
    """Keeps nothing."""


@register("room<int:number>")
@register("kept/<path:name>")
class KeptRoom(OpenRoom):
    history = History(size=100, ttl=timedelta(hours=1))
    presence = True


@register("members/<path:name>")
class MembersRoom(OpenRoom):
    history = History(size=100)

    async def can_join(self, user: Any) -> bool:
        return bool(user.is_authenticated)


@register("quiet/<path:name>")
class QuietRoom(OpenRoom):
    """Anybody may listen, only staff may speak."""

    async def can_publish(self, user: Any) -> bool:
        return bool(getattr(user, "is_staff", False))


@register("closed/<path:name>")
class ClosedRoom(Room):
    """Nothing is opened."""

    async def can_join(self, user: Any) -> bool:
        return False


@register("texts/<path:name>")
class TextsRoom(OpenRoom):
    """Changes, refuses, waits and breaks, as it is told."""

    history = History(size=100)

    async def on_publish(self, user: Any, message: Any) -> Any:
        if message == "break":
            raise ZeroDivisionError("as asked")
        if message == "nothing":
            return None
        if message == "unjson":
            return object()
        if message == "wait":
            await asyncio.sleep(0.05)
        if not isinstance(message, str):
            raise Refused("a message is a text", 401)
        return {"text": message, "by": user.get_username()}


@register("told/<path:name>")
class ToldRoom(OpenRoom):
    """Says in another room who joins and leaves."""

    async def on_join(self, user: Any) -> None:
        await yamabiko.apublish("open/porch", f"joined {self.kwargs['name']}")

    async def on_leave(self, user: Any) -> None:
        await yamabiko.apublish("open/porch", f"left {self.kwargs['name']}")


@register("broken/<path:name>")
class BrokenRoom(Room):
    async def can_join(self, user: Any) -> bool:
        raise ZeroDivisionError("as asked")
