"""What the server orders while a peer is on its way: into a room, or into the house."""

from __future__ import annotations

import pytest

from tests.core.fakes import House, Walk, identity_of
from yamabiko.codecs.plain import PLAIN
from yamabiko.core.errors import PermissionDenied
from yamabiko.core.identity import Grant, Identity
from yamabiko.core.messages import Join
from yamabiko.core.orders import DisconnectUser, SubscribeUser, UnsubscribeUser, encode

ALICE = "id-of-alice"


def order(house: House, given: object) -> None:
    house.node.heard(encode(given))


def turned_out(house: House, room: str = "room") -> None:
    order(house, UnsubscribeUser(user=ALICE, room=room))


@pytest.mark.parametrize("gate", ["can_join", "can_publish"])
@pytest.mark.parametrize("room", ["room", ""])
def test_who_is_taken_out_on_the_way_in_does_not_get_in(house, gate, room):
    peer = house.sdk_peer("alice")
    house.rules.gates[gate].shut()
    asked = peer.begins(subscribe={"channel": "room"})
    turned_out(house, room)
    house.rules.gates[gate].open()
    peer.goes_on()
    assert peer.reply(asked)["error"]["code"] == PermissionDenied.code
    house.publish("secret")
    assert peer.messages == []
    assert peer.joins() is not None, "nobody is kept out for good"


def test_an_order_for_another_room_stops_nobody(house):
    peer = house.sdk_peer("alice")
    house.rules.gates["can_join"].shut()
    asked = peer.begins(subscribe={"channel": "room"})
    turned_out(house, "passing")
    house.rules.gates["can_join"].open()
    peer.goes_on()
    assert "subscribe" in peer.reply(asked)


def test_who_is_put_in_and_taken_out_again_is_out(house):
    peer = house.sdk_peer("alice")
    house.rules.gates["can_publish"].shut()
    order(house, SubscribeUser(user=ALICE, room="room"))
    turned_out(house)
    house.runtime.turn()
    house.rules.gates["can_publish"].open()
    house.runtime.turn()
    house.publish("secret")
    assert peer.messages == []
    assert house.node.hub.rooms == {}


def test_who_is_put_in_and_taken_out_while_being_put_in_is_out(house):
    peer = house.sdk_peer("alice")
    house.rules.gates["can_publish"].shut()
    order(house, SubscribeUser(user=ALICE, room="room"))
    house.runtime.turn()
    turned_out(house)
    house.rules.gates["can_publish"].open()
    house.runtime.turn()
    house.publish("secret")
    assert peer.messages == []


def test_a_peer_of_the_room_protocol_that_is_taken_out_on_the_way_in_does_not_get_in(house):
    house.rules.gates["can_join"].shut()
    newcomer = house.newcomer(user="alice")
    turned_out(house)
    house.rules.gates["can_join"].open()
    newcomer.joining.go_on()
    assert newcomer.joining.error is not None
    assert not newcomer.connection.is_open


def test_who_is_disconnected_while_it_is_found_out_who_it_is_does_not_get_in(house):
    peer = house.sdk_newcomer("alice")
    house.application.gates["identify"].shut()
    peer.begins(connect={})
    order(house, DisconnectUser(user=ALICE, code=4501, reason="signed out"))
    house.application.gates["identify"].open()
    peer.goes_on()
    assert peer.closes == [4501]
    house.runtime.wind(60)
    assert house.sdk_peer("alice").connection.is_open, "the order was for who was here then"


def test_a_handshake_whose_user_is_disconnected_meanwhile_does_not_get_in(house):
    asked_at = house.node.now()
    order(house, DisconnectUser(user=ALICE, code=4501, reason="signed out"))
    connection = house.node.connect(PLAIN, identity_of("alice"), asked_at=asked_at)
    joining = Walk(connection.join(Join("room")))
    assert joining.error is not None
    assert not connection.is_open


def test_a_connection_that_could_not_be_begun_ends_and_leaves_nothing(house):
    """Else another one's token could follow on the same socket, in the rooms of the first."""
    grants = {"room": Grant()}
    house.application.tokens["ann"] = Identity(user="ann", id="1", name="ann", grants=grants)
    peer = house.sdk_newcomer()

    async def fail(user_id: str) -> str:
        raise ArithmeticError("as the test asks")

    house.node.reclaim = fail
    peer.begins(connect={"token": "ann"})
    assert peer.closes == [3004]
    assert len(house.node.users) == 0
    assert house.is_empty


def test_one_connection_that_cannot_obey_does_not_keep_the_others_from_it(house, caplog):
    peers = [house.sdk_peer("alice") for _ in range(4)]
    for peer in peers[::2]:
        peer.transport.close = None
    order(house, DisconnectUser(user=ALICE, code=4501, reason="signed out"))
    assert [peer.closes for peer in peers[1::2]] == [[4501], [4501]]
    assert "could not be carried out" in caplog.text
