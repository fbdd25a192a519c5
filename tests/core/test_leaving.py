"""Whatever ends a connection, and whenever: it ends once, is out of its room, and nothing is left behind."""

from __future__ import annotations

import pytest

from yamabiko.core.errors import SHUTDOWN

PHASES = ["can_join", "can_publish", "subscribe", "read", "next page", "drained", "on_join"]


def gate_of(house, phase):
    if phase in ("subscribe", "read", "next page"):
        return house.broker.gates["read" if phase == "next page" else phase]
    return house.rules.gates[phase]


def newcomer_in(house, phase):
    """Return a newcomer that waits in a phase of its join, and the gate it waits at."""
    position = house.publish("x" * 1000)
    house.publish_many(["x" * 1000] * 150)
    if phase == "drained":
        house.broker.gates["read"].shut()
        newcomer = house.newcomer(since=position)
        newcomer.transport.socket.shut()
        house.broker.gates["read"].open()
        newcomer.joining.go_on()
        return newcomer, newcomer.transport.socket
    gate = gate_of(house, phase)
    gate.shut()
    newcomer = house.newcomer(since=position)
    if phase == "next page":
        gate.open()
        newcomer.transport.socket.shut()
        newcomer.joining.go_on()
        gate.shut()
        newcomer.transport.socket.open()
        newcomer.joining.go_on()
    return newcomer, gate


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("ending", ["the peer left", "we closed it"])
def test_closing_in_every_phase_of_the_join_leaves_the_hub_empty_and_unsubscribed(house, phase, ending):
    newcomer, gate = newcomer_in(house, phase)
    assert not newcomer.joining.is_done
    if ending == "we closed it":
        newcomer.connection.close(SHUTDOWN)
    else:
        newcomer.connection.closed()
    house.runtime.turn()
    gate.open()
    newcomer.joining.finish()
    house.runtime.turn()
    assert house.is_empty


@pytest.mark.parametrize("phase", PHASES)
def test_a_join_that_is_cancelled_in_any_phase_leaves_the_hub_empty_and_unsubscribed(house, phase):
    newcomer, gate = newcomer_in(house, phase)
    newcomer.joining.cancel()
    newcomer.connection.closed()
    gate.open()
    house.runtime.turn()
    assert house.is_empty


@pytest.mark.parametrize("phase", ["can_join", "can_publish", "subscribe", "read"])
def test_a_connection_closed_before_it_has_a_transport_never_serves_one(house, phase):
    newcomer, gate = newcomer_in(house, phase)
    newcomer.connection.close(SHUTDOWN)
    gate.open()
    newcomer.joining.finish()
    assert newcomer.joining.error is not None or newcomer.transport.closes == [SHUTDOWN]
    assert newcomer.received == []


def test_a_connection_closed_by_us_tells_its_peer_once_why(house):
    member = house.member()
    member.connection.close(SHUTDOWN)
    member.connection.close(SHUTDOWN)
    assert member.transport.closes == [SHUTDOWN]


def test_a_connection_closes_once_however_often_it_is_said(house):
    member, other = house.member(), house.member()
    for _ in range(3):
        member.connection.closed()
    house.runtime.turn()
    assert house.rules.told.count(("on_leave", "")) == 1
    house.publish("still here")
    assert (member.messages, other.messages) == ([], ["still here"])


def test_the_last_to_leave_unsubscribes_the_room_and_the_next_to_come_subscribes_it_again(house):
    first, second = house.member(), house.member()
    first.connection.closed()
    house.runtime.turn()
    assert house.broker.subscribed == {"room"}
    second.connection.closed()
    house.runtime.turn()
    assert house.is_empty
    third = house.member()
    house.publish("hello")
    assert third.messages == ["hello"]


def test_whoever_comes_as_the_last_one_leaves_is_subscribed(house):
    house.member().connection.closed()
    member = house.member()
    house.runtime.turn()
    assert house.broker.subscribed == {"room"}
    house.publish("hello")
    assert member.messages == ["hello"]


def test_on_join_comes_before_on_leave(house):
    member = house.member(user="alice")
    member.connection.closed()
    house.runtime.turn()
    assert house.rules.told == [("on_join", "alice"), ("on_leave", "alice")]


def test_on_leave_waits_until_on_join_has_ended(house):
    house.rules.gates["on_join"].shut()
    newcomer = house.newcomer(user="alice")
    newcomer.connection.closed()
    house.runtime.turn()
    house.rules.gates["on_join"].open()
    newcomer.joining.finish()
    house.runtime.turn()
    assert house.rules.told == [("on_join", "alice"), ("on_leave", "alice")]


def test_who_never_became_a_member_is_neither_said_to_join_nor_to_leave(house):
    house.broker.gates["read"].shut()
    newcomer = house.newcomer()
    newcomer.connection.closed()
    house.broker.gates["read"].open()
    newcomer.joining.finish()
    house.runtime.turn()
    assert house.rules.told == []


def test_exceptions_in_on_join_and_on_leave_harm_nobody_and_are_logged(house, caplog):
    house.rules.hooks_fail_with = ZeroDivisionError("as asked")
    member, other = house.member(), house.member()
    house.publish("hello")
    other.connection.closed()
    house.runtime.turn()
    house.publish("again")
    assert member.messages == ["hello", "again"]
    assert member.transport.closes == []
    assert caplog.text.count("ZeroDivisionError: as asked") == 3
    assert "on_leave failed" in caplog.text
