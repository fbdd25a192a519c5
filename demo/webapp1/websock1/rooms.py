from datetime import timedelta
from typing import Any

from yamabiko import History, Refused, Room, register

LONGEST_MESSAGE = 500


@register("room<int:number>")
class NumberedRoom(Room):
    """room1, room2, room3 ...: open to everyone, signed in or not."""

    history = History(size=1000, ttl=timedelta(days=7))
    presence = True
    channels_group = "{room}_group1"  # the article's, so that its group_send reaches these rooms

    async def can_join(self, user: Any) -> bool:
        return True

    async def can_publish(self, user: Any) -> bool:
        return True

    async def on_publish(self, user: Any, message: Any) -> str:
        if not isinstance(message, str):
            raise Refused("a message is a text")
        if len(message) > LONGEST_MESSAGE:
            raise Refused(f"a message has at most {LONGEST_MESSAGE} characters, this one has {len(message)}")
        return message
