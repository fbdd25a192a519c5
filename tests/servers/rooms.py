"""Room classes for what only happens between processes: crowds, long histories, handlers that wait."""

import asyncio
from collections import defaultdict
from typing import Any

from tests.site.rooms import OpenRoom
from yamabiko import History, register

gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)


@register("crowd/<path:name>")
class CrowdRoom(OpenRoom):
    """Keeps nothing, and tells who is there."""

    presence = True


@register("long/<path:name>")
class LongRoom(OpenRoom):
    history = History(size=3000)


@register("gate/<path:name>")
class GateRoom(OpenRoom):
    """Holds `wait` back until somebody says `open`."""

    async def on_publish(self, user: Any, message: Any) -> Any:
        if message == "open":
            gates[self.name].set()
        if message == "wait":
            await gates[self.name].wait()
        return message
