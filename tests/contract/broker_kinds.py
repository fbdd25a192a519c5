"""The brokers under contract, each with what it promises and with a switch that breaks what it depends on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import msgspec
from channels.layers import InMemoryChannelLayer
from channels_redis.core import RedisChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tests.brokers.witness import Witness
from tests.redis_server import Cluster, RedisServer, Watched
from yamabiko.brokers.channels import ChannelsBroker
from yamabiko.brokers.memory import MemoryBroker
from yamabiko.brokers.redis import RedisBroker
from yamabiko.brokers.sqlite import SqliteBroker
from yamabiko.core.interfaces import Broker
from yamabiko.core.messages import History, Position, Publication

WAIT_SECONDS = 4.0
REDIS_SECONDS = 1.0


@dataclass
class Bench:
    """A broker, a clock wound by hand, and what the broker has delivered."""

    make: Callable[[Callable[[], float]], Broker]
    keeps_history: bool
    can_fail: bool
    break_down: Callable[[], None] = lambda: None
    mend: Callable[[], None] = lambda: None
    now: float = 1000.0
    witness: Witness = field(default_factory=Witness)

    def __post_init__(self) -> None:
        self.broker = self.another()

    def another(self) -> Broker:
        """Return a broker like this one, as a second process would have it, with the same witness."""
        broker = self.make(lambda: self.now)
        broker.start(self.witness)
        return broker

    @property
    def delivered(self) -> list[tuple[str, Publication]]:
        return self.witness.delivered

    @property
    def misses(self) -> int:
        """How often the broker has said that publications may have been missed."""
        return self.witness.misses

    async def publish(self, room: str, message: Any, history: History | None = None, **options: Any) -> Position | None:
        return await self.broker.publish(room, msgspec.json.encode(message), history=history, **options)

    async def heard(self, count: int) -> list[Any]:
        """Wait until at least `count` publications are delivered; return the messages of all."""
        await self.witness.until(lambda: len(self.delivered) >= count)
        return self.messages

    async def close(self) -> None:
        """Close the broker, or fail: what a layer does with a cancellation must not hold it up."""
        async with asyncio.timeout(WAIT_SECONDS):
            await self.broker.close()

    @property
    def messages(self) -> list[Any]:
        return [json.loads(publication.data) for _, publication in self.delivered]

    def in_room(self, room: str) -> list[Any]:
        return [json.loads(publication.data) for where, publication in self.delivered if where == room]


@asynccontextmanager
async def memory() -> AsyncIterator[Bench]:
    bench = Bench(MemoryBroker, keeps_history=True, can_fail=False)
    yield bench
    await bench.close()


@asynccontextmanager
async def sqlite() -> AsyncIterator[Bench]:
    with TemporaryDirectory() as folder:
        bench = Bench(lambda clock: SqliteBroker(Path(folder, "log"), clock), keeps_history=True, can_fail=False)
        yield bench
        await bench.close()


class FragileLayer(InMemoryChannelLayer):
    """The in-memory layer, on a network that can be cut, or that refuses the next few memberships."""

    def __init__(self) -> None:
        super().__init__()
        self.is_cut = False
        self.refusals = 0
        self.was_joined = asyncio.Event()

    def cut(self) -> None:
        self.is_cut = True

    def mend(self) -> None:
        self.is_cut = False

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        self._reach()
        await super().group_send(group, message)

    async def group_add(self, group: str, channel: str) -> None:
        self._reach()
        if self.refusals:
            self.refusals -= 1
            raise ConnectionError("as asked")
        await super().group_add(group, channel)
        self.was_joined.set()

    def _reach(self) -> None:
        if self.is_cut:
            raise ConnectionError("as asked")


@asynccontextmanager
async def channels_in_memory() -> AsyncIterator[Bench]:
    layer = FragileLayer()
    bench = Bench(
        lambda clock: ChannelsBroker(layer, str, clock),
        keeps_history=False,
        can_fail=True,
        break_down=layer.cut,
        mend=layer.mend,
    )
    yield bench
    await bench.close()


@asynccontextmanager
async def channels_on_redis(
    layer_class: type[RedisChannelLayer | RedisPubSubChannelLayer], server: RedisServer
) -> AsyncIterator[Bench]:
    at_once = Retry(NoBackoff(), 1)
    layer = layer_class(hosts=[{"address": server.url, "retry": at_once}], prefix=uuid4().hex)
    bench = Bench(
        lambda clock: ChannelsBroker(layer, str, clock),
        keeps_history=False,
        can_fail=True,
        break_down=server.stop,
        mend=server.start,
    )
    try:
        yield bench
        await bench.close()
    finally:
        if not server.is_running:
            server.start()
        await (layer.close_pools() if layer_class is RedisChannelLayer else layer.flush())


@asynccontextmanager
async def redis_at(
    url: str, *, break_down: Callable[[], None] = lambda: None, mend: Callable[[], None] = lambda: None
) -> AsyncIterator[Bench]:
    """A broker on the Redis at `url`, with keys of its own."""
    prefix = uuid4().hex
    bench = Bench(
        lambda clock: RedisBroker.from_url(url, timeout_seconds=REDIS_SECONDS, prefix=prefix, clock=clock),
        keeps_history=True,
        can_fail=True,
        break_down=break_down,
        mend=mend,
    )
    try:
        yield bench
    finally:
        mend()
        await bench.close()


def redis_alone(server: RedisServer) -> AbstractAsyncContextManager[Bench]:
    return redis_at(server.url, break_down=server.stop, mend=lambda: server.is_running or server.start())


def redis_under_sentinel(watched: Watched) -> AbstractAsyncContextManager[Bench]:
    return redis_at(watched.url, break_down=watched.primary.lock_out, mend=watched.primary.let_in)


def redis_cluster(cluster: Cluster) -> AbstractAsyncContextManager[Bench]:
    return redis_at(cluster.url, break_down=cluster.lock_out, mend=cluster.let_in)


ON_REDIS = {
    "redis": (redis_alone, "redis_server"),
    "redis under Sentinel": (redis_under_sentinel, "watched_redis"),
    "redis cluster": (redis_cluster, "redis_cluster"),
}
"""Kinds of broker, each with the fixture of its servers."""
