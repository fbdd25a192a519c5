"""Which server to ask: the one of the address, the one that Sentinel names, or that which has a slot of the cluster."""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from binascii import crc_hqx
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import hiredis

from yamabiko.brokers.redis.address import Address
from yamabiko.brokers.redis.line import Endpoint, Line, Login, open_line
from yamabiko.brokers.redis.scripts import Word
from yamabiko.brokers.redis.shared import Shared
from yamabiko.brokers.redis.troubles import Denied, Trouble, Unreachable, meaning_of

SLOTS = 16384
ONE_TRY_SECONDS = 0.5
"""How long one of several servers is asked the way, before the next one is."""


class Servers(Protocol):
    is_sharded: bool
    can_change: bool
    """Whether it has to be asked now and then which servers there are."""
    login: Login

    def of(self, tag: str) -> Endpoint | None:
        """Return the server that has the slot of `tag`, also if that is in doubt; None if it is not known."""

    def doubt(self) -> None:
        """Take note that something went wrong with a server."""

    async def be_sure(self, deadline: float) -> None:
        """Learn which servers there are if it is in doubt. Raises Trouble."""

    def moved(self, tag: str, endpoint: Endpoint) -> None:
        """Take a server's word that another one has the slot of `tag`."""

    async def find(self, deadline: float) -> None:
        """Learn which servers there are, unless that was done a moment ago. Raises Trouble."""


def servers_of(address: Address) -> Servers:
    endpoints = [Endpoint(host, port) for host, port in address.hosts]
    login = Login(address.user, address.password, address.db, address.tls)
    if address.kind == "sentinel":
        return Sentinels(endpoints, address.service, login)
    if address.kind == "cluster":
        return Cluster(endpoints, login)
    return OneServer(endpoints[0], login)


class OneServer:
    is_sharded = False
    can_change = False

    def __init__(self, endpoint: Endpoint, login: Login) -> None:
        self._endpoint = endpoint
        self.login = login

    def of(self, tag: str) -> Endpoint | None:
        return self._endpoint

    def doubt(self) -> None:
        """There is no other."""

    def moved(self, tag: str, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def be_sure(self, deadline: float) -> None:
        """It is known."""

    async def find(self, deadline: float) -> None:
        """It is known."""


class ChangingServers(ABC):
    """Servers of which one has to ask others; many may ask at once."""

    can_change = True

    def __init__(self) -> None:
        self._is_in_doubt = True
        self._finding = Shared()

    def doubt(self) -> None:
        self._is_in_doubt = True

    async def be_sure(self, deadline: float) -> None:
        if self._is_in_doubt:
            await self.find(deadline)

    async def find(self, deadline: float) -> None:
        await self._finding.attempt(partial(self._find, deadline), deadline)

    async def _find(self, deadline: float) -> None:
        await self._learn(deadline)
        self._is_in_doubt = False

    @abstractmethod
    async def _learn(self, deadline: float) -> None: ...


class Sentinels(ChangingServers):
    """The primary of `service`, as the first Sentinel that answers names it."""

    is_sharded = False

    def __init__(self, sentinels: Sequence[Endpoint], service: str, login: Login) -> None:
        super().__init__()
        self._sentinels = list(sentinels)
        self._service = service
        self._primary: Endpoint | None = None
        self.login = login

    def of(self, tag: str) -> Endpoint | None:
        return self._primary

    def doubt(self) -> None:
        if not self._is_in_doubt:
            self._sentinels.append(self._sentinels.pop(0))  # it may have been this one that does not know better
        super().doubt()

    def moved(self, tag: str, endpoint: Endpoint) -> None:
        self._primary = endpoint

    async def _learn(self, deadline: float) -> None:
        """Learn the primary; while no Sentinel answers it is the one that was named last."""
        try:
            self._primary = await first_answer(self._sentinels, self._ask, deadline)
        except Trouble:
            if self._primary is None:
                raise

    async def _ask(self, sentinel: Endpoint, deadline: float) -> Endpoint:
        plain = Login(tls=self.login.tls)
        try:
            reply = await self._named_by(sentinel, plain, deadline)
        except Denied:  # Sentinels have passwords of their own, most often the same
            with_password = Login(self.login.user, self.login.password, tls=self.login.tls)
            reply = await self._named_by(sentinel, with_password, deadline)
        if not reply:
            raise Unreachable(f"Sentinel at {sentinel} knows no {self._service!r}")
        return Endpoint(reply[0].decode(), int(reply[1]))

    async def _named_by(self, sentinel: Endpoint, login: Login, deadline: float) -> Any:
        words = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
        return await ask_once(sentinel, login, words, deadline)


class Cluster(ChangingServers):
    """The primaries of a cluster, as one of its nodes lists them."""

    is_sharded = True

    def __init__(self, seeds: Sequence[Endpoint], login: Login) -> None:
        super().__init__()
        self._seeds = list(seeds)
        self._by_slot: list[Endpoint | None] = [None] * SLOTS
        self.login = login

    def of(self, tag: str) -> Endpoint | None:
        return self._by_slot[slot_of(tag)]

    def moved(self, tag: str, endpoint: Endpoint) -> None:
        self._by_slot[slot_of(tag)] = endpoint

    async def _learn(self, deadline: float) -> None:
        nodes = list({each for each in self._by_slot if each is not None})
        random.shuffle(nodes)
        self._by_slot = await first_answer([*nodes, *self._seeds], self._ask, deadline)

    async def _ask(self, node: Endpoint, deadline: float) -> list[Endpoint | None]:
        by_slot: list[Endpoint | None] = [None] * SLOTS
        for first, last, primary, *_ in await ask_once(node, self.login, ("CLUSTER", "SLOTS"), deadline):
            host = primary[0].decode() if primary[0] else node.host
            by_slot[first : last + 1] = [Endpoint(host, primary[1])] * (last + 1 - first)
        if not any(by_slot):
            raise Unreachable(f"Redis at {node} is of a cluster without slots")
        return by_slot


def slot_of(tag: str) -> int:
    """Return the slot of the keys with `{tag}`: of the part before a } in it, by the cluster specification."""
    return crc_hqx(tag.split("}", 1)[0].encode(), 0) % SLOTS


async def first_answer(servers: Sequence[Endpoint], ask: Any, deadline: float) -> Any:
    """Ask one server after the other and return the first answer. Raises what the last one said."""
    loop = asyncio.get_running_loop()
    last: Trouble = Unreachable("no server is known")
    for server in list(servers):
        until = min(deadline, loop.time() + ONE_TRY_SECONDS) if len(servers) > 1 else deadline
        try:
            return await ask(server, until)
        except Trouble as trouble:
            last = trouble
    raise last


async def ask_once(server: Endpoint, login: Login, words: Sequence[Word], deadline: float) -> Any:
    """Ask one thing on a line of its own. Raises Trouble."""
    line: Line = await open_line(server, login, deadline=deadline)
    try:
        reply = await line.ask(words, deadline)
    finally:
        await line.end()
    if isinstance(reply, hiredis.ReplyError):
        raise Denied(f"Redis at {server} does not tell the way: {meaning_of(reply)}")
    return reply


def endpoint_in(error: Exception, asked: Endpoint) -> Endpoint:
    """Return where a MOVED or ASK error points to; without a host it is the host that was asked."""
    host, _, port = str(error).rsplit(" ", 1)[-1].rpartition(":")
    return Endpoint(host.strip("[]") or asked.host, int(port))
