"""Whatever is published, read and waited for, and however often it restarts: a log answers as a broker in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.brokers.sqlite_log import LogBench
from tests.brokers.witness import Witness
from yamabiko.brokers.memory import MemoryBroker
from yamabiko.core.messages import History, Position, Stream

HISTORIES = [History(size=3, ttl=timedelta(hours=1)), History(size=20, ttl=timedelta(seconds=10)), None]

publications = st.tuples(
    st.integers(0, 2),
    st.sampled_from(["", "one", "two"]),
    st.sampled_from(["", "alice", 'a "quoted", \\ name', "山彦\n😀", "a\0b"]),
    st.sampled_from([b"", b'{"tags":{"a":"1"}}', '{"tags":{"山彦":"1"}}'.encode()]),
)
steps = st.one_of(
    st.tuples(st.just("publish"), st.lists(publications, min_size=1, max_size=8)),
    st.tuples(st.just("read"), st.integers(0, 1), st.none() | st.integers(-25, 3), st.sampled_from([0, 1, 2, 5, 100])),
    st.tuples(st.just("wait"), st.sampled_from([0.5, 4.0, 9.5, 290.0, 301.0, 3_600.0])),
    st.tuples(st.just("forget"), st.integers(0, 2)),
    st.tuples(st.just("restart")),
)
numbers = count()


class Twins:
    """A log and a broker in memory that are told the same, in rooms that are new each time."""

    def __init__(self, log: LogBench) -> None:
        self.log = log
        self.memory = MemoryBroker(lambda: log.now)
        self.heard: list[bytes] = []
        self.memory.start(Witness(lambda _, publication: self.heard.append(publication.data)))
        self.rooms = [f"{next(numbers)}" for _ in HISTORIES]
        log.delivered.clear()

    async def subscribe(self) -> None:
        for room in self.rooms:
            await self.memory.subscribe(room)
            await self.log.broker.subscribe(room)

    async def publish(self, wanted: list[tuple[int, str, str, bytes]]) -> None:
        calls = [
            (
                (self.rooms[room], b"[%d]" % next(numbers)),
                {"history": HISTORIES[room], "key": key, "user": user, "extras": extras},
            )
            for room, key, user, extras in wanted
        ]
        in_memory = [await self.memory.publish(*what, **options) for what, options in calls]
        on_disk = await asyncio.gather(*(self.log.broker.publish(*what, **options) for what, options in calls))
        assert [offset_of(position) for position in on_disk] == [offset_of(position) for position in in_memory]
        said = {publication.data for _, publication in self.log.delivered}
        assert said == set(self.heard)

    async def read(self, room: int, distance: int | None, limit: int) -> None:
        """Read since a position that is some way from the top."""
        history, pages = HISTORIES[room], []
        assert history is not None
        for broker in (self.memory, self.log.broker):
            top = (await broker.read(self.rooms[room], history, limit=0)).top
            since = Position(top.epoch, max(top.offset + distance, 0)) if distance is not None else None
            pages.append(as_told(await broker.read(self.rooms[room], history, since=since, limit=limit)))
        assert pages[0] == pages[1]

    async def forget(self, room: int) -> None:
        for broker in (self.memory, self.log.broker):
            await broker.forget(self.rooms[room])

    async def wait(self, seconds: float) -> None:
        self.log.now += seconds

    async def restart(self) -> None:
        epochs = await self._epochs()
        await self.log.restart()
        await self.subscribe()
        assert await self._epochs() == epochs

    async def _epochs(self) -> list[str]:
        return [(await self.log.read(room)).top.epoch for room in self.rooms]


def offset_of(position: Position | None) -> int | None:
    return position.offset if position is not None else None


def as_told(page: Stream) -> tuple[Any, ...]:
    """Return what of a page is the same in any epoch."""
    kept = [(offset_of(kept.position), kept.data, kept.user, kept.extras) for kept in page.publications]
    assert {kept.position.epoch for kept in page.publications if kept.position} <= {page.top.epoch}
    return kept, page.top.offset, page.is_whole


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    return tmp_path_factory.mktemp("log") / "rooms.log"


@settings(max_examples=60, deadline=None)
@given(script=st.lists(steps, max_size=30))
def test_a_log_answers_as_a_broker_in_memory(path, script):
    async def play() -> None:
        log = LogBench(path)
        twins = Twins(log)
        await twins.subscribe()
        try:
            for name, *what in script:
                await getattr(twins, name)(*what)
        finally:
            await log.broker.close()

    asyncio.run(play())
