"""Coming back to a room: everything that was missed is in the reply, or the reply says that it cannot be had."""

from __future__ import annotations

import pytest

from tests.core.fakes import run
from yamabiko.core import membership as any_membership
from yamabiko.core import orders
from yamabiko.core.errors import NotAvailable
from yamabiko.core.identity import Grant, Identity
from yamabiko.core.messages import History, Position
from yamabiko.core.sdk.limits import SdkLimits


def position_in(house):
    page = run(house.broker.read("room", house.rules.history, limit=1))
    return {"epoch": page.top.epoch, "offset": page.top.offset}


@pytest.fixture
def had(house):
    """Where a peer was that has missed b, c and d."""
    house.publish("a")
    had = position_in(house)
    house.publish_many(["b", "c", "d"])
    return had


def recover(peer, had, **wishes):
    return peer.joins("room", recover=True, **(had | wishes))


# Success


def test_what_was_missed_is_in_the_reply_with_the_offset_that_was_asked_for(house, had):
    peer = house.sdk_peer()
    result = recover(peer, had)
    assert result == {
        "recoverable": True,
        "positioned": True,
        "was_recovering": True,
        "recovered": True,
        "epoch": had["epoch"],
        "offset": 1,
        "publications": [{"data": data, "offset": offset} for offset, data in enumerate("bcd", 2)],
    }
    house.publish("e")
    assert peer.messages == ["b", "c", "d", "e"]


def test_who_has_missed_nothing_recovers_nothing(house, had):
    result = recover(house.sdk_peer(), had | {"offset": 4})
    assert result["recovered"] is True
    assert result["offset"] == 4
    assert "publications" not in result


def test_an_empty_epoch_is_any(house, had):
    result = recover(house.sdk_peer(), had, epoch="")
    assert result["recovered"] is True
    assert result["epoch"] == had["epoch"]
    assert [each["data"] for each in result["publications"]] == ["b", "c", "d"]


def test_from_nowhere_everything_is_recovered_if_everything_is_kept(house, had):
    peer = house.sdk_peer()
    assert peer.joins("room", recover=True)["recovered"] is True
    assert peer.messages == ["a", "b", "c", "d"]


def test_an_empty_room_is_recovered_from_nowhere(house):
    assert house.sdk_peer().joins("room", recover=True)["recovered"] is True


def test_as_much_as_may_be_recovered_is(make_house):
    house = make_house(sdk_limits=SdkLimits(recovered=3))
    house.publish("a")
    had = position_in(house)
    house.publish_many(range(3))
    assert len(recover(house.sdk_peer(), had)["publications"]) == 3


def test_more_than_a_burst_follows_the_reply_in_order_and_once(house, had):
    big = ["x" * 9000 + str(number) for number in range(20)]
    house.publish_many(big)
    peer = house.sdk_peer()
    peer.transport.socket.shut()
    asked = peer.begins(subscribe={"channel": "room", "recover": True} | had)
    assert peer.reply(asked)["subscribe"]["recovered"] is True
    assert 3 < len(peer.messages) < 20
    house.publish("meanwhile")
    peer.transport.socket.open()
    peer.goes_on()
    house.publish("live")
    assert peer.messages == ["b", "c", "d", *big, "meanwhile", "live"]
    assert [each["offset"] for each in peer.publications] == list(range(2, 27))


# Failure


FAILURES = {
    "another epoch": {"epoch": "other"},
    "the epoch that cannot match": {"epoch": "_", "offset": 0},
    "an offset that is still to come": {"offset": 5},
}


@pytest.mark.parametrize("wishes", FAILURES.values(), ids=FAILURES.keys())
def test_what_cannot_be_recovered_is_said(house, had, wishes):
    peer = house.sdk_peer()
    result = recover(peer, had, **wishes)
    assert result == {
        "recoverable": True,
        "positioned": True,
        "was_recovering": True,
        "epoch": had["epoch"],
        "offset": 4,
    }
    house.publish("e")
    assert peer.messages == ["e"]


@pytest.mark.parametrize("wishes", FAILURES.values(), ids=FAILURES.keys())
def test_who_wants_no_subscription_then_gets_an_error(house, had, wishes):
    peer = house.sdk_peer()
    assert peer.fails(subscribe={"channel": "room", "recover": True, "flag": 3} | had | wishes) == 112
    assert peer.closes == []
    house.publish("e")
    assert peer.messages == []
    peer.joins("room")


def test_a_flag_of_compaction_alone_changes_nothing(house, had):
    assert recover(house.sdk_peer(), had, flag=1, epoch="other")["was_recovering"] is True


def test_what_is_no_longer_kept_is_not_recovered_in_part(house, had):
    house.rules.history = History(size=2)
    house.publish("e")
    result = recover(house.sdk_peer(), had)
    assert "recovered" not in result
    assert "publications" not in result
    assert result["offset"] == 5
    assert recover(house.sdk_peer(), had, offset=3)["recovered"] is True


def test_more_than_may_be_recovered_is_not_recovered_in_part(make_house):
    house = make_house(sdk_limits=SdkLimits(recovered=3))
    house.publish("a")
    had = position_in(house)
    house.publish_many(range(4))
    result = recover(house.sdk_peer(), had)
    assert "recovered" not in result
    assert "publications" not in result


def test_a_room_that_has_lost_everything_says_so(house, had):
    house.broker._streams.clear()
    result = recover(house.sdk_peer(), had)
    assert "recovered" not in result
    assert result["epoch"] != had["epoch"]


def test_a_room_without_history_recovers_nothing(house):
    assert house.sdk_peer().joins("passing", recover=True, epoch="x", offset=3) == {}


# Meanwhile


def test_what_comes_meanwhile_and_is_read_too_comes_once(house, had):
    house.broker.gates["subscribe"].shut()
    peer = house.sdk_peer()
    peer.begins(subscribe={"channel": "room", "recover": True} | had)
    house.publish_many(["e", "f"])
    house.broker.gates["subscribe"].open()
    house.broker.gates["read"].shut()
    peer.goes_on()
    house.publish("g")
    house.broker.gates["read"].open()
    peer.goes_on()
    house.publish("h")
    assert peer.messages == list("bcdefgh")
    assert [[*each][-1] for each in peer.received][:2] == ["connect", "subscribe"]


def test_what_comes_meanwhile_where_nothing_is_recovered_comes_after_the_reply(house, had):
    house.broker.gates["read"].shut()
    peer = house.sdk_peer()
    peer.begins(subscribe={"channel": "room", "recover": True} | had | {"epoch": "other"})
    house.publish("e")
    house.broker.gates["read"].open()
    peer.goes_on()
    assert peer.messages == ["e"]


def test_a_hole_in_what_was_held_is_read_from_history(house, had):
    house.broker.gates["read"].shut()
    peer = house.sdk_peer()
    peer.begins(subscribe={"channel": "room", "recover": True} | had)
    house.broker.is_mute = True
    house.publish("e")
    house.broker.lose()
    house.publish("f")
    house.broker.gates["read"].open()
    peer.goes_on()
    assert peer.messages == list("bcdef")


def test_a_hole_that_history_does_not_have_any_more_ends_the_subscription(house, had):
    house.rules.history = History(size=1)
    house.broker.gates["read"].shut()
    peer = house.sdk_peer()
    asked = peer.begins(subscribe={"channel": "room"})
    house.broker.is_mute = True
    house.publish("e")
    house.broker.lose()
    house.publish("f")
    house.broker.gates["read"].open()
    peer.goes_on()
    assert "subscribe" in peer.reply(asked)
    assert peer.pushes == [{"channel": "room", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}]
    house.publish("g")
    assert peer.messages == []
    assert "recovered" not in recover(peer, had)


def test_a_room_that_cannot_be_read_while_it_is_caught_up_with_is_asked_for_again(house, had, caplog):
    house.broker.gates["read"].shut()
    peer = house.sdk_peer()
    peer.begins(subscribe={"channel": "room"})
    house.broker.is_mute = True
    house.publish("e")
    house.broker.lose()
    house.publish("f")
    house.broker.gates["read"].open()
    subscribed = house.broker.read

    async def read(*arguments, **options):
        if options.get("since") is None:
            return await subscribed(*arguments, **options)
        raise NotAvailable("as asked")

    house.broker.read = read
    peer.goes_on()
    assert [each["code"] for each in peer.pushed("unsubscribe")] == [2500]
    del house.broker.read
    assert [each["data"] for each in recover(peer, had | {"offset": 4})["publications"]] == ["e", "f"]


def test_leaving_while_catching_up_ends_what_comes(house, had, monkeypatch):
    monkeypatch.setattr(any_membership, "BURST_BYTES", 2000)
    house.publish_many(["x" * 900] * 20)
    peer = house.sdk_peer("alice")
    peer.transport.socket.shut()
    peer.begins(subscribe={"channel": "room", "recover": True} | had)
    house.orders(orders.UnsubscribeUser(user="id-of-alice", room="room"))
    number = len(peer.messages)
    peer.transport.socket.open()
    peer.goes_on()
    house.publish("after")
    assert len(peer.messages) == number
    assert peer.received[-1]["push"]["unsubscribe"]["code"] == 2000
    assert not house.node.hub.rooms


# Losses of the bus, live


def lose(house, message):
    house.broker.is_mute = True
    house.publish(message)
    house.broker.lose()


def test_what_the_bus_has_lost_is_read_from_history(house):
    peer = house.sdk_peer("", "room")
    house.publish("a")
    lose(house, "b")
    house.publish("c")
    house.runtime.turn()
    assert peer.messages == ["a", "b", "c"]
    assert peer.pushed("unsubscribe") == []


def test_what_is_lost_for_good_ends_the_subscription_and_the_connection_goes_on(house):
    house.rules.history = History(size=1)
    peer, other = house.sdk_peer("", "room", "passing"), house.sdk_peer("", "room")
    house.publish("a")
    lose(house, "b")
    house.publish("c")
    house.runtime.turn()
    for each in (peer, other):
        assert each.messages == ["a"]
        assert each.pushed("unsubscribe") == [{"code": 2500, "reason": "insufficient state"}]
        assert each.closes == []
    house.publish("still here", "passing")
    assert peer.messages == ["a", "still here"]


def test_a_subscription_of_the_server_ends_with_its_connection(house):
    house.rules.history = History(size=1)
    house.application.tokens["t"] = Identity(user="alice", id="1", name="alice", grants={"room": Grant()})
    peer = house.sdk_newcomer()
    peer.connects("t")
    house.publish("a")
    lose(house, "b")
    house.publish("c")
    house.runtime.turn()
    # Its client cannot ask for it again by itself.
    assert peer.closes == [3010]
    assert peer.received[-1] == {"push": {"disconnect": {"code": 3010, "reason": "insufficient state"}}}
    assert peer.messages == ["a"]
    house.runtime.turn()
    assert house.is_empty


def test_another_epoch_ends_the_subscription(house):
    peer = house.sdk_peer("", "room")
    house.publish("a")
    house.broker._streams.clear()
    lose(house, "b")
    house.publish("c")
    house.runtime.turn()
    assert [each["code"] for each in peer.pushed("unsubscribe")] == [2500]


def test_what_comes_again_is_not_written_again(house):
    peer = house.sdk_peer("", "room")
    house.broker.is_mute = True
    house.publish("a")
    (again,) = house.broker.undelivered
    house.broker.speak()
    house.broker.deliver(*again)
    house.publish("b")
    assert peer.messages == ["a", "b"]


def test_only_those_of_the_other_protocol_go_on_after_a_gap(house):
    house.rules.history = History(size=1)
    plain, peer = house.member(), house.sdk_peer("", "room")
    house.publish("a")
    lose(house, "b")
    house.publish("c")
    house.runtime.turn()
    assert plain.messages == ["a", "c"]
    assert [frame["gap"]["offset"] for frame in plain.received if "gap" in frame] == [2]
    assert peer.messages == ["a"]
    assert house.node.hub.rooms["room"].live_count == 1


def test_a_position_that_is_ahead_waits_for_the_others(house):
    first = house.sdk_peer("", "room")
    house.broker.is_mute = True
    house.publish_many(["a", "b"])
    second = house.sdk_peer()
    second.joins("room", recover=True)
    house.broker.speak()
    house.publish("c")
    house.runtime.turn()
    assert first.messages == second.messages == ["a", "b", "c"]
    assert house.node.hub.rooms["room"].delivered == Position(position_in(house)["epoch"], 3)


def test_who_wants_no_subscription_without_recovery_gets_an_error_where_there_is_no_history(house):
    peer = house.sdk_peer()
    asked = {"channel": "passing", "recover": True, "offset": 4, "epoch": "other"}
    assert peer.fails(subscribe=asked | {"flag": 2}) == 112
    assert peer.joins("passing", recover=True, offset=4, epoch="other") == {}
