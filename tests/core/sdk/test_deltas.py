"""Publications as what has changed since the one before: for those who ask, where it is shorter, and never wrongly."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.core.fakes import House, SdkPeer, run
from tests.core.test_fossil import apply
from yamabiko.codecs.sdk_json import SDK_JSON
from yamabiko.core import room as room_module
from yamabiko.core.messages import encode_message


def state(number: int) -> dict[str, Any]:
    """A large message that changes little."""
    return {"players": [{"name": f"山彦{each}", "points": 10} for each in range(30)], "turn": number}


@pytest.fixture
def room(house: House) -> House:
    house.rules.delta = True
    return house


def taker(house: House, **wishes: Any) -> SdkPeer:
    peer = house.sdk_peer()
    assert peer.joins(delta="fossil", **wishes)["delta"] is True
    return peer


def pubs(peer: SdkPeer) -> list[dict[str, Any]]:
    return [reply["push"]["pub"] for reply in peer.received if "pub" in reply.get("push", {})]


def read(pubs: list[dict[str, Any]], base: str | None = None) -> list[Any]:
    """Return the messages, each delta applied to the message before."""
    messages = []
    for pub in pubs:
        if pub.get("delta"):
            assert base is not None
            base = apply(base.encode(), pub["data"].encode()).decode()
        else:
            base = pub["data"]
        messages.append(json.loads(base))
    return messages


def test_the_first_message_is_whole_and_the_next_are_deltas(room):
    peer = taker(room)
    for number in range(4):
        room.publish(state(number))
    assert [pub.get("delta", False) for pub in pubs(peer)] == [False, True, True, True]
    assert read(pubs(peer)) == [state(number) for number in range(4)]
    assert len(pubs(peer)[1]["data"]) < len(encode_message(state(1))) / 10


def test_a_newcomer_gets_a_whole_message_while_others_get_deltas(room):
    early = taker(room)
    room.publish(state(0))
    late = taker(room)
    room.publish(state(1))
    room.publish(state(2))
    assert [pub.get("delta", False) for pub in pubs(early)] == [False, True, True]
    assert [pub.get("delta", False) for pub in pubs(late)] == [False, True]
    assert read(pubs(late)) == [state(1), state(2)]


def test_members_who_did_not_ask_get_every_message_whole(room):
    plain, ordinary, _ = room.member(), room.sdk_peer(), taker(room)
    ordinary.joins()
    for number in range(3):
        room.publish(state(number))
    assert plain.messages == [pub["data"] for pub in pubs(ordinary)] == [state(0), state(1), state(2)]


def test_a_delta_that_is_not_shorter_is_not_sent(room):
    peer = taker(room)
    for message in ("a", {"b": 1}, None):
        room.publish(message)
    assert [pub.get("delta", False) for pub in pubs(peer)] == [False, False, False]
    assert read(pubs(peer)) == ["a", {"b": 1}, None]


def test_what_was_missed_comes_whole_and_deltas_go_on_from_it(room):
    peer = taker(room)
    room.publish(state(0))
    position = room.publish(state(1))
    peer.leaves()
    watcher = taker(room)
    room.publish(state(2))
    back = room.sdk_peer()
    reply = back.joins(delta="fossil", recover=True, epoch=position.epoch, offset=position.offset)
    room.publish(state(3))
    missed = [json.loads(pub["data"]) for pub in reply["publications"]]
    assert missed == [state(2)]
    assert read(pubs(back), reply["publications"][-1]["data"]) == [state(3)]
    assert [pub.get("delta", False) for pub in pubs(back)] == [True]
    assert read(pubs(watcher)) == [state(2), state(3)]


def test_who_missed_nothing_gets_a_whole_message_first_as_it_may_have_had_none(room):
    watcher = taker(room)
    position = room.publish(state(0))
    back = room.sdk_peer()
    back.joins(delta="fossil", recover=True, epoch=position.epoch, offset=position.offset)
    room.publish(state(1))
    room.publish(state(2))
    assert [pub.get("delta", False) for pub in pubs(back)] == [False, True]
    assert read(pubs(back)) == read(pubs(watcher))[1:] == [state(1), state(2)]


def test_a_message_that_is_not_kept_is_no_base_for_those_who_come_back(room):
    watcher, peer = taker(room), taker(room)
    room.publish(state(0))
    position = room.publish(state(1))
    peer.leaves()
    room.publish(state(2))
    run(room.node.publish("room", encode_message(state(7)), is_kept=False))
    back = room.sdk_peer()
    reply = back.joins(delta="fossil", recover=True, epoch=position.epoch, offset=position.offset)
    room.publish(state(3))
    room.publish(state(4))
    assert read(pubs(back), reply["publications"][-1]["data"]) == [state(3), state(4)]
    assert [pub.get("delta", False) for pub in pubs(watcher)] == [False, True, True, False, False, True]
    assert read(pubs(watcher)) == [state(number) for number in (0, 1, 2, 7, 3, 4)]


def test_a_message_before_a_gap_is_no_base_for_those_who_know_what_came_in_it(room):
    taker(room)
    position = room.publish(state(0))
    room.broker.is_mute = True
    room.publish_many([state(1), state(2)])
    ahead = room.sdk_peer()
    reply = ahead.joins(delta="fossil", recover=True, epoch=position.epoch, offset=position.offset)
    room.broker.is_mute = False
    run(room.broker.forget("room"))
    room.publish(state(3))
    room.runtime.turn()
    room.publish(state(4))
    assert [pub.get("delta", False) for pub in pubs(ahead)] == [False, True]
    assert read(pubs(ahead), reply["publications"][-1]["data"]) == [state(3), state(4)]


def test_what_comes_while_a_member_joins_is_whole(room):
    early = taker(room)
    room.publish(state(0))
    room.broker.gates["read"].shut()
    late = room.sdk_peer()
    asked = late.begins(subscribe={"channel": "room", "delta": "fossil"})
    room.publish(state(1))
    room.broker.gates["read"].open()
    late.goes_on()
    assert late.reply(asked)["subscribe"]["delta"] is True
    room.publish(state(2))
    assert read(pubs(late))[-1] == state(2)
    assert read(pubs(early)) == [state(0), state(1), state(2)]


def test_a_delta_is_computed_once_for_all(room, monkeypatch):
    made = []
    monkeypatch.setattr(room_module, "delta", lambda *given: made.append(given) or real(*given))
    for _ in range(20):
        taker(room)
    for number in range(3):
        room.publish(state(number))
    assert len(made) == 2


real = room_module.delta


@pytest.mark.parametrize("where", ["passing", "room"])
def test_rooms_that_do_not_offer_deltas_send_none(house, where):
    peer = house.sdk_peer()
    assert "delta" not in peer.joins(where, delta="fossil")
    house.publish(state(0), where)
    house.publish(state(1), where)
    assert [pub["data"] for pub in pubs(peer)] == [state(0), state(1)]


def test_a_reply_to_who_takes_deltas_is_still_ordinary(room):
    peer = taker(room)
    room.publish({"a": 1})
    history = peer.asks(history={"channel": "room", "limit": 5})["history"]
    assert history["publications"][0]["data"] == {"a": 1}
    assert SDK_JSON.deltas is not SDK_JSON
