"""What the bus loses is read from history: members get it in order, once, or are told of a gap."""

from __future__ import annotations

import logging

import pytest

from tests.core.fakes import House, run
from yamabiko.brokers.memory import MemoryBroker
from yamabiko.core import mending
from yamabiko.core.errors import NotAvailable
from yamabiko.core.messages import History, Position, Publication, Stream, encode_message


def epoch_of(house: House) -> str:
    return run(MemoryBroker.read(house.broker, "room", History(size=1), limit=0)).top.epoch


def gap(epoch: str, offset: int) -> dict[str, object]:
    return {"gap": {"epoch": epoch, "offset": offset}}


def lose(house: House, *messages: object) -> None:
    """Publish messages that are kept, and that the bus never delivers."""
    house.broker.is_mute = True
    house.publish_many(list(messages))
    house.broker.lose()


def deliver(house: House, message: object, epoch: str, offset: int) -> None:
    house.node.hub.deliver("room", Publication(encode_message(message), Position(epoch, offset)))


def begin_anew(house: House) -> None:
    """Have the broker lose everything, and number in a new epoch from now on."""
    house.broker._streams.clear()


def test_what_the_bus_lost_comes_from_history_before_what_it_delivers_next(house):
    member = house.member()
    house.publish("one")
    lose(house, "two", "three")
    house.publish("four")
    assert member.messages == ["one"]
    house.runtime.turn()
    assert member.messages == ["one", "two", "three", "four"]
    house.publish("five")
    assert member.messages[-1] == "five"
    assert not any("gap" in frame for frame in member.received)


def test_what_comes_while_history_is_read_follows_in_order_and_once(house):
    member = house.member()
    house.publish("one")
    lose(house, "two")
    house.broker.gates["read"].shut()
    house.publish("three")
    house.runtime.turn()
    house.publish("four")
    house.broker.gates["read"].open()
    house.runtime.turn()
    assert member.messages == ["one", "two", "three", "four"]


def test_a_second_hole_while_history_is_read_is_mended_too(house):
    member = house.member()
    house.publish("one")
    lose(house, "two")
    house.broker.gates["read"].shut()
    house.publish("three")
    house.runtime.turn()
    lose(house, "four")
    house.publish("five")
    house.broker.gates["read"].open()
    house.runtime.turn()
    assert member.messages == ["one", "two", "three", "four", "five"]


def test_what_arrives_late_but_next_in_order_is_delivered_at_once(house):
    member = house.member()
    house.publish("one")
    house.broker.is_mute = True
    house.publish_many(["two", "three"])
    (room, two), (_, three) = house.broker.undelivered
    house.broker.lose()
    house.broker.gates["read"].shut()
    house.node.hub.deliver(room, three)
    house.runtime.turn()
    house.node.hub.deliver(room, two)
    assert member.messages == ["one", "two"]
    house.broker.gates["read"].open()
    house.runtime.turn()
    assert member.messages == ["one", "two", "three"]


def test_more_than_a_page_is_read_page_by_page(house):
    member = house.member()
    house.publish(0)
    lose(house, *range(1, 351))
    house.publish(351)
    house.runtime.turn()
    assert member.messages == list(range(352))


def test_what_history_no_longer_has_is_told_as_a_gap(house):
    house.rules.history = History(size=3)
    member = house.member()
    house.publish(1)
    lose(house, 2, 3, 4, 5)
    house.publish(6)
    house.runtime.turn()
    assert member.messages == [1, 4, 5, 6]
    assert member.received[1] == gap(epoch_of(house), 3)


def test_what_the_broker_never_had_is_told_as_a_gap(house):
    member = house.member()
    house.publish(1)
    deliver(house, 5, epoch_of(house), 5)
    house.runtime.turn()
    assert member.messages == [1, 5]
    assert member.received[1] == gap(epoch_of(house), 4)


def test_newcomers_and_members_are_told_alike(house):
    house.member()
    house.publish(1)
    house.broker.gates["read"].shut()
    newcomer = house.newcomer()
    deliver(house, 4, epoch_of(house), 4)
    house.broker.gates["read"].open()
    house.runtime.turn()
    newcomer.joining.finish()
    assert newcomer.received[0] == gap(epoch_of(house), 3)
    assert newcomer.messages == [4]


def test_a_new_epoch_is_told_as_a_gap_and_everything_in_it_follows(house):
    member = house.member()
    house.publish("old")
    begin_anew(house)
    lose(house, "first")
    house.publish("second")
    house.runtime.turn()
    assert member.messages == ["old", "first", "second"]
    assert member.received[1] == gap(epoch_of(house), 0)
    house.publish("third")
    assert member.messages[-1] == "third"


def test_a_new_epoch_in_which_nothing_is_lost_is_no_gap(house, monkeypatch: pytest.MonkeyPatch):
    """A broker may number anew and still know what it has kept: then its page is whole."""
    member = house.member()
    house.publish("one")
    two, three = (Publication(encode_message(word), Position("anew", n)) for n, word in ((2, "two"), (3, "three")))
    pages = {1: Stream([two, three], Position("anew", 3)), 4: Stream([], Position("anew", 4))}

    async def read(room: str, history: History, *, since: Position, limit: int) -> Stream:
        return pages[since.offset]

    monkeypatch.setattr(house.broker, "read", read)
    deliver(house, "three", "anew", 3)
    house.runtime.turn()
    deliver(house, "four", "anew", 4)
    house.broker.missed()
    house.runtime.turn()
    assert member.messages == ["one", "two", "three", "four"]
    assert not any("gap" in frame for frame in member.received)


def test_a_straggler_of_an_epoch_that_is_no_more_is_dropped(house):
    member = house.member()
    house.publish("old")
    old = epoch_of(house)
    begin_anew(house)
    house.publish("new")
    house.runtime.turn()
    deliver(house, "straggler", old, 7)
    house.runtime.turn()
    house.publish("newer")
    house.runtime.turn()
    assert member.messages == ["old", "new", "newer"]


def test_a_broker_that_says_something_was_missed_has_every_room_look(house):
    member = house.member()
    house.publish("one")
    lose(house, "two")
    house.broker.missed()
    house.runtime.turn()
    assert member.messages == ["one", "two"]


def test_where_nothing_was_missed_nothing_comes(house):
    member, passing = house.member(), house.member("passing")
    house.publish("one")
    house.broker.missed()
    house.runtime.turn()
    assert (member.messages, passing.messages) == (["one"], [])


def test_a_loss_of_everything_is_told_though_nothing_new_was_published(house):
    member = house.member()
    house.publish("one")
    begin_anew(house)
    house.broker.missed()
    house.runtime.turn()
    assert member.received[1:] == [gap(epoch_of(house), 0)]


def test_a_broker_that_cannot_be_read_is_asked_again_until_it_can(house, caplog: pytest.LogCaptureFixture):
    member = house.member()
    house.publish("one")
    lose(house, "two")
    house.broker.read_fails_with = NotAvailable("as asked")
    house.publish("three")
    house.runtime.turn()
    for _ in range(10):
        house.runtime.wind(mending.LONGEST_PAUSE_SECONDS)
    house.publish("four")
    assert member.messages == ["one"]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    house.broker.read_fails_with = None
    house.runtime.wind(mending.LONGEST_PAUSE_SECONDS)
    assert member.messages == ["one", "two", "three", "four"]


def test_a_mistake_of_the_broker_is_no_reason_to_stop_asking(house):
    member = house.member()
    house.publish("one")
    lose(house, "two")
    house.broker.read_fails_with = ZeroDivisionError("as asked")
    house.publish("three")
    house.runtime.turn()
    house.broker.read_fails_with = None
    house.runtime.wind(mending.LONGEST_PAUSE_SECONDS)
    assert member.messages == ["one", "two", "three"]


def test_a_room_that_everybody_left_is_not_mended(house):
    member = house.member()
    house.publish("one")
    lose(house, "two")
    house.broker.read_fails_with = NotAvailable("as asked")
    house.publish("three")
    house.runtime.turn()
    member.connection.closed()
    house.runtime.wind(mending.LONGEST_PAUSE_SECONDS)
    house.runtime.turn()
    assert house.is_empty


def test_what_is_held_meanwhile_is_bounded_and_read_again(house, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mending, "HELD_BYTES_AT_MOST", 500)
    member = house.member()
    house.publish(0)
    lose(house, 1)
    house.broker.gates["read"].shut()
    for number in range(2, 30):
        house.publish(number)
    house.runtime.turn()
    for number in range(30, 60):
        house.publish(number)
    house.broker.gates["read"].open()
    house.runtime.turn()
    assert member.messages == list(range(60))
    assert not any("gap" in frame for frame in member.received)


def test_who_has_read_further_than_the_bus_hears_nothing_twice_while_the_others_catch_up(house):
    member = house.member()
    house.publish("one")
    lose(house, "two")
    ahead = house.member(history=10)
    assert ahead.messages == ["one", "two"]
    house.publish("three")
    house.runtime.turn()
    assert member.messages == ["one", "two", "three"]
    assert ahead.messages == ["one", "two", "three"]
