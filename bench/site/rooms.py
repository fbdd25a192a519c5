"""The kinds of rooms that are measured."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from yamabiko import History, Room, register

KEPT = History(size=1000, ttl=timedelta(hours=1))


@register("deflate/<int:number>")
@register("plain/<int:number>")
class PlainRoom(Room):
    async def can_join(self, user: Any) -> bool:
        return True

    async def can_publish(self, user: Any) -> bool:
        return True


@register("history/<int:number>")
class HistoryRoom(PlainRoom):
    history = KEPT


@register("users/<int:number>")
class UsersRoom(PlainRoom):
    async def can_join(self, user: Any) -> bool:
        return bool(user.is_authenticated)


@register("users-history/<int:number>")
class UsersHistoryRoom(UsersRoom):
    history = KEPT
