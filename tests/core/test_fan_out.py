"""What a room passes on: once, in order, encoded once, and never with a silent hole."""

from __future__ import annotations

import json

from tests.core.fakes import House, run
from yamabiko.brokers.memory import MemoryBroker
from yamabiko.codecs.plain import PlainCodec
from yamabiko.core.frames import Frame
from yamabiko.core.messages import Event, History, Position, Publication


class CountingCodec(PlainCodec):
    def __init__(self) -> None:
        self.encoded: list[Event] = []

    def encode(self, event: Event, room: str = "") -> Frame:
        self.encoded.append(event)
        return super().encode(event)


def epoch_of(house: House) -> str:
    page = run(MemoryBroker.read(house.broker, "room", History(size=1), limit=0))
    return page.top.epoch


def deliver(house: House, offset: int, *, epoch: str = "") -> None:
    """Have the bus deliver a publication, whatever the broker has numbered."""
    position = Position(epoch or epoch_of(house), offset)
    house.node.hub.deliver("room", Publication(json.dumps(offset).encode(), position))


def test_a_publication_is_encoded_once_per_codec_and_shared_by_a_thousand_members(house):
    codecs = [CountingCodec(), CountingCodec()]
    members = [house.member(codec=codecs[number % 2]) for number in range(1000)]
    house.publish("hello")
    assert [len(codec.encoded) for codec in codecs] == [1, 1]
    assert all(member.messages == ["hello"] for member in members)
    assert len({id(member.transport.frames[0]) for member in members}) == 2


def test_a_codec_that_nobody_listens_with_any_more_is_not_used(house):
    codec = CountingCodec()
    house.member()
    house.member(codec=codec).connection.closed()
    house.publish("hello")
    assert codec.encoded == []


def test_the_publisher_gets_its_own_copy_the_same_way_as_everybody(house):
    publisher, other = house.member(), house.member()
    publisher.says("hello")
    assert publisher.received == other.received
    assert publisher.messages == ["hello"]


def test_rooms_do_not_hear_each_other(house):
    member = house.member()
    house.publish("elsewhere", "passing")
    assert member.messages == []


def test_a_publication_for_a_room_without_members_here_is_dropped(house):
    house.node.hub.deliver("nobody", Publication(b"1"))


def test_a_duplicate_from_the_bus_is_dropped(house):
    member = house.member()
    for offset in (1, 2, 2, 1, 3):
        deliver(house, offset)
    assert member.messages == [1, 2, 3]


def test_a_room_without_history_passes_everything_on(house):
    member = house.member("passing")
    house.publish_many(["one", "one"], "passing")
    assert member.received == [{"payload": {"type": "send_message", "message": "one"}}] * 2


def test_a_broker_that_keeps_no_history_makes_every_room_one_without(house):
    house.broker.keeps_history = False
    member = house.member(history=5)
    assert house.publish("hello") is None
    assert member.errors == [108]
    assert member.received[1] == {"payload": {"type": "send_message", "message": "hello"}}


def test_a_room_that_has_members_keeps_the_rules_it_began_with(house):
    member = house.member()
    house.application.rooms["room"] = type(house.rules)(history=History(size=1), is_open=False)
    assert house.member().connection.is_open
    assert member.connection.membership.room.rules is house.rules
