"""One frame may ask for much: no peer is sent more than it takes, and nobody waits until it is all answered."""

from __future__ import annotations

import pytest

from tests.core.fakes import House
from yamabiko.core.errors import LimitExceeded
from yamabiko.core.sdk.connection import MOST_AT_ONCE
from yamabiko.core.sdk.limits import LONGEST_TTL, SdkLimits, expiry


@pytest.fixture
def small(house: House) -> House:
    """A house whose answers have at most 2,000 bytes."""
    house.node.sdk_limits = SdkLimits(answer_bytes=2000)
    return house


def test_many_commands_of_a_frame_are_answered_as_the_peer_takes_the_answers(house):
    house.publish_many(["x" * 1000] * 10)
    peer = house.sdk_peer("", "room")
    before = len(peer.received)
    peer.transport.socket.shut()
    peer.says(*({"id": 100 + number, "history": {"channel": "room", "limit": 10}} for number in range(40)))
    assert len(peer.received) == before + 1
    peer.transport.socket.open()
    peer.goes_on()
    assert len(peer.received) == before + 40


def test_more_than_some_commands_of_a_frame_are_not_answered_at_once(house):
    peer = house.sdk_peer("", "passing")
    house.broker.answers_at_once = True
    publish = '{"id":7,"publish":{"channel":"passing","data":1}}'
    assert peer.connection.receive_at_once("\n".join([publish] * MOST_AT_ONCE))
    assert not peer.connection.receive_at_once("\n".join([publish] * (MOST_AT_ONCE + 1)))


def test_a_page_of_history_has_as_many_publications_as_an_answer_holds(small):
    small.publish_many(["x" * 400] * 10)
    peer = small.sdk_peer("", "room")
    page = peer.asks(history={"channel": "room", "limit": 10})["history"]
    assert (len(page["publications"]), page["offset"]) == (2, 10)
    since = {"epoch": page["epoch"], "offset": page["publications"][-1]["offset"]}
    following = peer.asks(history={"channel": "room", "limit": 10, "since": since})["history"]
    assert [each["offset"] for each in following["publications"]] == [3, 4]


def test_one_publication_that_alone_fills_an_answer_is_there_nevertheless(small):
    small.publish("x" * 1500)
    peer = small.sdk_peer("", "room")
    assert len(peer.asks(history={"channel": "room", "limit": 10})["history"]["publications"]) == 1


def test_a_list_of_who_is_there_that_no_peer_could_take_is_refused(small):
    small.rules.presence = True
    peers = [small.sdk_peer("", "room") for _ in range(40)]
    small.runtime.wind(1)
    assert peers[0].fails(presence={"channel": "room"}) == LimitExceeded.code
    assert peers[0].asks(presence_stats={"channel": "room"})["presence_stats"]["num_clients"] == 40
    assert peers[0].connection.is_open


def test_a_result_of_a_call_that_no_peer_could_take_is_refused(small):
    async def tell_much(user: object, arguments: bytes) -> bytes:
        return b'"%s"' % (b"x" * 3000)

    small.application.calls["tell_much"] = tell_much
    peer = small.sdk_peer()
    asked = peer.begins(rpc={"method": "tell_much"})
    small.runtime.turn()
    assert peer.reply(asked)["error"]["code"] == LimitExceeded.code


@pytest.mark.parametrize(("seconds", "told"), [(2.0**40, LONGEST_TTL), (0.2, 1), (61.9, 61)])
def test_a_time_to_live_is_what_the_protocol_can_say(seconds, told):
    assert expiry(seconds) == (True, told)
