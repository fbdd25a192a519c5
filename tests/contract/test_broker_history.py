"""What brokers that keep history keep to: what is kept, for how long, and how it is read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import pytest

from tests.contract.broker_kinds import ON_REDIS, Bench, memory, sqlite
from tests.redis_server import redis_cluster as redis_cluster
from tests.redis_server import redis_server as redis_server
from tests.redis_server import watched_redis as watched_redis
from yamabiko.core.messages import History, Position, Stream

HISTORY = History(size=10, ttl=timedelta(hours=1))


IN_PROCESS = [memory, sqlite]


@pytest.fixture
async def bench(kind: AbstractAsyncContextManager[Bench]) -> AsyncIterator[Bench]:
    async with kind as bench:
        yield bench


@pytest.fixture(params=[*IN_PROCESS, *(pytest.param(kind, marks=pytest.mark.redis) for kind in ON_REDIS)])
def kind(request: pytest.FixtureRequest):
    if request.param in IN_PROCESS:
        return request.param()
    kind, servers = ON_REDIS[request.param]
    return kind(request.getfixturevalue(servers))


async def read(bench: Bench, since: Position | None = None, *, limit: int = 100) -> Stream:
    return await bench.broker.read("room", HISTORY, since=since, limit=limit)


async def publish_many(bench: Bench, count: int, history: History = HISTORY) -> list[Position]:
    positions = [await bench.publish("room", number, history) for number in range(1, count + 1)]
    return [position for position in positions if position is not None]


def messages(page: Stream) -> list[object]:
    return [json.loads(publication.data) for publication in page.publications]


async def test_what_is_read_is_what_was_published_oldest_first(bench):
    position = await bench.publish("room", "hello", HISTORY, user="alice")
    await bench.publish("room", "again", HISTORY)
    page = await read(bench)
    assert messages(page) == ["hello", "again"]
    assert (page.publications[0].position, page.publications[0].user) == (position, "alice")


@pytest.mark.parametrize("user", ["", "alice"])
async def test_extras_are_kept_with_what_they_came_with(bench, user):
    extras = [b"", b'{"tags":{"a":"1"}}', b"", '{"tags":{"山彦":"0 1,2 "}}'.encode()]
    for number, each in enumerate(extras):
        await bench.publish("room", number, HISTORY, user=user, extras=each)
    page = await read(bench)
    assert [publication.extras for publication in page.publications] == extras
    assert {publication.user for publication in page.publications} == {user}
    assert messages(page) == [0, 1, 2, 3]


async def test_what_is_forgotten_is_gone_and_numbering_goes_on(bench):
    await bench.broker.subscribe("room")
    positions = await publish_many(bench, 5)
    await bench.broker.forget("room")
    page = await read(bench)
    assert (page.publications, page.top) == ([], positions[-1])
    assert (await bench.publish("room", 6, HISTORY)) == Position(positions[-1].epoch, 6)
    assert messages(await read(bench)) == [6]


async def test_positions_before_what_was_forgotten_are_not_reached_back_to(bench):
    positions = await publish_many(bench, 5)
    await bench.broker.forget("room")
    behind, at_the_top = await read(bench, positions[3]), await read(bench, positions[4])
    assert (behind.publications, behind.is_whole) == ([], False)
    assert not (await read(bench, positions[3], limit=0)).is_whole
    assert (at_the_top.publications, at_the_top.is_whole) == ([], True)
    await bench.publish("room", 6, HISTORY)
    behind, at_the_top = await read(bench, positions[3]), await read(bench, positions[4])
    assert (messages(behind), behind.is_whole) == ([6], False)
    assert (messages(at_the_top), at_the_top.is_whole) == ([6], True)


async def test_only_the_room_that_is_meant_is_forgotten(bench):
    await bench.publish("other", "kept", HISTORY)
    await bench.broker.forget("room")
    await bench.broker.forget("room")
    assert len((await bench.broker.read("other", HISTORY, limit=10)).publications) == 1
    assert (await bench.publish("room", 1, HISTORY)).offset == 1


async def test_what_is_published_under_a_key_is_not_published_again_though_it_is_forgotten(bench):
    first = await bench.publish("room", "hello", HISTORY, key="k")
    await bench.broker.forget("room")
    assert await bench.publish("room", "hello", HISTORY, key="k") == first
    assert (await read(bench)).publications == []


async def test_a_room_in_which_nothing_was_published_is_at_offset_0(bench):
    page = await read(bench)
    assert (page.publications, page.top.offset, page.is_whole) == ([], 0, True)
    assert (await bench.publish("room", "first", HISTORY)) == Position(page.top.epoch, 1)
    assert messages(await read(bench, page.top)) == ["first"]


async def test_no_more_than_the_size_is_kept(bench):
    positions = await publish_many(bench, 15)
    page = await read(bench)
    assert messages(page) == list(range(6, 16))
    assert page.top == positions[-1]


async def test_nothing_is_kept_longer_than_the_ttl_and_numbering_goes_on(bench):
    await bench.broker.subscribe("room")
    await publish_many(bench, 2)
    bench.now += 3000
    await bench.publish("room", 3, HISTORY)
    bench.now += 599
    assert messages(await read(bench)) == [1, 2, 3]
    bench.now += 1
    assert messages(await read(bench)) == [3]
    bench.now += 3600
    page = await read(bench)
    assert (page.publications, page.top.offset) == ([], 3)
    assert (await bench.publish("room", 4, HISTORY)).offset == 4


@pytest.mark.parametrize("offset", range(1, 6))
async def test_since_a_position_comes_everything_after_it(bench, offset):
    positions = await publish_many(bench, 5)
    page = await read(bench, positions[offset - 1])
    assert messages(page) == list(range(offset + 1, 6))
    assert page.is_whole


async def test_the_limit_takes_the_first_after_a_position_and_the_newest_without_one(bench):
    positions = await publish_many(bench, 9)
    assert messages(await read(bench, positions[1], limit=3)) == [3, 4, 5]
    assert messages(await read(bench, limit=3)) == [7, 8, 9]
    assert messages(await read(bench, limit=0)) == []
    assert (await read(bench, limit=0)).top == positions[-1]


async def test_the_oldest_position_that_history_reaches_back_to_is_the_one_before_the_oldest_kept(bench):
    positions = await publish_many(bench, 15)
    whole, broken = await read(bench, positions[4]), await read(bench, positions[3])
    assert (whole.is_whole, broken.is_whole) == (True, False)
    assert messages(whole) == messages(broken) == list(range(6, 16))


async def test_expired_publications_are_not_reached_back_to(bench):
    await bench.broker.subscribe("room")
    positions = await publish_many(bench, 3)
    bench.now += 3600
    assert not (await read(bench, positions[1])).is_whole
    assert (await read(bench, positions[2])).is_whole


@pytest.mark.parametrize(
    "wrong", [lambda top: Position("elsewhere", 2), lambda top: Position(top.epoch, top.offset + 1)]
)
async def test_since_another_epoch_or_what_is_still_to_come_the_page_begins_with_the_oldest_kept(bench, wrong):
    positions = await publish_many(bench, 5)
    page = await read(bench, wrong(positions[-1]), limit=3)
    assert messages(page) == [1, 2, 3]
    assert not page.is_whole


async def test_since_a_position_in_no_epoch_the_page_begins_with_the_oldest_kept(bench):
    await publish_many(bench, 5)
    assert messages(await read(bench, Position("", 0), limit=2)) == [1, 2]


async def test_a_publication_without_history_is_not_numbered_and_not_kept(bench):
    await bench.publish("room", 1, HISTORY)
    assert await bench.publish("room", "passing", None) is None
    assert (await bench.publish("room", 2, HISTORY)).offset == 2
    assert messages(await read(bench)) == [1, 2]


async def test_what_was_read_does_not_change_when_more_is_published(bench):
    await publish_many(bench, 10)
    page = await read(bench)
    await publish_many(bench, 10)
    assert messages(page) == list(range(1, 11))


# Redis forgets by its own clock, which cannot be wound.
@pytest.mark.parametrize("kind", IN_PROCESS, indirect=True)
async def test_rooms_that_nobody_uses_any_more_are_forgotten(bench):
    epochs = {(await bench.publish(f"passing/{number}", "hello", HISTORY)).epoch for number in range(100)}
    bench.now += 3601
    for _ in range(100):
        await bench.publish("room", "hello", HISTORY)
    for number in range(100):
        top = (await bench.broker.read(f"passing/{number}", HISTORY, limit=1)).top
        assert (top.offset, top.epoch in epochs) == (0, False)


async def test_a_room_with_members_keeps_its_numbers_however_long_it_is_silent(bench):
    await bench.broker.subscribe("room")
    last = (await publish_many(bench, 3))[-1]
    bench.now += 10_000_000
    await bench.publish("elsewhere", "hello", HISTORY)
    assert (await read(bench)).top == last


async def test_keys_are_forgotten_with_what_was_published_under_them_but_not_before_five_minutes(bench):
    await bench.publish("room", "first", HISTORY, key="first")
    await publish_many(bench, HISTORY.size)
    assert (await bench.publish("room", "again", HISTORY, key="first")).offset == 1
    bench.now += 301
    assert (await bench.publish("room", "again", HISTORY, key="first")).offset == HISTORY.size + 2
    bench.now += 3000
    assert (await bench.publish("room", "again", HISTORY, key="first")).offset == HISTORY.size + 2
