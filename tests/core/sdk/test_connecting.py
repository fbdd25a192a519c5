"""From the first frame to the last: who connects and how, pings and pongs, how long it lasts, what it is told last."""

from __future__ import annotations

import pytest
from msgspec import Raw

from yamabiko.core.errors import (
    INVALID_TOKEN,
    NO_PONG,
    SHUTDOWN,
    SLOW,
    TOO_BIG,
    WRITE_ERROR,
    Close,
    Expired,
    NotAvailable,
    TokenExpired,
)
from yamabiko.core.identity import Grant, Identity
from yamabiko.core.sdk.limits import SdkLimits


def alice(**said):
    return Identity(**({"user": "alice", "id": "1", "name": "alice"} | said))


# Who is let in


def test_a_connection_is_told_its_client_the_version_and_how_often_it_is_pinged(house):
    peer = house.sdk_newcomer("alice")
    assert peer.asks(connect={}) == {
        "connect": {"client": peer.client, "version": peer.received[0]["connect"]["version"], "ping": 25, "pong": True}
    }
    assert peer.received[0]["connect"]["version"]


def test_every_connection_has_a_client_of_its_own(house):
    assert len({house.sdk_newcomer("alice").connects()["client"] for _ in range(50)}) == 50


def test_a_token_says_who_it_is(house):
    house.application.tokens["t"] = alice()
    peer = house.sdk_newcomer()
    peer.connects("t")
    assert peer.connection.user == "alice"


@pytest.mark.parametrize(
    "request_object",
    [
        {"id": 1, "subscribe": {"channel": "room"}},
        {"id": 1, "publish": {"channel": "room", "data": 1}},
        {"id": 1, "rpc": {"method": "x"}},
        {"id": 1, "ping": {}},
        {"send": {"data": 1}},
        {"connect": {}},
        {"id": 1},
        {},
    ],
    ids=str,
)
def test_anything_else_than_connect_comes_too_early(house, request_object):
    peer = house.sdk_newcomer()
    peer.says(request_object, {"id": 2, "connect": {}})
    assert peer.closes == [3501]
    assert peer.received == [{"push": {"disconnect": {"code": 3501, "reason": "bad request"}}}]


def test_a_second_connect_is_one_too_many(house):
    peer = house.sdk_peer()
    peer.begins(connect={})
    assert peer.closes == [3501]


@pytest.mark.parametrize("frame", ["", "  \n", "{", "[]", "{}}", b"{}", '{"id":1,"connect":{}}\n\n{}', '{"id":"1"}'])
def test_what_is_no_frame_of_commands_ends_the_connection(house, frame):
    peer = house.sdk_newcomer()
    peer.sends(frame)
    assert peer.closes == [3501]


def test_what_came_before_a_broken_command_is_answered(house):
    peer = house.sdk_newcomer()
    peer.sends('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"room"}}\n{"id":')
    assert [[*each] for each in peer.received] == [["id", "connect"], ["id", "subscribe"], ["push"]]
    assert peer.closes == [3501]


def test_a_command_without_an_id_is_none(house):
    peer = house.sdk_peer()
    peer.says({"subscribe": {"channel": "room"}})
    assert peer.closes == [3501]


def test_an_id_alone_is_no_command(house):
    peer = house.sdk_peer()
    peer.connection.ping()
    peer.says({"id": 9})
    assert peer.closes == [3501]


def test_unknown_fields_and_unknown_commands_beside_known_ones_are_passed_over(house):
    peer = house.sdk_newcomer()
    peer.says({"id": 1, "connect": {"flag": 5, "new": {"a": []}}, "newer": 7})
    assert "connect" in peer.reply(1)


def test_a_token_that_cannot_be_trusted_ends_the_connection(house):
    house.application.tokens["t"] = INVALID_TOKEN.anew()
    peer = house.sdk_newcomer()
    peer.begins(connect={"token": "t"})
    assert peer.closes == [3500]
    assert peer.received == [{"push": {"disconnect": {"code": 3500, "reason": "invalid token"}}}]


@pytest.mark.parametrize(
    ("error", "code", "is_temporary"), [(TokenExpired(), 109, False), (Expired(), 110, False), (OSError(), 100, True)]
)
def test_a_connect_that_is_refused_is_answered_and_what_else_is_asked_is_not(house, error, code, is_temporary):
    house.application.tokens["t"] = error
    peer = house.sdk_newcomer()
    peer.says({"id": 1, "connect": {"token": "t"}}, {"id": 2, "subscribe": {"channel": "room"}})
    assert peer.reply(1)["error"]["code"] == code
    assert peer.reply(1)["error"].get("temporary", False) is is_temporary
    assert peer.reply(1)["error"]["message"]
    # Terminal would keep the client from coming back with another token.
    assert peer.closes == [3000]
    assert len(peer.received) == 2
    assert house.is_empty


def test_who_was_refused_cannot_try_again_on_the_same_connection(house):
    house.application.tokens["t"] = TokenExpired()
    peer = house.sdk_newcomer()
    peer.begins(connect={"token": "t"})
    assert peer.closes == []
    peer.begins(connect={})
    assert peer.closes == [3000]


def test_who_does_not_connect_in_time_is_closed(house):
    silent, connected = house.sdk_newcomer(), house.sdk_peer()
    house.runtime.wind(9)
    assert silent.closes == []
    house.runtime.wind(2)
    assert silent.closes == [3502]
    house.runtime.wind(1000)
    assert connected.closes == []


def test_the_time_to_connect_is_a_limit(make_house):
    house = make_house(sdk_limits=SdkLimits(connect_timeout_seconds=3))
    silent = house.sdk_newcomer()
    house.runtime.wind(4)
    assert silent.closes == [3502]


def test_who_leaves_before_connecting_leaves_nothing_behind(house):
    peer = house.sdk_newcomer()
    peer.leaves()
    assert house.is_empty
    house.runtime.wind(11)
    assert peer.closes == []


# Connect and subscribe in one frame


def test_what_follows_connect_in_its_frame_waits_for_it(house):
    house.application.gates["identify"].shut()
    peer = house.sdk_newcomer("alice")
    peer.says({"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "room"}})
    peer.says({"id": 3, "publish": {"channel": "room", "data": "mine"}})
    house.publish("before")
    assert peer.received == []
    house.application.gates["identify"].open()
    peer.goes_on()
    assert [[*each][-1] for each in peer.received] == ["connect", "subscribe", "push", "publish"]
    assert peer.messages == ["mine"]
    assert peer.reply(2)["subscribe"]["offset"] == 1


def test_a_connection_that_ends_while_it_is_identified_enters_nothing(house):
    house.application.gates["identify"].shut()
    peer = house.sdk_newcomer("alice")
    peer.says({"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "room"}})
    peer.leaves()
    house.application.gates["identify"].open()
    peer.goes_on()
    house.runtime.wind(60)
    assert peer.received == []
    assert house.is_empty


def test_who_is_not_identified_in_time_is_closed(house):
    house.application.gates["identify"].shut()
    peer = house.sdk_newcomer("alice")
    peer.begins(connect={})
    house.runtime.wind(11)
    assert peer.closes == [3502]
    house.application.gates["identify"].open()
    peer.goes_on()
    assert house.is_empty


# Rooms that the token grants


def granted(house, **grants):
    house.application.tokens["t"] = alice(grants=grants)


def test_rooms_of_the_token_are_in_the_reply_whatever_their_class_says_of_joining(house):
    house.rules.is_open = False
    house.publish("old")
    granted(house, room=Grant(data=Raw(b'{"a":1}')), passing=Grant())
    peer = house.sdk_newcomer()
    subs = peer.connects("t")["subs"]
    assert subs["passing"] == {}
    epoch = subs["room"].pop("epoch")
    assert epoch
    assert subs["room"] == {"recoverable": True, "positioned": True, "offset": 1, "data": {"a": 1}}
    house.publish("live")
    assert peer.messages == ["live"]


def test_what_is_published_while_the_rooms_of_the_token_are_entered_comes_after_the_reply(house):
    granted(house, room=Grant())
    house.broker.gates["read"].shut()
    peer = house.sdk_newcomer()
    peer.begins(connect={"token": "t"})
    house.publish("meanwhile")
    house.broker.gates["read"].open()
    peer.goes_on()
    assert [[*each][-1] for each in peer.received] == ["connect", "push"]
    assert peer.messages == ["meanwhile"]


def test_rooms_of_the_token_are_recovered_with_connect(house):
    granted(house, room=Grant())
    first = house.sdk_newcomer()
    had = first.connects("t")["subs"]["room"]
    first.leaves()
    house.publish_many(["a", "b"])
    second = house.sdk_newcomer()
    subs = {"room": {"recover": True, "offset": had.get("offset", 0), "epoch": had["epoch"]}, "elsewhere": {}}
    result = second.connects("t", subs=subs)["subs"]["room"]
    assert result["recovered"] is result["was_recovering"] is True
    assert second.messages == ["a", "b"]
    house.publish("c")
    assert second.messages == ["a", "b", "c"]


def test_a_room_of_the_token_that_does_not_exist_is_left_out_and_told_in_the_log(house, caplog):
    granted(house, nowhere=Grant(), room=Grant())
    peer = house.sdk_newcomer()
    assert list(peer.connects("t")["subs"]) == ["room"]
    assert "nowhere" in caplog.text


@pytest.mark.parametrize("trouble", ["read", "can_publish"])
def test_a_room_of_the_token_that_cannot_be_entered_for_now_is_not_given_up(house, trouble):
    granted(house, passing=Grant(), room=Grant())
    if trouble == "read":
        house.broker.read_fails_with = NotAvailable("as asked")
    else:

        async def fail(user):
            raise OSError("as asked")

        house.rules.can_publish = fail
    peer = house.sdk_newcomer()
    peer.begins(connect={"token": "t"})
    assert peer.closes == [3004]
    house.runtime.wind(1)
    assert house.is_empty


def test_more_rooms_than_a_connection_may_have_end_it(make_house):
    house = make_house(sdk_limits=SdkLimits(rooms=1))
    granted(house, passing=Grant(), room=Grant())
    peer = house.sdk_newcomer()
    peer.begins(connect={"token": "t"})
    assert peer.closes == [3505]


# How long it lasts


def test_a_connection_that_ends_says_when(house):
    house.application.tokens["t"] = alice(expires_in_seconds=60.9)
    result = house.sdk_newcomer().connects("t")
    assert (result["expires"], result["ttl"]) == (True, 60)


def test_a_connection_that_is_not_renewed_ends_after_a_grace(house):
    house.application.tokens["t"] = alice(expires_in_seconds=60.0)
    peer = house.sdk_newcomer()
    peer.connects("t")
    house.runtime.wind(60 + 24)
    assert peer.closes == []
    house.runtime.wind(2)
    assert peer.closes == [3005]
    assert peer.pushed("disconnect") == [{"code": 3005, "reason": "connection expired"}]


def test_a_renewed_connection_lasts(house):
    house.application.tokens |= {"t": alice(expires_in_seconds=60.0), "u": alice(expires_in_seconds=100.0)}
    peer = house.sdk_newcomer()
    version = peer.connects("t")["version"]
    house.runtime.wind(60)
    assert peer.asks(refresh={"token": "u"})["refresh"] == {
        "client": peer.client,
        "version": version,
        "expires": True,
        "ttl": 100,
    }
    house.runtime.wind(100 + 24)
    assert peer.closes == []
    house.runtime.wind(2)
    assert peer.closes == [3005]


def test_a_connection_renewed_for_ever_does_not_end(house):
    house.application.tokens |= {"t": alice(expires_in_seconds=60.0), "u": alice()}
    peer = house.sdk_newcomer()
    peer.connects("t")
    assert "expires" not in peer.asks(refresh={"token": "u"})["refresh"]
    house.runtime.wind(10_000)
    assert peer.closes == []


REFRESHES = {
    "no token": ("", 3501),
    "another user": ("bob", 3500),
    "not to be trusted": ("bad", 3500),
    "expired": ("old", 3005),
    "a connection that was to end before now": ("over", 3005),
    "other rooms": ("moved", 3010),
}


@pytest.mark.parametrize(("token", "code"), REFRESHES.values(), ids=REFRESHES.keys())
def test_a_refresh_that_cannot_be_ends_the_connection(house, token, code):
    house.application.tokens |= {
        "t": alice(),
        "bob": alice(id="2"),
        "bad": INVALID_TOKEN.anew(),
        "old": TokenExpired(),
        "over": Expired(),
        "moved": alice(grants={"room": Grant()}),
    }
    peer = house.sdk_newcomer()
    peer.connects("t")
    peer.begins(refresh={"token": token} if token else {})
    assert peer.closes == [code]


def test_what_a_refresh_says_of_a_user_is_in_what_is_published_next(house):
    house.application.tokens |= {"t": alice(info=Raw(b"1")), "u": alice(info=Raw(b"2"))}
    peer = house.sdk_newcomer()
    peer.connects("t")
    peer.joins("room")
    peer.asks(publish={"channel": "room", "data": "a"})
    peer.asks(refresh={"token": "u"})
    peer.asks(publish={"channel": "room", "data": "b"})
    assert [each["info"]["conn_info"] for each in peer.publications] == [1, 2]


def test_a_connection_that_ends_while_it_is_refreshed_holds_on_to_nothing(house):
    house.application.tokens |= {"t": alice(), "u": alice(expires_in_seconds=60.0)}
    peer = house.sdk_newcomer()
    peer.connects("t")
    house.application.gates["identify"].shut()
    peer.begins(refresh={"token": "u"})
    peer.leaves()
    house.application.gates["identify"].open()
    peer.goes_on()
    assert all(deadline.is_cancelled for _, _, deadline in house.node._deadlines._heap)


# Pings


def test_a_ping_is_an_empty_reply_and_its_answer_an_empty_command(house):
    peer = house.sdk_peer()
    assert peer.connection.ping()
    assert peer.received[-1] == {}
    peer.sends("{}")
    assert peer.closes == []


@pytest.mark.parametrize("pings", [0, 1, 2])
def test_each_ping_is_answered_once(house, pings):
    peer = house.sdk_peer()
    for _ in range(pings):
        peer.connection.ping()
    for _ in range(pings):
        peer.sends("{}")
    assert peer.closes == []
    peer.sends("{}")
    assert peer.closes == [3501]


def test_who_is_not_told_yet_that_it_is_connected_is_not_pinged(house):
    house.application.tokens["t"] = alice(grants={"room": Grant()})
    house.broker.gates["read"].shut()
    peer = house.sdk_newcomer()
    assert not peer.connection.ping()
    peer.begins(connect={"token": "t"})
    # It would not answer, as it does not know yet that it should.
    assert not peer.connection.ping()
    assert peer.received == []
    house.broker.gates["read"].open()
    peer.goes_on()
    assert peer.connection.ping()


def test_a_peer_may_ask_to_be_pinged_by_websocket_s_own_pings(house):
    peer = house.sdk_newcomer(pings=False)
    result = peer.connects()
    assert "ping" not in result
    assert "pong" not in result
    assert not peer.connection.ping()
    peer.sends("{}")
    assert peer.closes == [3501]


# The last word


@pytest.mark.parametrize("close", [SHUTDOWN, NO_PONG, Close(3503, "force disconnect"), Close(4500, "mine")], ids=str)
def test_every_close_of_ours_is_told_in_words_before(house, close):
    peer = house.sdk_peer("alice", "room")
    peer.connection.close(close)
    assert peer.received[-1] == {"push": {"disconnect": {"code": close.code, "reason": close.reason}}}
    assert peer.closes == [close.code]


@pytest.mark.parametrize("close", [SLOW, WRITE_ERROR, TOO_BIG], ids=str)
def test_a_peer_that_does_not_read_and_codes_of_websocket_itself_need_no_words(house, close):
    peer = house.sdk_peer()
    peer.connection.close(close)
    assert peer.pushes == []
    assert peer.closes == [close.code]


def test_nothing_more_is_handled_of_a_frame_that_ended_the_connection(house):
    peer = house.sdk_peer("alice", "room")
    reader = house.sdk_peer("", "room")
    peer.says({"send": {"data": 1}}, {"id": 9, "publish": {"channel": "room", "data": "too late"}})
    assert peer.closes == [3508]
    assert reader.messages == []


def test_a_mistake_of_ours_in_a_command_is_answered_as_temporary(house, caplog):
    async def fail(user):
        raise ZeroDivisionError("as asked")

    house.rules.can_join = fail
    peer = house.sdk_peer()
    error = peer.asks(subscribe={"channel": "room"})["error"]
    assert (error["code"], error["temporary"]) == (100, True)
    assert "ZeroDivisionError" in caplog.text
    assert peer.joins("passing") == {}
