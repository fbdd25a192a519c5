"""Who may be in a room, what each refusal is called, and what happens while a subscription is under way."""

from __future__ import annotations

import pytest
from msgspec import Raw

from yamabiko.core import orders
from yamabiko.core.errors import INVALID_TOKEN, Expired, NotAvailable, PermissionDenied, Refused, TokenExpired
from yamabiko.core.identity import Grant
from yamabiko.core.sdk.limits import SdkLimits

LONG = "x" * 256


def code_of(peer, room="room", **wishes):
    return peer.fails(subscribe={"channel": room, **wishes})


# Which errors, and which first


def test_a_room_with_history_says_where_it_is(house):
    house.publish_many(range(3))
    result = house.sdk_peer().joins("room")
    assert result.pop("epoch")
    assert result == {"recoverable": True, "positioned": True, "offset": 3}


def test_a_room_without_history_says_nothing(house):
    assert house.sdk_peer().joins("passing") == {}


REFUSED = {
    "a long name": ({"channel": LONG}, 107),
    "a name in another form": ({"channel": "e\u0301"}, 107),
    "a name that cannot be seen": ({"channel": "a\u202eb"}, 107),
    "an unknown room": ({"channel": "nowhere"}, 102),
    "a map": ({"channel": "room", "type": 1}, 103),
    "clients": ({"channel": "room", "type": 2}, 103),
    "users": ({"channel": "room", "type": 3}, 103),
    "shared poll": ({"channel": "room", "type": 4}, 108),
    "a filter": ({"channel": "room", "tf": {"op": "and"}}, 107),
    "a room that one is in": ({"channel": "passing"}, 105),
    "a closed room": ({"channel": "closed"}, 103),
    "a token not to be trusted": ({"channel": "room", "token": "bad"}, 103),
    "an expired token": ({"channel": "room", "token": "old"}, 109),
    "a token of what is over": ({"channel": "room", "token": "over"}, 110),
}


@pytest.fixture
def peer(house):
    house.application.rooms["closed"] = type(house.passing)(is_open=False)
    house.application.tokens |= {
        "good": Grant(),
        "bad": PermissionDenied(),
        "old": TokenExpired(),
        "over": Expired(),
        "other": INVALID_TOKEN.anew(),
    }
    return house.sdk_peer("alice", "passing")


@pytest.mark.parametrize(("request_object", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_a_refused_subscription_has_a_code_and_a_text_and_the_connection_lives(house, peer, request_object, code):
    error = peer.asks(subscribe=request_object)["error"]
    assert error["code"] == code
    assert error["message"]
    assert "temporary" not in error
    assert peer.closes == []
    assert set(house.node.hub.rooms) == {"passing"}
    assert "recoverable" in peer.joins("room")


@pytest.mark.parametrize(
    "request_object",
    [{"channel": ""}, {}, {"channel": "room", "delta": "other"}, {"channel": "room", "token": "other"}],
    ids=str,
)
def test_what_no_client_should_ask_ends_the_connection(house, peer, request_object):
    peer.begins(subscribe=request_object)
    assert peer.closes == [3500 if "token" in request_object else 3501]


def test_the_checks_come_in_one_order(make_house):
    house = make_house(sdk_limits=SdkLimits(rooms=1))
    house.application.tokens["bad"] = PermissionDenied()
    house.rules.is_open = False
    filtered = {"tf": {"op": "and"}}
    peer = house.sdk_peer()
    assert code_of(peer, LONG, type=1) == 107
    assert code_of(peer, "nowhere", type=1) == 102
    assert code_of(peer, "room", type=1, delta="other") == 103
    peer.joins("passing")
    assert code_of(peer, "passing", type=1) == 103
    assert code_of(peer, "passing", token="bad") == 105
    assert code_of(peer, "room", token="bad") == 106
    peer.asks(unsubscribe={"channel": "passing"})
    assert code_of(peer, "room", token="bad", **filtered) == 103
    assert code_of(peer, "room", **filtered) == 103
    assert code_of(peer, "passing", **filtered) == 107


def test_a_connection_is_in_as_many_rooms_as_it_may_be(make_house):
    house = make_house(sdk_limits=SdkLimits(rooms=3))
    house.application.rooms |= {f"r{number}": house.passing for number in range(4)}
    peer = house.sdk_peer("", "r0", "r1", "r2")
    assert code_of(peer, "r3") == 106
    peer.asks(unsubscribe={"channel": "r0"})
    peer.joins("r3")


def test_a_room_class_may_refuse_in_its_own_words(house):
    async def refuse(user):
        raise Refused("not on Sundays", 417)

    house.rules.can_join = refuse
    assert house.sdk_peer().asks(subscribe={"channel": "room"})["error"] == {"code": 417, "message": "not on Sundays"}


def test_what_cannot_be_reached_now_may_be_tried_again(house):
    house.broker.read_fails_with = NotAvailable("as asked")
    peer = house.sdk_peer("", "passing")
    error = peer.asks(subscribe={"channel": "room"})["error"]
    # 108 would be final: the subscription would be over for the client.
    assert (error["code"], error["temporary"]) == (100, True)
    assert set(house.node.hub.rooms) == {"passing"}
    house.broker.read_fails_with = None
    peer.joins("room")


def test_only_who_asks_may_take_deltas_and_a_room_without_them_says_nothing_of_it(house):
    assert "delta" not in house.sdk_peer().joins("room", delta="fossil")


# Tokens


def test_a_token_alone_is_the_right_to_be_in_a_room(house, peer):
    house.rules.is_open = False
    house.application.tokens["mine"] = Grant(info=Raw(b'"i"'), data=Raw(b'{"for":"me"}'), expires_in_seconds=30.5)
    result = peer.joins("room", token="mine")
    assert (result["data"], result["expires"], result["ttl"]) == ({"for": "me"}, True, 30)
    peer.asks(publish={"channel": "room", "data": 1})
    assert peer.publications[0]["info"] == {"user": "id-of-alice", "client": peer.client, "chan_info": "i"}


def test_a_subscription_that_is_not_renewed_ends_and_the_connection_goes_on(house, peer):
    house.application.tokens["mine"] = Grant(expires_in_seconds=30.0)
    peer.joins("room", token="mine")
    house.runtime.wind(30 + 24)
    assert peer.pushes == []
    house.runtime.wind(2)
    assert peer.pushes == [{"channel": "room", "unsubscribe": {"code": 2501, "reason": "subscription expired"}}]
    assert set(house.node.hub.rooms) == {"passing"}
    peer.joins("room")


def test_a_renewed_subscription_goes_on(house, peer):
    house.application.tokens |= {"mine": Grant(expires_in_seconds=30.0), "again": Grant(expires_in_seconds=50.0)}
    peer.joins("room", token="mine")
    house.runtime.wind(30)
    assert peer.asks(sub_refresh={"channel": "room", "token": "again"}) == {"sub_refresh": {"expires": True, "ttl": 50}}
    house.runtime.wind(50 + 24)
    assert peer.pushes == []
    house.runtime.wind(2)
    assert [each["code"] for each in peer.pushed("unsubscribe")] == [2501]


def test_a_subscription_renewed_for_ever_does_not_end(house, peer):
    house.application.tokens["mine"] = Grant(expires_in_seconds=30.0)
    peer.joins("room", token="mine")
    assert peer.asks(sub_refresh={"channel": "room", "token": "good"}) == {"sub_refresh": {}}
    house.runtime.wind(10_000)
    assert peer.pushes == []


def test_who_has_left_a_room_is_not_told_that_its_subscription_expired(house, peer):
    house.application.tokens["mine"] = Grant(expires_in_seconds=30.0)
    peer.joins("room", token="mine")
    peer.asks(unsubscribe={"channel": "room"})
    peer.joins("room")
    house.runtime.wind(100)
    assert peer.pushes == []


def test_a_renewal_says_anew_what_is_told_of_a_member(house, peer):
    house.application.tokens |= {"mine": Grant(info=Raw(b"1")), "again": Grant(info=Raw(b"2"))}
    peer.joins("room", token="mine")
    peer.asks(publish={"channel": "room", "data": "a"})
    peer.asks(sub_refresh={"channel": "room", "token": "again"})
    peer.asks(publish={"channel": "room", "data": "b"})
    assert [each["info"]["chan_info"] for each in peer.publications] == [1, 2]


def test_there_is_nothing_to_renew_without_a_subscription_or_without_a_token(house, peer):
    assert peer.fails(sub_refresh={"channel": "room", "token": "good"}) == 103
    assert peer.fails(sub_refresh={"channel": "passing"}) == 107
    peer.begins(sub_refresh={"token": "good"})
    assert peer.closes == [3501]


@pytest.mark.parametrize(("token", "code"), [("bad", 3500), ("other", 3500), ("old", 3006), ("over", 3006)])
def test_a_renewal_with_a_wrong_token_ends_the_connection(house, peer, token, code):
    peer.begins(sub_refresh={"channel": "passing", "token": token})
    assert peer.closes == [code]


def test_a_subscription_that_the_server_ends_while_it_is_renewed_is_not_renewed(house, peer):
    house.application.tokens["mine"] = Grant(expires_in_seconds=30.0)
    peer.joins("room", token="mine")
    house.application.gates["grant"].shut()
    asked = peer.begins(sub_refresh={"channel": "room", "token": "mine"})
    house.orders(orders.UnsubscribeUser(user="id-of-alice", room="room"))
    house.application.gates["grant"].open()
    peer.goes_on()
    assert peer.reply(asked)["error"]["code"] == 103
    house.runtime.wind(100)
    assert [each["code"] for each in peer.pushed("unsubscribe")] == [2000]


# Leaving


def test_unsubscribe_ends_what_comes_and_works_twice(house):
    peer = house.sdk_peer("", "room")
    house.publish("a")
    assert peer.asks(unsubscribe={"channel": "room"}) == {"unsubscribe": {}}
    house.publish("b")
    assert peer.asks(unsubscribe={"channel": "room"}) == {"unsubscribe": {}}
    assert peer.messages == ["a"]
    house.runtime.turn()
    assert house.broker.subscribed == set()
    assert peer.joins("room")["offset"] == 2


def test_unsubscribe_from_no_room_ends_the_connection(house):
    peer = house.sdk_peer()
    peer.begins(unsubscribe={})
    assert peer.closes == [3501]


def test_rooms_are_left_one_by_one(house):
    peer = house.sdk_peer("", "room", "passing")
    peer.asks(unsubscribe={"channel": "room"})
    house.publish("a")
    house.publish("b", "passing")
    assert peer.messages == ["b"]


# While a subscription is under way


@pytest.mark.parametrize(("gate", "offset"), [("subscribe", 3), ("read", 1)])
def test_the_reply_comes_before_what_is_published_meanwhile(house, gate, offset):
    house.publish("old")
    house.broker.gates[gate].shut()
    peer = house.sdk_peer()
    asked = peer.begins(subscribe={"channel": "room"})
    house.publish_many(["a", "b"])
    assert len(peer.received) == 1
    house.broker.gates[gate].open()
    peer.goes_on()
    house.publish("c")
    assert peer.reply(asked)["subscribe"]["offset"] == offset
    assert [[*each][-1] for each in peer.received] == ["connect", "subscribe"] + ["push"] * (4 - offset)
    assert [each["offset"] for each in peer.publications] == list(range(offset + 1, 5))


def test_in_a_room_without_history_too(house):
    house.broker.gates["subscribe"].shut()
    peer = house.sdk_peer()
    peer.begins(subscribe={"channel": "passing"})
    house.publish("a", "passing")
    assert len(peer.received) == 1
    house.broker.gates["subscribe"].open()
    peer.goes_on()
    assert [[*each][-1] for each in peer.received] == ["connect", "subscribe", "push"]


GATES = ["can_join", "can_publish", "subscribe", "read"]


def gate_of(house, name):
    return house.rules.gates[name] if name.startswith("can") else house.broker.gates[name]


@pytest.mark.parametrize("name", GATES)
def test_a_connection_that_ends_while_it_subscribes_leaves_nothing_behind(house, name):
    gate_of(house, name).shut()
    house.application.tokens["mine"] = Grant(expires_in_seconds=30.0)
    peer = house.sdk_peer("alice")
    asked = peer.begins(subscribe={"channel": "room"} | ({} if name == "can_join" else {"token": "mine"}))
    peer.leaves()
    gate_of(house, name).open()
    peer.goes_on()
    assert peer.is_idle
    house.runtime.turn()
    assert [each for each in peer.received if each.get("id") == asked and "subscribe" in each] == []
    assert house.is_empty
    assert all(deadline.is_cancelled for _, _, deadline in house.node._deadlines._heap)


@pytest.mark.parametrize("name", ["subscribe", "read"])
def test_a_subscription_that_the_server_ends_while_it_is_under_way_is_refused(house, name):
    gate_of(house, name).shut()
    peer = house.sdk_peer("alice")
    asked = peer.begins(subscribe={"channel": "room"})
    house.orders(orders.UnsubscribeUser(user="id-of-alice", room="room"))
    gate_of(house, name).open()
    peer.goes_on()
    assert peer.reply(asked)["error"]["code"] == 103
    assert peer.pushes == []
    gate_of(house, name).open()
    house.runtime.turn()
    peer.joins("room")


@pytest.mark.parametrize("name", ["can_join", "can_publish"])
def test_where_the_server_was_quicker_the_peer_is_in_already(house, name):
    gate_of(house, name).shut()
    peer = house.sdk_peer("alice")
    asked = peer.begins(subscribe={"channel": "room"})
    if name == "can_join":
        house.orders(orders.SubscribeUser(user="id-of-alice", room="room"))
        gate_of(house, name).open()
    else:  # both wait
        house.orders(orders.SubscribeUser(user="id-of-alice", room="room"))
        gate_of(house, name).open()
        house.runtime.turn()
    peer.goes_on()
    assert peer.reply(asked)["error"]["code"] == 105
    house.publish("once")
    assert peer.messages == ["once"]
    peer.leaves()
    house.runtime.turn()
    assert house.is_empty


def test_the_next_command_waits_for_the_one_before(house):
    house.broker.gates["read"].shut()
    peer = house.sdk_peer()
    first = peer.begins(subscribe={"channel": "room"})
    second = peer.begins(subscribe={"channel": "passing"})
    assert len(peer.received) == 1
    house.broker.gates["read"].open()
    peer.goes_on()
    assert [each["id"] for each in peer.received] == [1, first, second]
