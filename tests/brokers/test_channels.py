"""Channels as the carrier: old code on the same layer, unlucky layers, and what a layer may say that is no message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.exceptions

from tests.brokers.witness import Witness
from tests.contract.broker_kinds import Bench, FragileLayer, channels_in_memory
from yamabiko.brokers import channels
from yamabiko.brokers.channels import ChannelsBroker
from yamabiko.core.errors import PublishFailed

ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with channels_in_memory() as bench:
        await bench.broker.subscribe("room")
        yield bench


@pytest.fixture
def layer(bench: Bench) -> FragileLayer:
    return bench.broker._layer


@pytest.mark.parametrize(
    "event",
    [
        {"type": "send_message", "message": "hello"},
        {"message": "hello"},
        {"type": "chat.message", "message": "hello", "sender": "x"},
        {"type": "send_message", "message": "hello", "user": 7},
        {"type": "send_message", "message": "hello", "extras": 7},
        {"type": "send_message", "message": "hello", "extras": {}},
    ],
)
async def test_group_send_from_old_code_reaches_the_room(bench, layer, event):
    await layer.group_send("room", event)
    assert await bench.heard(1) == ["hello"]
    publication = bench.delivered[0][1]
    assert (publication.user, publication.extras) == ("", b"")


async def test_a_publication_reaches_old_consumers_as_the_event_they_know(bench, layer):
    consumer = await layer.new_channel()
    await layer.group_add("room", consumer)
    await bench.publish("room", {"a": 1}, user="alice")
    await bench.publish("room", "hello")
    await bench.publish("room", "hello", extras=b'{"tags":{"a":"1"}}')
    assert await layer.receive(consumer) == {
        "type": "send_message",
        "message": {"a": 1},
        "room": "room",
        "user": "alice",
    }
    event = {"type": "send_message", "message": "hello", "room": "room"}
    assert await layer.receive(consumer) == event
    assert await layer.receive(consumer) == event | {"extras": {"tags": {"a": "1"}}}


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"type": "send_message"},
        {"type": "websocket.close", "code": 1000},
        {"message": object},
        {"message": float("nan")},
        {"message": {("a", "b"): 1}},
        {"message": "\ud800"},
        {"message": ENDLESS},
    ],
    ids=["nothing", "no message", "another event", "a class", "NaN", "a tuple as key", "a surrogate", "endless"],
)
async def test_an_event_that_is_no_publication_is_logged_and_the_feed_lives_on(bench, layer, event, caplog):
    await layer.group_send("room", event)
    await bench.publish("room", "hello")
    assert await bench.heard(1) == ["hello"]
    assert "a message in group room is no publication" in caplog.text


async def test_another_process_on_the_layer_hears_what_is_published_here(bench):
    other = bench.another()
    await other.subscribe("elsewhere")
    await bench.publish("elsewhere", "hello")
    assert await bench.heard(1) == ["hello"]
    await other.close()


async def test_a_layer_that_cannot_be_heard_is_logged_and_heard_again(bench, layer, monkeypatch, caplog):
    monkeypatch.setattr(channels, "AGAIN_SECONDS", 0)
    receive, failures = layer.receive, iter([ConnectionError("as asked")])

    async def fail_once(channel: str) -> dict[str, Any]:
        for failure in failures:
            raise failure
        return await receive(channel)

    monkeypatch.setattr(layer, "receive", fail_once)
    await bench.broker.subscribe("other")
    await bench.publish("other", "hello")
    assert await bench.heard(1) == ["hello"]
    assert "messages may be lost" in caplog.text


async def test_a_layer_that_gives_up_waiting_for_a_message_is_asked_again_at_once_and_silently(
    bench, layer, monkeypatch, caplog
):
    """Clients of Redis answer a long silence in this way; nothing is lost by it."""
    monkeypatch.setattr(channels, "AGAIN_SECONDS", 3600)
    receive, silences = layer.receive, iter([TimeoutError("network"), redis.exceptions.TimeoutError("network")])

    async def wait_in_vain_at_first(channel: str) -> dict[str, Any]:
        for silence in silences:
            raise silence
        return await receive(channel)

    monkeypatch.setattr(layer, "receive", wait_in_vain_at_first)
    await bench.broker.subscribe("other")
    await bench.publish("other", "hello")
    assert await bench.heard(1) == ["hello"]
    assert caplog.text == ""


async def test_a_subscription_ends_though_the_layer_turns_its_cancellation_into_another_error(
    bench, layer, monkeypatch
):
    """The layer of channels_redis does so now and then; whoever joins next must not wait for ever."""
    monkeypatch.setattr(channels, "AGAIN_SECONDS", 0)
    receive, is_listening = layer.receive, asyncio.Event()

    async def swallow_one_cancellation(channel: str) -> dict[str, Any]:
        if is_listening.is_set():
            return await receive(channel)
        is_listening.set()
        try:
            return await receive(channel)
        except asyncio.CancelledError:
            raise ConnectionError("as asked") from None

    monkeypatch.setattr(layer, "receive", swallow_one_cancellation)
    await bench.broker.subscribe("other")
    await is_listening.wait()
    async with asyncio.timeout(2):
        await bench.broker.unsubscribe("other")
        await bench.broker.subscribe("other")


async def test_memberships_that_the_layer_forgets_are_renewed(bench, layer, monkeypatch):
    monkeypatch.setattr(channels, "REJOIN_SECONDS", 0.01)
    await bench.broker.subscribe("other")
    layer.groups.clear()
    layer.was_joined.clear()
    async with asyncio.timeout(5):
        await layer.was_joined.wait()
    await bench.publish("other", "hello")
    assert await bench.heard(1) == ["hello"]


async def test_a_membership_that_cannot_be_renewed_after_a_break_is_tried_again(bench, layer, monkeypatch):
    monkeypatch.setattr(channels, "AGAIN_SECONDS", 0.01)
    receive, breaks = layer.receive, iter([ConnectionError("as asked")])

    async def break_once(channel: str) -> dict[str, Any]:
        for failure in breaks:
            layer.groups.clear()
            layer.refusals = 1
            raise failure
        return await receive(channel)

    monkeypatch.setattr(layer, "receive", break_once)
    await bench.broker.subscribe("other")
    layer.was_joined.clear()
    async with asyncio.timeout(2):
        await layer.was_joined.wait()
    await bench.publish("other", "hello")
    assert await bench.heard(1) == ["hello"]


async def test_a_foreign_message_to_all_nodes_is_logged_and_the_next_one_is_heard(bench, layer, caplog):
    await bench.broker.listen()
    await layer.group_send(channels.NODES_GROUP, {"type": "hello"})
    await bench.broker.tell_nodes(b"hello")
    await bench.witness.until(lambda: bench.witness.messages == [b"hello"])
    assert f"a message of group {channels.NODES_GROUP} could not be delivered" in caplog.text


async def test_a_broker_that_could_not_begin_to_listen_ends(layer, monkeypatch):
    monkeypatch.setattr(channels, "AGAIN_SECONDS", 0)
    layer.cut()
    broker = ChannelsBroker(layer, str)
    await broker.listen()
    before = asyncio.all_tasks()
    await broker.close()
    assert len(before) - len(asyncio.all_tasks()) == 1
    layer.mend()


class SlowLayer(FragileLayer):
    """Takes a message when it is let, or never."""

    def __init__(self) -> None:
        super().__init__()
        self.was_asked = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        self.was_asked.set()
        await self.may_answer.wait()
        await super().group_send(group, message)


@pytest.fixture
async def slow() -> AsyncIterator[tuple[ChannelsBroker, SlowLayer]]:
    layer = SlowLayer()
    broker = ChannelsBroker(layer, str)
    broker.start(Witness())
    yield broker, layer
    await broker.close()


async def test_a_layer_that_does_not_answer_fails_the_publish_in_bounded_time(slow, monkeypatch):
    monkeypatch.setattr(channels, "ANSWER_SECONDS", 0.01)
    with pytest.raises(PublishFailed, match="TimeoutError"):
        await slow[0].publish("room", b"1", history=None)


async def test_a_repeated_publish_is_not_called_accepted_while_the_first_may_still_fail(slow):
    broker, layer = slow
    first = asyncio.create_task(broker.publish("room", b"1", history=None, key="k"))
    await layer.was_asked.wait()
    second = asyncio.create_task(broker.publish("room", b"1", history=None, key="k"))
    layer.cut()
    layer.may_answer.set()
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(result) for result in results] == [PublishFailed, PublishFailed]


async def test_a_publish_that_was_cancelled_may_be_tried_again_under_its_key(slow):
    broker, layer = slow
    consumer = await layer.new_channel()
    await layer.group_add("room", consumer)
    first = asyncio.create_task(broker.publish("room", b"1", history=None, key="k"))
    await layer.was_asked.wait()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    layer.may_answer.set()
    await broker.publish("room", b"1", history=None, key="k")
    assert (await layer.receive(consumer))["message"] == 1


async def test_a_layer_that_refuses_every_message_fills_no_log(caplog: pytest.LogCaptureFixture):
    layer = FragileLayer()
    layer.cut()
    now = 1000.0
    broker = ChannelsBroker(layer, str, lambda: now)
    broker.start(Witness())
    for _ in range(5):
        with pytest.raises(PublishFailed):
            await broker.publish("room", b"1", history=None)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    now += channels.COMPLAINT_SECONDS
    with pytest.raises(PublishFailed):
        await broker.publish("room", b"1", history=None)
    assert len(caplog.records) == 2
