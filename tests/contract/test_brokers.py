"""What every broker keeps to, and what those that carry messages over a Channels layer do not promise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import pytest
from channels_redis.core import RedisChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer

from tests.contract.broker_kinds import ON_REDIS, Bench, channels_in_memory, channels_on_redis, memory, sqlite
from tests.redis_server import redis_cluster as redis_cluster
from tests.redis_server import redis_server as redis_server
from tests.redis_server import watched_redis as watched_redis
from yamabiko.brokers import channels
from yamabiko.brokers.redis import feed
from yamabiko.core.errors import NotAvailable, PublishFailed
from yamabiko.core.messages import History, Position

KINDS = [
    "memory",
    "sqlite",
    "channels in memory",
    pytest.param("channels on Redis", marks=pytest.mark.redis),
    pytest.param("channels on Redis pub/sub", marks=pytest.mark.redis),
    *(pytest.param(kind, marks=pytest.mark.redis) for kind in ON_REDIS),
]
HISTORY = History(size=100, ttl=timedelta(hours=1))


@pytest.fixture
async def bench(kind: AbstractAsyncContextManager[Bench], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(channels, "AGAIN_SECONDS", 0.01)
    async with kind as bench:
        yield bench


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest):
    """Start the servers that a kind needs before there is a loop that waiting for them would hold up."""
    if request.param == "memory":
        return memory()
    if request.param == "sqlite":
        return sqlite()
    if request.param == "channels in memory":
        return channels_in_memory()
    if request.param in ON_REDIS:
        kind, servers = ON_REDIS[request.param]
        return kind(request.getfixturevalue(servers))
    layer_class = RedisChannelLayer if request.param == "channels on Redis" else RedisPubSubChannelLayer
    return channels_on_redis(layer_class, request.getfixturevalue("redis_server"))


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up on a layer soon, and renew memberships often: a client of Redis may hide that its server restarted."""
    monkeypatch.setattr(channels, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(channels, "REJOIN_SECONDS", 0.05)


async def test_a_rooms_publications_are_delivered_in_order(bench):
    await bench.broker.subscribe("room")
    for number in range(50):
        await bench.publish("room", number)
    assert await bench.heard(50) == list(range(50))


async def test_publications_begun_at_once_are_all_delivered(bench):
    await bench.broker.subscribe("room")
    await asyncio.gather(*(bench.publish("room", number) for number in range(50)))
    assert sorted(await bench.heard(50)) == list(range(50))


@pytest.mark.parametrize("message", ["hello", 42, -0.5, 2**53, None, True, [], {"a": [1, {"b": None}]}, "山彦 😀\n"])
async def test_any_json_value_arrives_as_it_was_sent_with_its_publisher(bench, message):
    await bench.broker.subscribe("room")
    await bench.publish("room", message, user="alice")
    assert await bench.heard(1) == [message]
    assert bench.delivered[0][1].user == "alice"


EXTRAS = b'{"info":{"user":"7","client":"c"},"tags":{"a":"\xe5\xb1\xb1\xe5\xbd\xa6, 1"}}'


@pytest.mark.parametrize("user", ["", "alice", "山彦"])
@pytest.mark.parametrize("history", [None, HISTORY], ids=["without history", "with history"])
async def test_extras_arrive_as_they_were_sent(bench, user, history):
    await bench.broker.subscribe("room")
    await bench.publish("room", "hello", history, user=user, extras=EXTRAS)
    await bench.publish("room", "none", history, user=user)
    assert await bench.heard(2) == ["hello", "none"]
    assert [(publication.extras, publication.user) for _, publication in bench.delivered] == [
        (EXTRAS, user),
        (b"", user),
    ]


async def test_a_publication_with_extras_is_published_once_under_a_key(bench):
    await bench.broker.subscribe("room")
    for _ in range(2):
        await bench.publish("room", "hello", HISTORY, extras=EXTRAS, key="k")
    await bench.publish("room", "end", HISTORY)
    assert await bench.heard(2) == ["hello", "end"]
    assert bench.delivered[0][1].extras == EXTRAS


async def test_rooms_are_told_apart(bench):
    await bench.broker.subscribe("one")
    await bench.broker.subscribe("two")
    await bench.publish("one", "for one")
    await bench.publish("two", "for two")
    await bench.heard(2)
    assert (bench.in_room("one"), bench.in_room("two")) == (["for one"], ["for two"])


async def test_a_room_that_was_subscribed_twice_hears_everything_once(bench):
    await bench.broker.subscribe("room")
    await bench.broker.subscribe("room")
    await bench.publish("room", "one")
    await bench.publish("room", "two")
    assert await bench.heard(2) == ["one", "two"]


async def test_nothing_is_delivered_before_a_subscription_nor_after_its_end(bench):
    await bench.publish("room", "before")
    await bench.broker.subscribe("room")
    await bench.publish("room", "during")
    await bench.heard(1)
    await bench.broker.unsubscribe("room")
    await bench.publish("room", "after")
    await bench.broker.subscribe("room")
    await bench.publish("room", "again")
    assert await bench.heard(2) == ["during", "again"]


async def test_the_end_of_a_subscription_that_never_was_does_no_harm(bench):
    await bench.broker.unsubscribe("room")
    await bench.broker.subscribe("room")
    await bench.publish("room", "hello")
    assert await bench.heard(1) == ["hello"]


@pytest.mark.parametrize("calls", ["us", "sus", "suus", "ususus"])
async def test_overlapping_calls_that_end_in_a_subscription_leave_one(bench, calls):
    await overlap(bench, calls)
    await bench.publish("room", "one")
    await bench.publish("room", "two")
    assert await bench.heard(2) == ["one", "two"]


@pytest.mark.parametrize("calls", ["su", "ssu", "usu", "sususu"])
async def test_overlapping_calls_that_end_without_a_subscription_leave_none(bench, calls):
    await overlap(bench, calls)
    await bench.publish("room", "to nobody")
    await bench.broker.subscribe("room")
    await bench.publish("room", "hello")
    assert await bench.heard(1) == ["hello"]


async def overlap(bench: Bench, calls: str) -> None:
    verbs = {"s": bench.broker.subscribe, "u": bench.broker.unsubscribe}
    await asyncio.gather(*(verbs[call]("room") for call in calls))


async def test_a_key_publishes_once_and_returns_the_same_position(bench):
    await bench.broker.subscribe("room")
    first = await bench.publish("room", "hello", HISTORY, key="k")
    second = await bench.publish("room", "hello", HISTORY, key="k")
    await bench.publish("room", "end", HISTORY)
    assert await bench.heard(2) == ["hello", "end"]
    assert first == second
    assert (first is not None) == bench.keeps_history


async def test_a_key_publishes_once_even_by_two_at_once(bench):
    await bench.broker.subscribe("room")
    positions = await asyncio.gather(*(bench.publish("room", "hello", HISTORY, key="k") for _ in range(5)))
    await bench.publish("room", "end")
    assert await bench.heard(2) == ["hello", "end"]
    assert len(set(positions)) == 1


async def test_a_key_belongs_to_one_room(bench):
    await bench.broker.subscribe("one")
    await bench.broker.subscribe("two")
    await bench.publish("one", "hello", key="k")
    await bench.publish("two", "hello", key="k")
    await bench.heard(2)
    assert {room for room, _ in bench.delivered} == {"one", "two"}


@pytest.mark.parametrize("history", [None, History(size=1, ttl=timedelta(seconds=1))])
async def test_a_key_is_remembered_for_five_minutes_at_least(bench, history):
    await bench.broker.subscribe("room")
    await bench.publish("room", "hello", history, key="k")
    bench.now += 299
    await bench.publish("room", "hello", history, key="k")
    bench.now += 2
    await bench.publish("room", "later", history, key="k")
    assert await bench.heard(2) == ["hello", "later"]


async def test_a_key_is_remembered_as_long_as_the_history_where_there_is_one(bench):
    await bench.broker.subscribe("room")
    await bench.publish("room", "hello", HISTORY, key="k")
    bench.now += 3599
    await bench.publish("room", "later", HISTORY, key="k")
    await bench.publish("room", "end", HISTORY)
    expected = ["hello", "end"] if bench.keeps_history else ["hello", "later", "end"]
    assert await bench.heard(len(expected)) == expected


async def test_history_is_kept_or_said_to_be_missing(bench):
    assert bench.broker.keeps_history is bench.keeps_history
    position = await bench.publish("room", "hello", HISTORY)
    if bench.keeps_history:
        assert position is not None
        assert (await bench.broker.read("room", HISTORY, limit=1)).top == position
    else:
        assert position is None
        with pytest.raises(NotAvailable, match="no history"):
            await bench.broker.read("room", HISTORY, limit=1)


async def test_a_publish_that_fails_says_so_and_publishes_nothing(bench, hurried):
    await bench.broker.subscribe("room")
    bench.break_down()
    if bench.can_fail:
        with pytest.raises(PublishFailed):
            await bench.publish("room", "lost", key="k")
    bench.mend()


async def test_a_publish_that_failed_may_be_tried_again_under_its_key(bench, hurried):
    bench.break_down()
    if bench.can_fail:
        with pytest.raises(PublishFailed):
            await bench.publish("room", "hello", key="k")
    bench.mend()
    await bench.broker.subscribe("room")
    await bench.publish("room", "hello", key="k")
    assert await bench.heard(1) == ["hello"]


async def test_a_subscription_that_fails_says_so_and_can_be_tried_again(bench, hurried):
    bench.break_down()
    if bench.can_fail:
        with pytest.raises(NotAvailable):
            await bench.broker.subscribe("room")
    bench.mend()
    await bench.broker.subscribe("room")
    await bench.publish("room", "hello")
    assert await bench.heard(1) == ["hello"]


async def test_a_subscription_outlives_a_restart_of_what_it_depends_on(hurried, bench):
    await bench.broker.subscribe("room")
    bench.break_down()
    if bench.can_fail:
        with pytest.raises(PublishFailed):
            await bench.publish("room", "lost")
    bench.mend()
    async with asyncio.timeout(10):
        while "back" not in bench.messages:
            await try_to_publish(bench, "back")
    assert set(bench.messages) == {"back"}


async def try_to_publish(bench: Bench, message: str) -> None:
    """Publish, and wait a moment for the delivery: a feed may still be on its way back."""
    try:
        await bench.publish("room", message)
        async with asyncio.timeout(0.05):
            await bench.heard(1)
    except (PublishFailed, TimeoutError):
        return


async def test_what_is_told_to_all_nodes_is_heard_by_those_who_listen_in_its_order(bench):
    await bench.broker.listen()
    messages = [b"", b"hello", b"+ + 1", b"e 1 0 1", b'{"a": "\xe5\xb1\xb1"}', bytes(range(256)), b"x" * 100_000]
    for message in messages:
        await bench.broker.tell_nodes(message)
    await bench.witness.until(lambda: len(bench.witness.messages) == len(messages))
    assert bench.witness.messages == messages
    assert bench.delivered == []


async def test_who_does_not_listen_can_tell_all_nodes_and_hears_nothing(bench):
    await bench.broker.tell_nodes(b"to nobody")
    await bench.broker.listen()
    await bench.broker.tell_nodes(b"hello")
    await bench.witness.until(lambda: bool(bench.witness.messages))
    assert bench.witness.messages == [b"hello"]


async def test_who_listens_twice_hears_everything_once(bench):
    await bench.broker.listen()
    await bench.broker.listen()
    await bench.broker.tell_nodes(b"one")
    await bench.broker.tell_nodes(b"two")
    await bench.witness.until(lambda: len(bench.witness.messages) >= 2)
    assert bench.witness.messages == [b"one", b"two"]


async def test_what_is_told_to_all_nodes_is_heard_by_other_processes(bench):
    if not bench.broker.is_shared:
        return
    others = [bench.another() for _ in range(2)]
    for broker in others:
        await broker.listen()
    await bench.broker.tell_nodes(b"hello")
    await bench.witness.until(lambda: len(bench.witness.messages) == 2)
    for broker in others:
        await broker.close()


async def test_what_cannot_be_told_to_all_nodes_says_so(bench, hurried):
    bench.break_down()
    if bench.can_fail:
        with pytest.raises(NotAvailable):
            await bench.broker.tell_nodes(b"lost")
    bench.mend()


@pytest.mark.parametrize("begins", ["before", "during"])
async def test_who_listens_does_so_through_trouble(bench, hurried, begins):
    if begins == "before":
        await bench.broker.listen()
    bench.break_down()
    if begins == "during":
        await bench.broker.listen()
    if bench.can_fail:
        with pytest.raises(NotAvailable):
            await bench.broker.tell_nodes(b"lost")
    bench.mend()
    async with asyncio.timeout(10):
        while b"back" not in bench.witness.messages:
            await try_to_tell_nodes(bench, b"back")
    assert set(bench.witness.messages) == {b"back"}


async def try_to_tell_nodes(bench: Bench, message: bytes) -> None:
    try:
        await bench.broker.tell_nodes(message)
        async with asyncio.timeout(0.05):
            await bench.witness.until(lambda: message in bench.witness.messages)
    except (NotAvailable, TimeoutError):
        return


async def test_after_a_close_nothing_is_heard_until_somebody_listens_again(bench):
    await bench.broker.listen()
    await bench.broker.close()
    await bench.broker.tell_nodes(b"to nobody")
    await bench.broker.listen()
    await bench.broker.tell_nodes(b"hello")
    await bench.witness.until(lambda: bool(bench.witness.messages))
    assert bench.witness.messages == [b"hello"]


async def test_close_leaves_no_tasks(bench):
    await bench.broker.listen()
    await bench.broker.subscribe("one")
    await bench.broker.subscribe("two")
    assert bool(own_tasks()) == bench.can_fail
    await bench.close()
    assert own_tasks() == []


async def test_close_in_the_middle_of_a_subscription_leaves_no_tasks(bench):
    subscribing = asyncio.create_task(bench.broker.subscribe("room"))
    await asyncio.sleep(0)
    await bench.close()
    await asyncio.gather(subscribing, return_exceptions=True)
    assert own_tasks() == []


def own_tasks() -> list[asyncio.Task[object]]:
    """Return the tasks that our code has begun; layers and clients of Redis keep some of their own."""
    ours = {channels.__file__, feed.__file__}
    return [task for task in asyncio.all_tasks() if task.get_coro().cr_code.co_filename in ours]


async def test_a_history_numbers_from_one_within_one_epoch(bench):
    positions = [await bench.publish("room", number, HISTORY) for number in range(3)]
    if not bench.keeps_history:
        assert positions == [None, None, None]
        return
    epoch = positions[0].epoch
    assert epoch
    assert positions == [Position(epoch, offset) for offset in (1, 2, 3)]


async def test_a_room_is_forgotten_where_it_is_kept_and_elsewhere_nothing_happens(bench):
    await bench.publish("room", "hello", HISTORY)
    await bench.broker.forget("room")
    if bench.keeps_history:
        assert (await bench.broker.read("room", HISTORY, limit=1)).publications == []


async def test_who_was_in_a_room_before_its_first_message_can_ask_for_it(bench):
    if not bench.keeps_history:
        return
    await bench.broker.subscribe("room")
    had = (await bench.broker.read("room", HISTORY, limit=0)).top
    await bench.broker.unsubscribe("room")
    await bench.publish("room", "hello", HISTORY)
    page = await bench.broker.read("room", HISTORY, since=had, limit=10)
    assert page.is_whole
    assert [each.data for each in page.publications] == [b'"hello"']


async def test_two_rooms_number_apart(bench):
    one = await bench.publish("one", "hello", HISTORY)
    two = await bench.publish("two", "hello", HISTORY)
    if bench.keeps_history:
        assert one.offset == two.offset == 1
        assert one.epoch != two.epoch
    else:
        assert one is two is None
