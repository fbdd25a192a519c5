import secrets
from datetime import timedelta
from typing import Any

from django.contrib.auth.signals import user_logged_out
from django.dispatch import receiver

import yamabiko
from yamabiko import History, Refused, Room, apublish, register, rpc

LONGEST_MESSAGE = 500
MOST_SIDES = 100
SIGNED_OUT = 4501  # the pages know it, and load themselves anew


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


@register("echo/<slug:name>")
class EchoRoom(NumberedRoom):
    """Like the others, but reached over one connection for all of them, and with dice."""

    channels_group = ""

    @rpc
    async def roll(self, user: Any, sides: int = 6) -> int:
        """Throw a die before everyone's eyes."""
        if not 2 <= sides <= MOST_SIDES:
            raise Refused(f"a die has 2 to {MOST_SIDES} sides, not {sides}")
        number = 1 + secrets.randbelow(sides)
        await apublish(self.name, {"rolled": number, "sides": sides, "by": user.get_username()})
        return number


@receiver(user_logged_out)
def end_connections(user: Any, **kwargs: Any) -> None:
    """Let no window go on as somebody who has signed out in another one."""
    if user is not None:
        yamabiko.disconnect(user, code=SIGNED_OUT, reason="signed out")
