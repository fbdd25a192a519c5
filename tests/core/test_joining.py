"""Joining without a hole: what is published at any moment of it arrives after what came before, once, in order."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.core.fakes import identity_of, run
from yamabiko.core.errors import (
    SERVER_ERROR,
    SLOW,
    AlreadyJoined,
    BadRequest,
    NotAvailable,
    PermissionDenied,
    Refused,
    Unauthorized,
    UnknownRoom,
)
from yamabiko.core.membership import BURST_BYTES, HELD_BYTES_AT_MOST
from yamabiko.core.messages import History, Join, Position

KILOBYTE = "x" * 1024


def numbered_kilobytes(count: int) -> list[str]:
    return [f"{number} {KILOBYTE}" for number in range(count)]


OVERRUN = numbered_kilobytes(HELD_BYTES_AT_MOST // 1024 + 50)


def test_nothing_is_sent_unasked_at_connect(house):
    house.publish("before")
    assert house.member().received == []


def test_a_member_gets_what_is_published_from_now_on(house):
    member = house.member()
    house.publish_many(["one", "two"])
    assert member.messages == ["one", "two"]


@pytest.mark.parametrize("gate", ["subscribe", "read"])
def test_publication_while_the_broker_is_asked_arrives_after_the_reply_once_and_in_order(house, gate):
    house.publish_many(["one", "two"])
    house.broker.gates[gate].shut()
    newcomer = house.newcomer(history=10)
    house.publish_many(["three", "four"])
    assert newcomer.received == []

    house.broker.gates[gate].open()
    newcomer.joining.finish()
    house.publish("five")
    assert newcomer.messages == ["one", "two", "three", "four", "five"]


def test_publication_during_subscribe_reaches_a_newcomer_of_a_room_without_history(house):
    house.broker.gates["subscribe"].shut()
    newcomer = house.newcomer("passing")
    house.publish("early", "passing")
    house.broker.gates["subscribe"].open()
    newcomer.joining.finish()
    house.publish("late", "passing")
    assert newcomer.messages == ["early", "late"]


def test_publication_while_the_newcomers_socket_is_full_arrives_after_the_reply_once_and_in_order(house):
    house.publish_many(numbered_kilobytes(90))
    house.broker.gates["read"].shut()
    newcomer = house.newcomer(history=300)
    newcomer.transport.socket.shut()
    house.broker.gates["read"].open()
    newcomer.joining.go_on()
    assert not newcomer.joining.is_done
    house.publish("meanwhile")
    newcomer.transport.socket.open()
    newcomer.joining.finish()
    assert newcomer.messages == [*numbered_kilobytes(90), "meanwhile"]


def test_a_long_reply_waits_for_the_newcomers_socket_between_bursts(house):
    house.publish_many(numbered_kilobytes(200))
    house.broker.gates["read"].shut()
    newcomer = house.newcomer(history=300)
    newcomer.transport.socket.shut()
    house.broker.gates["read"].open()
    newcomer.joining.go_on()
    while not newcomer.joining.is_done:
        assert newcomer.transport.unsent_bytes < BURST_BYTES * 1.2
        newcomer.transport.socket.open()
        newcomer.joining.go_on()
    assert newcomer.messages == numbered_kilobytes(200)


def test_the_newest_publications_come_first_as_many_as_asked_for(house):
    house.publish_many(range(10))
    assert house.member(history=3).messages == [7, 8, 9]


def test_at_most_three_hundred_of_the_newest_are_sent(house):
    house.publish_many(range(400))
    assert house.member(history=1000).messages == list(range(100, 400))


def test_everything_since_a_position_comes_however_many_pages_it_fills(house):
    house.publish_many(range(5))
    position = house.publish("seen")
    house.publish_many(range(350))
    assert house.member(since=position).messages == list(range(350))


def test_what_is_published_between_two_pages_comes_once_and_in_order(house):
    position = house.publish("seen")
    house.publish_many(range(150))
    house.broker.gates["read"].shut()
    newcomer = house.newcomer(since=position)
    house.publish_many(range(150, 260))
    while not newcomer.joining.is_done:
        house.broker.gates["read"].open()
        newcomer.joining.go_on()
    assert newcomer.messages == list(range(260))


def test_a_client_that_missed_nothing_gets_nothing_and_no_gap(house):
    position = house.publish("seen")
    assert house.member(since=position).received == []


def test_a_newcomer_whose_held_publications_overrun_reads_them_from_history(house):
    house.broker.gates["read"].shut()
    newcomer = house.newcomer()
    house.publish_many(OVERRUN)
    house.broker.gates["read"].open()
    newcomer.joining.finish()
    house.publish("live")
    assert newcomer.messages == [*OVERRUN, "live"]
    assert newcomer.transport.closes == []


def test_a_newcomer_whose_held_publications_overrun_twice_still_gets_all_of_them_once(house):
    house.broker.gates["read"].shut()
    newcomer = house.newcomer()
    house.publish_many(OVERRUN)
    house.broker.gates["read"].open()
    newcomer.transport.socket.shut()
    newcomer.joining.go_on()
    house.publish_many(OVERRUN)
    newcomer.transport.socket.open()
    newcomer.joining.finish()
    assert newcomer.messages == [*OVERRUN, *OVERRUN]


def test_a_newcomer_of_a_room_without_history_is_closed_as_slow_when_its_held_publications_overrun(house):
    house.broker.gates["subscribe"].shut()
    newcomer = house.newcomer("passing")
    house.publish_many(OVERRUN, "passing")
    house.broker.gates["subscribe"].open()
    newcomer.joining.finish()
    house.runtime.turn()
    assert newcomer.transport.closes == [SLOW]
    assert house.is_empty


def test_a_newcomer_that_is_closed_as_slow_disturbs_neither_the_publisher_nor_other_members(house):
    member = house.member("passing")
    house.broker.gates["subscribe"].shut()
    newcomers = [house.newcomer("passing") for _ in range(3)]
    house.publish_many(OVERRUN, "passing")
    house.broker.gates["subscribe"].open()
    for newcomer in newcomers:
        newcomer.joining.finish()
    assert member.messages == OVERRUN


def gap(position: Position) -> dict[str, object]:
    return {"gap": {"epoch": position.epoch, "offset": position.offset}}


def test_a_gap_is_told_when_history_no_longer_reaches_back(house):
    house.rules.history = History(size=3)
    position = house.publish("seen")
    house.publish_many(range(5))
    member = house.member(since=position)
    assert member.received[0] == gap(Position(position.epoch, position.offset + 2))
    assert member.messages == [2, 3, 4]


def test_a_gap_is_told_when_everything_has_expired(house):
    house.rules.history = History(size=10, ttl=timedelta(seconds=5))
    house.member()
    position = house.publish("seen")
    missed = house.publish("missed")
    house.runtime.wind(6)
    assert house.member(since=position).received == [gap(missed)]


def test_a_gap_is_told_when_history_moves_on_while_the_newcomer_reads_it(house):
    house.rules.history = History(size=120)
    position = house.publish("seen")
    house.publish_many(range(120))
    house.broker.gates["read"].shut()
    newcomer = house.newcomer(since=position)
    house.publish_many(range(120, 400))
    while not newcomer.joining.is_done:
        house.broker.gates["read"].open()
        newcomer.joining.go_on()
    assert newcomer.messages == [*range(100), *range(280, 400)]
    assert newcomer.received[100] == gap(Position(position.epoch, position.offset + 280))


def test_a_gap_is_told_to_a_client_of_another_epoch_and_everything_kept_follows(house):
    house.publish_many(["one", "two"])
    epoch = house.publish("three").epoch
    member = house.member(since=Position("before the restart", 2))
    assert member.received[0] == gap(Position(epoch, 0))
    assert member.messages == ["one", "two", "three"]


def test_a_gap_is_told_to_a_client_that_is_ahead_of_the_server(house):
    epoch = house.publish("one").epoch
    member = house.member(since=Position(epoch, 7))
    assert member.received[0] == gap(Position(epoch, 0))
    assert member.messages == ["one"]


def test_what_was_read_from_history_before_the_bus_delivered_it_does_not_come_twice(house):
    member = house.member()
    house.broker.is_mute = True
    house.publish_many(["one", "two"])
    newcomer = house.member(history=10)
    assert newcomer.messages == ["one", "two"]
    house.broker.speak()
    house.publish("three")
    assert newcomer.messages == member.messages == ["one", "two", "three"]


def test_publications_that_the_bus_lost_during_a_join_are_read_from_history(house):
    house.publish("one")
    house.broker.gates["read"].shut()
    newcomer = house.newcomer(history=10)
    house.broker.is_mute = True
    house.publish("lost")
    house.broker.undelivered.clear()
    house.broker.speak()
    house.publish("three")
    house.broker.gates["read"].open()
    newcomer.joining.finish()
    assert newcomer.messages == ["one", "lost", "three"]
    assert len(newcomer.received) == 3


def test_who_has_read_further_than_the_bus_delivered_and_leaves_is_gone(house):
    house.member()
    house.broker.is_mute = True
    house.publish_many(["one", "two"])
    newcomer = house.member(history=10)
    newcomer.connection.closed()
    house.broker.speak()
    house.publish("three")
    assert newcomer.messages == ["one", "two"]


def test_wishes_for_history_and_presence_that_a_room_does_not_have_are_answered_and_spoil_nothing(house):
    member = house.member("passing", since=Position("e", 1), wants_presence=True)
    house.publish("hello", "passing")
    assert member.errors == [108, 108]
    assert member.messages == ["hello"]


def test_invalid_wishes_are_answered_before_anything_else(house):
    house.publish("kept")
    member = house.member(history=5, invalid=(BadRequest("since is <epoch>:<offset>"),))
    assert [*member.received[0]] == ["error"]
    assert member.messages == ["kept"]


@pytest.mark.parametrize(
    ("room", "user", "refusal"),
    [("nowhere", "alice", UnknownRoom), ("closed", "alice", PermissionDenied), ("closed", "", Unauthorized)],
)
def test_who_may_not_join_is_told_why_and_leaves_nothing_behind(house, room, user, refusal):
    house.application.rooms["closed"] = type(house.rules)(is_open=False)
    connection = house.node.connect(house.member().connection.codec, identity_of(user))
    with pytest.raises(refusal):
        run(connection.join(Join(room)))
    connection.closed()
    assert list(house.node.hub.rooms) == ["room"]


def test_a_room_class_may_refuse_a_join_in_its_own_words(house, monkeypatch):
    async def can_join(user):
        raise Refused("the party is over", 410)

    monkeypatch.setattr(house.rules, "can_join", can_join, raising=False)
    newcomer = house.newcomer()
    assert (newcomer.joining.error.code, newcomer.joining.error.message) == (410, "the party is over")


def test_a_connection_joins_once(house):
    member = house.member()
    with pytest.raises(AlreadyJoined):
        run(member.connection.join(Join("passing")))


def test_a_broker_that_fails_during_the_join_refuses_it_and_leaves_nothing_behind(house):
    house.broker.read_fails_with = NotAvailable("down")
    newcomer = house.newcomer(history=5)
    assert isinstance(newcomer.joining.error, NotAvailable)
    newcomer.connection.closed()
    house.runtime.turn()
    assert house.is_empty


def test_a_broker_that_fails_while_catching_up_closes_with_an_internal_error_and_a_logged_traceback(house, caplog):
    position = house.publish("seen")
    house.publish_many(range(150))
    house.broker.gates["read"].shut()
    newcomer = house.newcomer(since=position)
    house.broker.read_fails_with = NotAvailable("down")
    house.broker.gates["read"].open()
    newcomer.joining.finish()
    house.runtime.turn()
    assert newcomer.transport.closes == [SERVER_ERROR]
    assert house.is_empty
    assert "NotAvailable" in caplog.text


def test_a_long_reply_of_short_messages_waits_for_the_newcomers_socket_after_every_page(house):
    position = house.publish("first")
    house.publish_many(range(250))
    house.broker.gates["read"].shut()
    newcomer = house.newcomer(since=position)
    newcomer.transport.socket.shut()
    house.broker.gates["read"].open()
    newcomer.joining.go_on()
    assert newcomer.messages == [*range(100)]
    newcomer.transport.socket.open()
    newcomer.joining.finish()
    assert newcomer.messages == [*range(250)]
