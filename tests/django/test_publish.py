"""publish() and apublish() from wherever a project can call them, with and without members elsewhere."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models.signals import post_save
from django.test import Client, TestCase, override_settings

from tests.django.conftest import LiveSite
from tests.django.peers import PATIENCE_SECONDS, Peer, socket_scope
from tests.site.asgi import application
from yamabiko import Position, PublishFailed, YamabikoError
from yamabiko.core.errors import UnknownRoom
from yamabiko.core.messages import History
from yamabiko.django import service as service_module
from yamabiko.django.publish import apublish, publish
from yamabiko.django.rooms import registry
from yamabiko.django.service import service

NOT_JSON = [object(), float("nan"), [float("inf")], "\ud800", 1j]


def test_without_a_server_a_publication_is_numbered() -> None:
    first, second = publish("kept/a", "hello"), publish("kept/a", {"any": ["thing", 1, None]})
    assert isinstance(first, Position)
    assert second == Position(first.epoch, 2)


def test_without_history_there_is_no_position() -> None:
    assert publish("open/a", "hello") is None


async def test_apublish_returns_the_position_too() -> None:
    position = await apublish("kept/a", "hello")
    assert position is not None
    assert position.offset == 1


def test_what_was_published_before_anyone_came_is_history(live_site: LiveSite) -> None:
    publish("kept/a", "early")
    member = live_site.run(Peer(application, socket_scope("/rooms/kept/a/", query_string=b"history=1")).join())
    assert live_site.hear(member) == "early"


def test_a_publication_has_no_user(live_site: LiveSite) -> None:
    member = live_site.member("open/a")
    publish("open/a", "hello")
    assert live_site.run(member.hear()) == {"payload": {"type": "send_message", "message": "hello"}}


@pytest.mark.parametrize("message", NOT_JSON)
async def test_what_json_cannot_hold_is_refused_where_it_is_published(message: Any) -> None:
    with pytest.raises(TypeError, match="a message must be something JSON can hold, not "):
        await sync_to_async(publish)("open/a", message)
    with pytest.raises(TypeError, match="a message must be something JSON can hold, not "):
        await apublish("open/a", message)


@pytest.mark.parametrize("room", ["nobody/has/this", "", "open/a\n", "a" * 256])
async def test_an_unknown_room_is_told_where_it_is_published(room: str) -> None:
    with pytest.raises(UnknownRoom):
        await sync_to_async(publish)(room, "hello")
    with pytest.raises(UnknownRoom):
        await apublish(room, "hello")


def test_no_room_class_is_asked_for_leave(live_site: LiveSite) -> None:
    member = live_site.member("quiet/a")
    publish("quiet/a", "from the house")
    assert live_site.hear(member) == "from the house"


async def test_publish_on_an_event_loop_says_what_to_use() -> None:
    with pytest.raises(YamabikoError, match=r"use: await yamabiko\.apublish\(\.\.\.\)"):
        publish("open/a", "hello")


def test_a_message_is_taken_as_it_is_at_the_call(live_site: LiveSite) -> None:
    member, message = live_site.member("open/a"), ["before"]
    publish("open/a", message)
    message[0] = "after"
    assert live_site.hear(member) == ["before"]


def test_a_plain_thread_reaches_members_on_the_servers_loop(live_site: LiveSite) -> None:
    member = live_site.member("open/a")
    with ThreadPoolExecutor(1) as threads:
        threads.submit(publish, "open/a", "from a thread").result(PATIENCE_SECONDS)
    assert live_site.hear(member) == "from a thread"


def test_many_threads_publish_in_one_order(live_site: LiveSite) -> None:
    members = [live_site.member("kept/a") for _ in range(2)]
    with ThreadPoolExecutor(4) as threads:
        positions = list(threads.map(lambda number: publish("kept/a", number), range(40)))
    heard = [[live_site.hear(member) for _ in range(40)] for member in members]
    by_offset = sorted((position.offset, number) for number, position in enumerate(positions) if position)
    assert heard[0] == heard[1] == [number for _, number in by_offset]
    assert [offset for offset, _ in by_offset] == list(range(1, 41))


async def test_another_event_loop_reaches_members_on_the_servers_loop(live_site: LiveSite) -> None:
    member = await asyncio.to_thread(live_site.member, "kept/a")
    position = await apublish("kept/a", "from another loop")
    assert await asyncio.to_thread(live_site.hear, member) == "from another loop"
    assert position is not None


async def get(url: str) -> int:
    path, _, query = url.partition("?")
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": query.encode(),
        "headers": [(b"host", b"testserver")],
    }
    browser = ApplicationCommunicator(application, scope)
    await browser.send_input({"type": "http.request", "body": b""})
    start = await browser.receive_output(PATIENCE_SECONDS)
    await browser.wait(PATIENCE_SECONDS)
    return int(start["status"])


@pytest.mark.parametrize("view", ["say", "asay"])
def test_views_of_the_same_server_reach_members(live_site: LiveSite, view: str) -> None:
    member = live_site.member("open/a")
    assert live_site.run(get(f"/{view}/open/a/?message=from+a+view")) == 200
    assert live_site.hear(member) == "from a view"


@pytest.mark.parametrize("view", ["say", "asay"])
def test_views_in_another_thread_reach_members(live_site: LiveSite, view: str) -> None:
    member = live_site.member("open/a")
    assert Client().get(f"/{view}/open/a/", {"message": "from a view"}).status_code == 200
    assert live_site.hear(member) == "from a view"


def test_when_the_servers_loop_has_ended_publishing_goes_on() -> None:
    site = LiveSite()
    site.start()
    site.member("kept/a")
    site.stop()
    assert publish("kept/a", "afterwards") is not None


@pytest.mark.django_db(transaction=True)
class TestTransactions:
    """A publication is part of the transaction it is made in."""

    @pytest.fixture
    def member(self, live_site: LiveSite) -> Peer:
        return live_site.member("open/a")

    def test_nothing_is_seen_before_the_commit(self, live_site: LiveSite, member: Peer) -> None:
        with transaction.atomic():
            assert publish("open/a", "inside") is None
            live_site.run(apublish("open/a", "meanwhile"))
            assert live_site.hear(member) == "meanwhile"
        assert live_site.hear(member) == "inside"

    def test_the_order_of_the_transaction_is_kept(self, live_site: LiveSite, member: Peer) -> None:
        with transaction.atomic():
            for number in range(5):
                publish("open/a", number)
        assert [live_site.hear(member) for _ in range(5)] == [0, 1, 2, 3, 4]

    def test_what_is_rolled_back_is_never_seen(self, live_site: LiveSite, member: Peer) -> None:
        with pytest.raises(ZeroDivisionError):
            roll_back(lambda: publish("open/a", "rolled back"))
        publish("open/a", "after")
        assert live_site.hear(member) == "after"

    def test_a_savepoint_takes_its_publications_with_it(self, live_site: LiveSite, member: Peer) -> None:
        with transaction.atomic():
            publish("open/a", "outer")
            with pytest.raises(ZeroDivisionError):
                roll_back(lambda: publish("open/a", "rolled back"))
            with transaction.atomic():
                publish("open/a", "inner")
            live_site.run(apublish("open/a", "meanwhile"))
        assert [live_site.hear(member) for _ in range(3)] == ["meanwhile", "outer", "inner"]

    def test_a_transaction_in_another_thread_is_none_of_ours(self, live_site: LiveSite, member: Peer) -> None:
        with transaction.atomic(), ThreadPoolExecutor(1) as threads:
            threads.submit(publish, "open/a", "at once").result(PATIENCE_SECONDS)
            assert live_site.hear(member) == "at once"

    def test_a_signal_receiver_publishes_what_was_committed(self, live_site: LiveSite, member: Peer) -> None:
        with receiver_of_groups(lambda group: publish("open/a", group.name)):
            with pytest.raises(ZeroDivisionError):
                roll_back(lambda: Group.objects.create(name="rolled back"))
            with transaction.atomic():
                Group.objects.create(name="inside")
            Group.objects.create(name="alone")
        assert [live_site.hear(member) for _ in range(2)] == ["inside", "alone"]

    def test_mistakes_are_told_at_the_call_and_not_at_the_commit(self) -> None:
        with transaction.atomic():
            with pytest.raises(UnknownRoom):
                publish("nobody/has/this", "hello")
            with pytest.raises(TypeError):
                publish("open/a", object())

    def test_a_message_is_taken_as_it_is_at_the_call(self, live_site: LiveSite, member: Peer) -> None:
        with transaction.atomic():
            message = ["before"]
            publish("open/a", message)
            message[0] = "after"
        assert live_site.hear(member) == ["before"]

    def test_a_broker_that_fails_at_the_commit_does_not_stop_the_other_callbacks(
        self, live_site: LiveSite, member: Peer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The transaction is committed; an error now would tell the caller that it is not."""

        async def fail(*_: Any, **__: Any) -> None:
            raise PublishFailed("as asked")

        called = []
        monkeypatch.setattr(service().node.broker, "publish", fail)
        with transaction.atomic():
            publish("open/a", "lost")
            transaction.on_commit(lambda: called.append("other"))
        assert called == ["other"]
        assert "as asked" in caplog.text


def roll_back(work: Callable[[], Any]) -> None:
    with transaction.atomic():
        work()
        raise ZeroDivisionError


@contextmanager
def receiver_of_groups(receive: Callable[[Group], Any]) -> Iterator[None]:
    def on_save(instance: Group, **_: Any) -> None:
        receive(instance)

    post_save.connect(on_save, sender=Group)
    yield
    post_save.disconnect(on_save, sender=Group)


class PublishingInTestCase(TestCase):
    """Django's own TestCase, whose transaction never commits."""

    def test_callbacks_of_the_commit_hold_the_publications(self) -> None:
        with self.captureOnCommitCallbacks() as callbacks:
            assert publish("kept/case", "hello") is None
        assert len(callbacks) == 1
        callbacks[0]()
        assert kept("kept/case") == [b'"hello"']

    def test_executed_callbacks_publish(self) -> None:
        with self.captureOnCommitCallbacks(execute=True), transaction.atomic():
            publish("kept/case", "one")
            publish("kept/case", "two")
            assert kept("kept/case") == []
        assert kept("kept/case") == [b'"one"', b'"two"']

    def test_without_them_nothing_is_published(self) -> None:
        publish("kept/case", "never")
        assert kept("kept/case") == []


def kept(room: str) -> list[bytes]:
    stream = asyncio.run(service().node.broker.read(room, History(size=100), limit=100))
    return [publication.data for publication in stream.publications]


def test_a_broker_that_refuses_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise PublishFailed("as asked")

    monkeypatch.setattr(service().node.broker, "publish", fail)
    with pytest.raises(PublishFailed, match="as asked"):
        publish("open/a", "hello")


def test_threads_that_come_first_at_once_have_one_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two would be two sets of members: what one publishes, the other's never hear."""
    both_are_here = threading.Barrier(2, timeout=1)
    make_broker = service_module.make_broker

    def make_slowly() -> Any:
        with suppress(threading.BrokenBarrierError):  # the other one is kept waiting, as it should be
            both_are_here.wait()
        return make_broker()

    monkeypatch.setattr(service_module, "make_broker", make_slowly)
    with ThreadPoolExecutor(2) as threads:
        first, second = (threads.submit(service) for _ in range(2))
    assert first.result() is second.result()


@pytest.fixture
def _over_channels() -> Iterator[None]:
    layer = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    with override_settings(YAMABIKO={"BROKER": "channels://default"}, CHANNEL_LAYERS={"default": layer}):
        yield


@pytest.mark.usefixtures("_over_channels")
class TestChannels:
    async def test_the_layer_carries_publications(self) -> None:
        peer = await Peer(application, socket_scope("/rooms/kept/a/")).join()
        assert type(service().node.broker).__name__ == "ChannelsBroker"
        assert await apublish("kept/a", {"any": "thing"}) is None
        assert await peer.hear() == {"payload": {"type": "send_message", "message": {"any": "thing"}}}
        await peer.leave()
        await service().close()

    async def test_whoever_sends_to_the_group_is_heard(self) -> None:
        from channels.layers import get_channel_layer

        peer = await Peer(application, socket_scope("/rooms/room7/")).join()
        await get_channel_layer().group_send(
            registry.room("room7").group, {"type": "send_message", "message": "from a consumer"}
        )
        assert await peer.hear_message() == "from a consumer"
        await peer.leave()
        await service().close()

    def test_publish_reaches_members_on_the_servers_loop(self, live_site: LiveSite) -> None:
        member = live_site.member("open/a")
        assert publish("open/a", "hello") is None
        assert live_site.hear(member) == "hello"
        live_site.run(member.leave())
        live_site.run(service().close())

    def test_without_a_server_publish_sends_to_the_layer(self) -> None:
        assert publish("kept/a", "hello") is None


def test_a_message_that_members_could_not_keep_up_with_is_refused_and_says_so() -> None:
    with pytest.raises(PublishFailed, match="larger than half of MAX_BACKLOG_BYTES"):
        publish("open/a", "x" * 600_000)
