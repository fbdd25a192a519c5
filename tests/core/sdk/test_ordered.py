"""What the server orders of a user's connections, of either protocol, is done, and told to the peer."""

from __future__ import annotations

import pytest
from msgspec import Raw

from tests.core.fakes import Gate
from yamabiko.core import orders
from yamabiko.core.errors import NotAvailable
from yamabiko.core.identity import Grant, Identity
from yamabiko.core.messages import Position
from yamabiko.core.sdk.limits import SdkLimits

ALICE = "id-of-alice"


def last_push(peer):
    return peer.received[-1]["push"]


# Subscribe


def test_a_user_is_put_into_a_room_whatever_its_class_says_of_joining(house):
    house.rules.is_open = False
    house.publish("old")
    tabs, other = [house.sdk_peer("alice"), house.sdk_peer("alice")], house.sdk_peer("bob")
    house.orders(orders.SubscribeUser(user=ALICE, room="room", data=Raw(b"[1]")))
    for tab in tabs:
        subscribe = last_push(tab)["subscribe"]
        assert last_push(tab)["channel"] == "room"
        assert subscribe.pop("epoch")
        assert subscribe == {"recoverable": True, "positioned": True, "offset": 1, "data": [1]}
    house.publish("new")
    assert [each.messages for each in (*tabs, other)] == [["new"], ["new"], []]


def test_one_client_may_be_meant(house):
    tabs = [house.sdk_peer("alice"), house.sdk_peer("alice")]
    house.orders(orders.SubscribeUser(user=ALICE, client=tabs[1].client, room="passing"))
    assert [each.pushes for each in tabs] == [[], [{"channel": "passing", "subscribe": {}}]]
    house.orders(orders.SubscribeUser(user="id-of-bob", client=tabs[0].client, room="passing"))
    assert tabs[0].pushes == []


def test_what_was_missed_since_a_position_follows(house):
    first = house.publish("a")
    house.publish_many(["b", "c"])
    peer = house.sdk_peer("alice")
    house.orders(orders.SubscribeUser(user=ALICE, room="room", since=first))
    assert [[*push][-1] for push in peer.pushes] == ["subscribe", "pub", "pub"]
    assert peer.pushes[0]["subscribe"]["offset"] == 1
    assert peer.messages == ["b", "c"]


def test_a_position_that_is_gone_brings_what_comes_from_now_on(house):
    house.publish("a")
    peer = house.sdk_peer("alice")
    house.orders(orders.SubscribeUser(user=ALICE, room="room", since=Position("other", 7)))
    assert peer.pushes[0]["subscribe"]["offset"] == 1
    house.publish("b")
    assert peer.messages == ["b"]


def test_who_is_in_the_room_already_is_told_nothing(house):
    peer = house.sdk_peer("alice", "room")
    house.orders(orders.SubscribeUser(user=ALICE, room="room"))
    assert peer.pushes == []
    house.publish("once")
    assert peer.messages == ["once"]


def test_who_was_put_into_a_room_cannot_subscribe_to_it_but_may_leave_it(house):
    peer = house.sdk_peer("alice")
    house.orders(orders.SubscribeUser(user=ALICE, room="room"))
    assert peer.fails(subscribe={"channel": "room"}) == 105
    assert peer.asks(publish={"channel": "room", "data": 1}) == {"publish": {}}
    assert peer.asks(unsubscribe={"channel": "room"}) == {"unsubscribe": {}}
    peer.joins("room")


def test_what_is_published_while_the_server_puts_a_user_into_a_room_comes_after_the_push(house):
    house.broker.gates["read"].shut()
    peer = house.sdk_peer("alice")
    house.orders(orders.SubscribeUser(user=ALICE, room="room"))
    house.publish("meanwhile")
    assert peer.pushes == []
    house.broker.gates["read"].open()
    house.runtime.turn()
    assert [[*push][-1] for push in peer.pushes] == ["subscribe", "pub"]


def test_a_subscription_of_the_server_that_expires_ends_the_connection(house):
    peer = house.sdk_peer("alice")
    house.orders(orders.SubscribeUser(user=ALICE, room="room", expires_in_seconds=10.0))
    house.runtime.wind(10 + 24)
    assert peer.closes == []
    house.runtime.wind(2)
    assert peer.closes == [3006]


@pytest.mark.parametrize("room", ["nowhere", "passing", "room"])
def test_a_user_who_cannot_be_put_into_a_room_is_told_of_in_the_log(make_house, caplog, room):
    house = make_house(sdk_limits=SdkLimits(rooms=1))
    if room == "room":
        house.broker.read_fails_with = NotAvailable("as asked")
        peer = house.sdk_peer("alice")
    else:
        peer = house.sdk_peer("alice", "room")
    house.orders(orders.SubscribeUser(user=ALICE, room=room))
    assert peer.pushes == []
    assert peer.closes == []
    assert room in caplog.text


def test_a_connection_that_ends_while_it_is_put_into_a_room_leaves_nothing_behind(house):
    for gate in (house.rules.gates["can_publish"], house.broker.gates["read"]):
        gate.shut()
        peer = house.sdk_peer("alice")
        house.orders(orders.SubscribeUser(user=ALICE, room="room", expires_in_seconds=10.0))
        peer.leaves()
        gate.open()
        house.runtime.turn()
        assert house.is_empty
        assert peer.pushes == []
        assert all(deadline.is_cancelled for _, _, deadline in house.node._deadlines._heap)


def test_a_room_left_by_order_while_it_is_entered_is_not_told_of(house):
    house.broker.gates["read"].shut()
    peer = house.sdk_peer("alice")
    house.orders(orders.SubscribeUser(user=ALICE, room="room"))
    house.orders(orders.UnsubscribeUser(user=ALICE, room="room"))
    house.broker.gates["read"].open()
    house.runtime.turn()
    assert peer.pushes == []
    assert not house.node.hub.rooms


# Unsubscribe


def test_a_user_is_taken_out_of_a_room_for_good(house):
    peer, other = house.sdk_peer("alice", "room", "passing"), house.sdk_peer("bob", "room")
    house.orders(orders.UnsubscribeUser(user=ALICE, room="room"))
    assert peer.pushes == [{"channel": "room", "unsubscribe": {"code": 2000, "reason": "server unsubscribe"}}]
    house.publish("a")
    house.publish("b", "passing")
    assert peer.messages == ["b"]
    assert other.messages == ["a"]
    house.orders(orders.UnsubscribeUser(user=ALICE, room="room"))
    assert len(peer.pushed("unsubscribe")) == 1


def test_a_user_is_taken_out_of_all_rooms(house):
    peer = house.sdk_peer("alice", "room", "passing")
    house.orders(orders.UnsubscribeUser(user=ALICE))
    assert {push["channel"] for push in peer.pushes} == {"room", "passing"}
    assert not house.node.hub.rooms


def test_a_socket_of_one_room_is_closed_where_its_user_is_taken_out_of_it(house):
    here, elsewhere = house.member(user="alice"), house.member("passing", user="alice")
    house.orders(orders.UnsubscribeUser(user=ALICE, room="room"))
    assert [close.code for close in here.transport.closes] == [3503]
    assert elsewhere.transport.closes == []
    house.orders(orders.UnsubscribeUser(user=ALICE))
    assert [close.code for close in elsewhere.transport.closes] == [3503]


# Send, refresh, disconnect


def test_a_message_is_for_all_connections_of_a_user(house):
    tabs, plain = [house.sdk_peer("alice"), house.sdk_peer("alice")], house.member(user="alice")
    house.orders(orders.SendUser(user=ALICE, data=Raw(b'{"a":1}')))
    assert [each.pushes for each in tabs] == [[{"message": {"data": {"a": 1}}}]] * 2
    assert plain.received == []


def test_a_connection_is_renewed_by_order(house):
    peer = house.sdk_peer("alice")
    house.orders(orders.RefreshUser(user=ALICE, expires_in_seconds=30.0))
    assert last_push(peer) == {"refresh": {"expires": True, "ttl": 30}}
    house.runtime.wind(30 + 24)
    assert peer.closes == []
    house.orders(orders.RefreshUser(user=ALICE))
    assert last_push(peer) == {"refresh": {}}
    house.runtime.wind(1000)
    assert peer.closes == []


def test_a_connection_expires_by_order(house):
    peer = house.sdk_peer("alice")
    house.orders(orders.RefreshUser(user=ALICE, expired=True))
    assert peer.closes == [3005]


def test_a_user_is_disconnected_and_told_why(house):
    tabs, plain, other = [house.sdk_peer("alice") for _ in range(3)], house.member(user="alice"), house.sdk_peer("bob")
    order = orders.DisconnectUser(user=ALICE, code=4501, reason="enough", spared=(tabs[2].client,))
    house.orders(order)
    assert [each.closes for each in tabs] == [[4501], [4501], []]
    assert tabs[0].received[-1] == {"push": {"disconnect": {"code": 4501, "reason": "enough"}}}
    assert [(close.code, close.reason) for close in plain.transport.closes] == [(4501, "enough")]
    assert other.closes == []
    house.orders(orders.DisconnectUser(user=ALICE, client=tabs[2].client, code=3503, reason="force disconnect"))
    assert tabs[2].closes == [3503]


def test_an_order_for_somebody_who_is_not_here_is_done_by_others(house):
    peer = house.sdk_peer("alice")
    house.orders(orders.DisconnectUser(user="id-of-carol", code=3503, reason="force disconnect"))
    house.orders(orders.DisconnectUser(user="", code=3503, reason="force disconnect"))
    assert peer.closes == []


# Orders for who is just connecting


@pytest.fixture
def newcomer(house):
    """One that is known, and waits for its first room."""
    house.application.tokens["t"] = Identity(user="alice", id=ALICE, grants={"room": Grant()})
    house.broker.gates["read"].shut()
    peer = house.sdk_newcomer()
    peer.begins(connect={"token": "t"})
    return peer


def let_in(house, peer):
    house.broker.gates["read"].open()
    peer.goes_on()
    house.runtime.turn()


def test_the_connect_reply_comes_before_what_the_server_orders(house, newcomer):
    house.orders(orders.SubscribeUser(user=ALICE, room="passing"))
    house.orders(orders.SendUser(user=ALICE, data=Raw(b"1")))
    house.orders(orders.RefreshUser(user=ALICE, expires_in_seconds=30.0))
    house.orders(orders.UnsubscribeUser(user=ALICE, room="room"))
    assert newcomer.received == []
    let_in(house, newcomer)
    assert list(newcomer.received[0]["connect"]["subs"]) == ["room"]
    kinds = [next(kind for kind in push if kind != "channel") for push in newcomer.pushes]
    assert kinds == ["message", "refresh", "unsubscribe", "subscribe"]
    assert set(house.node.hub.rooms) == {"passing"}
    house.runtime.wind(30 + 26)
    assert newcomer.closes == [3005]


def test_who_is_disconnected_while_it_connects_is_gone(house, newcomer):
    house.orders(orders.DisconnectUser(user=ALICE, code=3503, reason="force disconnect"))
    assert newcomer.closes == [3503]
    let_in(house, newcomer)
    assert newcomer.received == [{"push": {"disconnect": {"code": 3503, "reason": "force disconnect"}}}]
    assert house.is_empty


def test_who_gets_back_the_name_it_had_is_not_given_another_one_by_an_order_meanwhile(house):
    house.rules.presence = True
    first = house.sdk_peer("alice", "room")
    first.leaves(is_lost=True)
    house.runtime.turn()
    gate, reclaim = Gate(), house.broker.presence.reclaim

    async def slow_reclaim(user):
        await gate
        return await reclaim(user)

    house.broker.presence.reclaim = slow_reclaim
    gate.shut()
    second = house.sdk_newcomer("alice")
    second.begins(connect={})
    house.orders(orders.SendUser(user=ALICE, data=Raw(b"1")))
    house.orders(orders.DisconnectUser(user=ALICE, client="another", code=3503, reason="force disconnect"))
    gate.open()
    second.goes_on()
    assert second.client == first.client
    assert second.pushes == [{"message": {"data": 1}}]
