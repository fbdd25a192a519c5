"""Who is in which room, on all nodes that share a Redis; see presence.lua for how it lies there."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Protocol

from yamabiko.brokers.redis.names import RoomNames
from yamabiko.brokers.redis.records import member_in, member_record
from yamabiko.brokers.redis.scripts import CHANGE, LOOK, LOSE, RECLAIM, RENEW, Request, Script, Word
from yamabiko.core.errors import NotAvailable
from yamabiko.core.interfaces import LEASE_SECONDS
from yamabiko.core.messages import Counts, Member

CLIENTS_AT_ONCE, BYTES_AT_ONCE = 100, 128 * 1024
"""How much one change is: the server does nothing else meanwhile."""
READ_AT_ONCE = 1000
ROOMS_AT_ONCE = 100
"""How many rooms are asked for in one turn of the loop."""

Change = tuple[str, bytes]
"""A client, and what is kept of it; nothing if it goes."""


class Ask(Protocol):
    def __call__(self, request: Request, *, may_repeat: bool = True) -> Awaitable[Any]:
        """Return the answer of Redis. Raises NotAvailable."""


class RedisPresence:
    """See `PresenceStore`. What is asked of one room in one turn of the loop is done in its order.

    A lease ends when another node takes note that it has not been renewed in time.
    """

    def __init__(self, ask: Ask, names: Callable[[str], RoomNames], now_ms: Callable[[], Word], verb: str) -> None:
        self._ask = ask
        self._names = names
        self._now_ms = now_ms
        self._verb = verb

    @cached_property
    def _node(self) -> str:
        """The name of this node, made when it is first needed: forked processes must not share one."""
        return secrets.token_hex(6)

    async def come(self, room: str, members: Sequence[Member]) -> None:
        await self._change(room, ((member.client, member_record(member)) for member in members))

    async def go(self, room: str, clients: Collection[str]) -> None:
        await self._change(room, ((client, b"") for client in clients))

    async def renew(self, rooms: Sequence[str], *, seconds: float = LEASE_SECONDS) -> list[str]:
        renewals: list[asyncio.Task[bool | NotAvailable]] = []
        async with asyncio.TaskGroup() as tasks:
            for room in rooms:
                renewals.append(tasks.create_task(self._renewed(room, seconds)))
                if len(renewals) % ROOMS_AT_ONCE == 0:
                    await asyncio.sleep(0)
        results = [renewal.result() for renewal in renewals]
        for result in results:
            if isinstance(result, NotAvailable):
                raise result
        return [room for room, had_lease in zip(rooms, results, strict=True) if not had_lease]

    async def present(self, room: str) -> list[Member]:
        names = self._names(room)
        _, clients = await self._look(names)
        nodes = [node for node, count in clients.items() if count]
        found = await asyncio.gather(*(self._members_of(node, names) for node in nodes))
        return list({member.client: member for members in found for member in members}.values())

    async def count(self, room: str) -> Counts:
        users, clients = await self._look(self._names(room))
        return Counts(sum(clients.values()), users)

    async def lose(self, user: str, client: str, *, seconds: float) -> None:
        if user:
            names = self._names(user)
            words = (client, _milliseconds(seconds), self._now_ms())
            await self._ask(Request(names.tag, LOSE.command((names.lost,), words), LOSE.source))

    async def reclaim(self, user: str) -> str:
        if not user:
            return ""
        names = self._names(user)
        request = Request(names.tag, RECLAIM.command((names.lost,), (self._now_ms(),)), RECLAIM.source)
        client: bytes = await self._ask(request, may_repeat=False)
        return client.decode()

    async def _change(self, room: str, changes: Iterable[Change]) -> None:
        """Let clients come, with what is known of them, or go, with nothing: a part after the other."""
        for part in _in_parts(changes):
            await self._ask(self._request(CHANGE, self._names(room), item=part))

    async def _renewed(self, room: str, seconds: float) -> bool | NotAvailable:
        """Renew the lease in a room and tell whether there was one, or why that is not known."""
        request = self._request(RENEW, self._names(room), seconds)
        is_more = True
        while is_more:
            try:
                is_new, is_more = await self._ask(request)
            except NotAvailable as error:
                return error
        return not is_new

    async def _look(self, names: RoomNames) -> tuple[int, dict[str, int]]:
        """Return how many users are in a room, and how many clients on each node."""
        is_more = True
        while is_more:
            is_more, users, *nodes = await self._ask(self._request(LOOK, names))
        return users, {node.decode(): clients for node, clients in zip(nodes[::2], nodes[1::2], strict=True)}

    async def _members_of(self, node: str, names: RoomNames) -> list[Member]:
        members: list[Member] = []
        cursor: Word = 0
        while True:
            words = ("HSCAN", f"{names.nodes}:{node}", cursor, "COUNT", READ_AT_ONCE)
            cursor, page = await self._ask(Request(names.tag, words))
            members += map(member_in, page[1::2])
            if cursor == b"0":
                return members

    def _request(
        self, script: Script, names: RoomNames, seconds: float = LEASE_SECONDS, item: tuple[Word, ...] = ()
    ) -> Request:
        words = (self._verb, names.channel, self._node, _milliseconds(seconds), self._now_ms())
        return Request(names.tag, script.command((names.nodes, names.users), words), script.source, item)


def _in_parts(changes: Iterable[Change]) -> Iterator[tuple[Word, ...]]:
    """Yield the words of changes, in parts that a server can take at once."""
    part: list[Word] = []
    size = 0
    for client, record in changes:
        if part and (len(part) == 2 * CLIENTS_AT_ONCE or size + len(record) > BYTES_AT_ONCE):
            yield tuple(part)
            part, size = [], 0
        part += (client, record)
        size += len(record)
    if part:
        yield tuple(part)


def _milliseconds(seconds: float) -> int:
    return max(int(seconds * 1000), 1)
