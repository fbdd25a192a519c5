"""Room classes for what only happens between processes: crowds, long histories, handlers that wait; and calls."""

import asyncio
from collections import defaultdict
from typing import Any

import yamabiko
from tests.site.rooms import OpenRoom
from yamabiko import History, Refused, register, rpc

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


@register("short/<path:name>")
class ShortRoom(OpenRoom):
    history = History(size=3)


@register("desk/<path:name>")
class DeskRoom(OpenRoom):
    """Can be called."""

    @rpc
    async def ring(self, user: Any, times: int = 1) -> dict[str, Any]:
        return {"room": self.name, "by": user.get_username(), "times": times}


@rpc
async def add(user: Any, first: int, second: int = 1) -> int:
    return first + second


@rpc
def whoami(user: Any) -> str:
    return str(user.get_username())


@rpc
async def decline(user: Any) -> None:
    raise Refused("not today", 418)


@rpc
async def fail(user: Any) -> None:
    raise ZeroDivisionError("as asked")


@rpc
async def wait_at(user: Any, gate: str) -> str:
    await gates[gate].wait()
    return "through"


@rpc
async def open_gate(user: Any, gate: str) -> None:
    gates[gate].set()


@rpc
def send_to(user: Any, to: str, client: str, data: Any) -> None:
    yamabiko.send(to, data, client=client)


@rpc
async def disconnect(user: Any, who: str, client: str, code: int = 3503) -> None:
    await yamabiko.adisconnect(who, client=client, code=code, reason="as asked")


@rpc
async def put_into(user: Any, who: str, client: str, room: str) -> None:
    await yamabiko.asubscribe(who, room, client=client, data={"welcome": room})


@rpc
async def take_out(user: Any, who: str, client: str, room: str) -> None:
    await yamabiko.aunsubscribe(who, room, client=client)
