"""What a connected peer asks of its rooms and of the server: publish, history, presence, calls."""

from __future__ import annotations

import pytest
from msgspec import Raw

from tests.core.fakes import Gate, run
from yamabiko.core.errors import NotAvailable, PublishFailed, Refused
from yamabiko.core.identity import Identity
from yamabiko.core.messages import History, encode_message
from yamabiko.core.sdk.limits import SdkLimits

# Publishing


def test_a_publication_comes_back_with_who_published_it_and_is_confirmed(house):
    house.application.tokens["t"] = Identity(user="alice", id="7", name="alice", info=Raw(b'{"name":"alice"}'))
    peer, reader = house.sdk_newcomer(), house.sdk_peer("", "room")
    peer.connects("t")
    peer.joins("room")
    assert peer.asks(publish={"channel": "room", "data": {"a": [1]}}) == {"publish": {}}
    publication = {
        "data": {"a": [1]},
        "info": {"user": "7", "client": peer.client, "conn_info": {"name": "alice"}},
        "offset": 1,
    }
    assert peer.publications == reader.publications == [publication]


def test_what_the_application_publishes_is_by_nobody(house):
    peer = house.sdk_peer("", "room", "passing")
    house.publish("a")
    house.publish("b", "passing")
    assert peer.publications == [{"data": "a", "offset": 1}, {"data": "b"}]


@pytest.mark.parametrize("data", ["null", '""', "0", "[]", "{}", "false"])
def test_any_json_is_data(house, data):
    peer = house.sdk_peer("", "room")
    peer.sends('{"id":9,"publish":{"channel":"room","data":' + data + "}}")
    assert peer.reply(9) == {"publish": {}}
    assert len(peer.messages) == 1


def test_no_data_is_not_published(house):
    peer = house.sdk_peer("", "room")
    assert peer.fails(publish={"channel": "room"}) == 107
    assert peer.fails(publish={"channel": "room", "data": 1, "type": 1}) == 103
    assert peer.messages == []


def test_who_may_only_listen_publishes_nothing(house):
    house.rules.may_publish = False
    peer = house.sdk_peer("", "room")
    assert peer.fails(publish={"channel": "room", "data": 1}) == 103
    assert peer.messages == []


@pytest.mark.parametrize("command", ["publish", "history", "presence", "presence_stats"])
def test_rooms_are_for_those_who_are_in_them(house, command):
    house.rules.presence = True
    peer, request = house.sdk_peer(), {"data": 1} if command == "publish" else {}
    assert peer.fails(**{command: {"channel": "room", **request}}) == 103
    assert peer.fails(**{command: {"channel": "x" * 256, **request}}) == 107
    peer.begins(**{command: request})
    assert peer.closes == [3501]


def test_a_publication_that_was_not_accepted_may_be_tried_again(house):
    peer = house.sdk_peer("", "room")
    house.broker.publish_fails_with = PublishFailed("as asked")
    error = peer.asks(publish={"channel": "room", "data": 1})["error"]
    assert (error["code"], error["temporary"]) == (100, True)


def test_a_room_class_changes_and_refuses_what_is_published(house):
    def change(user, message):
        if message == "rude":
            raise Refused("be nice", 433)
        return {"text": message, "by": user}

    house.rules.change = change
    peer = house.sdk_peer("alice", "room")
    assert peer.asks(publish={"channel": "room", "data": "rude"})["error"] == {"code": 433, "message": "be nice"}
    assert peer.asks(publish={"channel": "room", "data": "hi"}) == {"publish": {}}
    assert peer.messages == [{"text": "hi", "by": "alice"}]


# History


@pytest.fixture
def reader(house):
    house.publish_many(range(1, 6))
    return house.sdk_peer("", "room")


def history(peer, **wishes):
    return peer.asks(history={"channel": "room", **wishes})["history"]


def offsets(peer, **wishes):
    return [each["offset"] for each in history(peer, **wishes).get("publications", [])]


def test_without_a_limit_only_the_position_is_told(house, reader):
    result = history(reader)
    assert set(result) == {"epoch", "offset"}
    assert result["offset"] == 5


PAGES = {
    "all": ({"limit": -1}, [1, 2, 3, 4, 5]),
    "the oldest": ({"limit": 2}, [1, 2]),
    "the newest": ({"limit": 2, "reverse": True}, [5, 4]),
    "all, the newest first": ({"limit": -1, "reverse": True}, [5, 4, 3, 2, 1]),
    "after": ({"limit": 2, "since": {"offset": 2}}, [3, 4]),
    "all after": ({"limit": -1, "since": {"offset": 2}}, [3, 4, 5]),
    "from the beginning": ({"limit": -1, "since": {}}, [1, 2, 3, 4, 5]),
    "after the newest": ({"limit": -1, "since": {"offset": 5}}, []),
    "after what is still to come": ({"limit": -1, "since": {"offset": 50}}, []),
    "before": ({"limit": 2, "since": {"offset": 4}, "reverse": True}, [3, 2]),
    "all before": ({"limit": -1, "since": {"offset": 4}, "reverse": True}, [3, 2, 1]),
    "before the oldest": ({"limit": -1, "since": {"offset": 1}, "reverse": True}, []),
    "before what is still to come": ({"limit": 2, "since": {"offset": 50}, "reverse": True}, [5, 4]),
    "nothing after": ({"limit": 0, "since": {"offset": 2}}, []),
}


@pytest.mark.parametrize(("wishes", "expected"), PAGES.values(), ids=PAGES.keys())
def test_a_page_of_history_is_what_was_asked_for_and_tells_the_newest_position(house, reader, wishes, expected):
    assert offsets(reader, **wishes) == expected
    assert history(reader, **wishes)["offset"] == 5
    since = wishes.get("since")
    if since is not None:
        assert offsets(reader, **wishes | {"since": since | {"epoch": history(reader)["epoch"]}}) == expected


def test_a_page_begins_with_the_oldest_that_is_kept(house):
    house.rules.history = History(size=3)
    house.publish_many(range(1, 6))
    peer = house.sdk_peer("", "room")
    assert offsets(peer, limit=2, since={"offset": 1}) == [3, 4]
    assert offsets(peer, limit=2, since={"offset": 4}, reverse=True) == [3]


def test_a_page_has_at_most_what_one_answer_may_hold(make_house):
    house = make_house(sdk_limits=SdkLimits(history_read=3))
    house.publish_many(range(1, 6))
    peer = house.sdk_peer("", "room")
    assert offsets(peer, limit=-1) == offsets(peer, limit=100) == [1, 2, 3]
    assert offsets(peer, limit=-1, reverse=True) == [5, 4, 3]


def test_publications_in_history_are_as_they_were_pushed(house):
    peer = house.sdk_peer("alice", "room")
    peer.asks(publish={"channel": "room", "data": {"a": 1}})
    assert history(peer, limit=-1)["publications"] == peer.publications


@pytest.mark.parametrize("limit", [0, 1, -1])
def test_history_of_another_epoch_cannot_be_had(house, reader, limit):
    assert reader.fails(history={"channel": "room", "limit": limit, "since": {"offset": 1, "epoch": "other"}}) == 112


def test_what_cannot_be_asked_of_history_is_refused(house, reader):
    assert reader.fails(history={"channel": "room", "limit": 1, "since": {"offset": 0}, "reverse": True}) == 107
    assert reader.fails(history={"channel": "room", "limit": -2}) == 107
    reader.joins("passing")
    assert reader.fails(history={"channel": "passing", "limit": 1}) == 108


def test_history_that_cannot_be_reached_now_may_be_asked_for_again(house, reader):
    house.broker.read_fails_with = NotAvailable("as asked")
    error = reader.asks(history={"channel": "room", "limit": 1})["error"]
    assert (error["code"], error["temporary"]) == (100, True)


# Presence


def test_presence_has_everybody_from_their_reply_on(house):
    house.rules.presence = True
    house.application.tokens["t"] = Identity(user="alice", id="7", info=Raw(b"1"))
    peer = house.sdk_newcomer()
    peer.connects("t")
    peer.says({"id": 8, "subscribe": {"channel": "room"}}, {"id": 9, "presence": {"channel": "room"}})
    assert peer.reply(9) == {
        "presence": {"presence": {peer.client: {"user": "7", "client": peer.client, "conn_info": 1}}}
    }
    assert peer.asks(presence_stats={"channel": "room"}) == {"presence_stats": {"num_clients": 1, "num_users": 1}}


def test_three_tabs_are_three_clients_and_one_user_and_all_unknown_are_one(house):
    house.rules.presence = True
    tabs = [house.sdk_peer("alice", "room") for _ in range(3)]
    unknown = [house.sdk_peer("", "room") for _ in range(2)]
    assert tabs[0].asks(presence_stats={"channel": "room"}) == {"presence_stats": {"num_clients": 5, "num_users": 2}}
    listed = tabs[0].asks(presence={"channel": "room"})["presence"]["presence"]
    assert set(listed) == {each.client for each in [*tabs, *unknown]}
    assert listed[unknown[0].client] == {"client": unknown[0].client}


def test_members_of_both_protocols_are_present(house):
    house.rules.presence = True
    plain, peer = house.member(user="bob"), house.sdk_peer("alice", "room")
    listed = peer.asks(presence={"channel": "room"})["presence"]["presence"]
    assert {each.get("user") for each in listed.values()} == {"id-of-bob", "id-of-alice"}
    assert plain.connection.client in listed


def test_who_has_left_is_not_present(house):
    house.rules.presence = True
    peer, other = house.sdk_peer("alice", "room"), house.sdk_peer("bob", "room")
    other.asks(unsubscribe={"channel": "room"})
    assert list(peer.asks(presence={"channel": "room"})["presence"]["presence"]) == [peer.client]


def test_a_room_without_presence_tells_of_nobody(house):
    peer = house.sdk_peer("", "room")
    assert peer.fails(presence={"channel": "room"}) == 108
    assert peer.fails(presence_stats={"channel": "room"}) == 108


def test_presence_that_cannot_be_reached_now_may_be_asked_for_again(house):
    async def fail(*_):
        raise NotAvailable("as asked")

    house.rules.presence = True
    peer = house.sdk_peer("", "room")
    house.broker.presence.present = house.broker.presence.count = fail
    for command in ("presence", "presence_stats"):
        error = peer.asks(**{command: {"channel": "room"}})["error"]
        assert (error["code"], error["temporary"]) == (100, True)


# Calls


class Calls:
    """Functions that clients call; `waiting` ends when its gate opens."""

    def __init__(self, calls):
        self.gate = Gate()
        self.running = 0
        calls |= {"echo": self.echo, "waiting": self.waiting, "broken": self.broken, "refusing": self.refusing}

    async def echo(self, user, arguments):
        return encode_message([user, arguments.decode()])

    async def waiting(self, user, arguments):
        self.running += 1
        await self.gate
        return b"1"

    async def broken(self, user, arguments):
        raise ZeroDivisionError("as asked")

    async def refusing(self, user, arguments):
        raise Refused("not you", 444)


@pytest.fixture
def calls(house):
    calls = Calls(house.application.calls)
    Calls(house.rules.calls)
    return calls


def call(house, peer, method, **data):
    command_id = peer.begins(rpc={"method": method, **data})
    house.runtime.turn()
    return peer.reply(command_id)


def test_a_function_is_called_with_the_user_and_what_was_given(house, calls):
    peer = house.sdk_peer("alice")
    assert call(house, peer, "echo", data={"a": 1}) == {"rpc": {"data": ["alice", '{"a": 1}']}}
    assert call(house, peer, "echo") == {"rpc": {"data": ["alice", ""]}}


def test_a_call_of_a_room_is_for_its_members(house, calls):
    peer = house.sdk_peer("alice")
    assert call(house, peer, "room:echo")["error"]["code"] == 103
    peer.joins("room")
    assert call(house, peer, "room:echo") == {"rpc": {"data": ["alice", ""]}}
    assert call(house, peer, "room:other")["error"]["code"] == 104


def test_a_room_s_name_may_have_colons(house, calls):
    house.application.rooms["a:b:c"] = house.rules
    peer = house.sdk_peer("alice", "a:b:c")
    assert call(house, peer, "a:b:c:echo") == {"rpc": {"data": ["alice", ""]}}


def test_a_call_that_fails_has_a_code(house, calls, caplog):
    peer = house.sdk_peer()
    assert call(house, peer, "nothing")["error"]["code"] == 104
    assert call(house, peer, "refusing")["error"] == {"code": 444, "message": "not you"}
    error = call(house, peer, "broken")["error"]
    assert (error["code"], error["temporary"]) == (100, True)
    assert "as asked" not in error["message"]
    assert "ZeroDivisionError" in caplog.text


def test_other_commands_go_on_beside_a_call(house, calls):
    calls.gate.shut()
    peer = house.sdk_peer("", "room")
    asked = peer.begins(rpc={"method": "waiting"})
    house.runtime.turn()
    assert peer.asks(publish={"channel": "room", "data": 1}) == {"publish": {}}
    calls.gate.open()
    house.runtime.turn()
    assert peer.reply(asked) == {"rpc": {"data": 1}}


def test_the_last_call_that_may_run_holds_up_what_follows_even_in_one_frame(house, calls):
    calls.gate.shut()
    peer = house.sdk_peer("", "room")
    peer.says(
        *({"id": 100 + number, "rpc": {"method": "waiting"}} for number in range(9)),
        {"id": 200, "publish": {"channel": "room", "data": 1}},
    )
    house.runtime.turn()
    assert calls.running == 4
    assert peer.messages == []
    calls.gate.open()
    for _ in range(9):
        house.runtime.turn()
        peer.goes_on()
    assert peer.reply(200) == {"publish": {}}
    assert [peer.reply(100 + number) for number in range(9)] == [{"rpc": {"data": 1}}] * 9
    assert peer.connection.calls == 0


def test_a_call_that_ends_after_its_connection_is_told_to_nobody(house, calls):
    calls.gate.shut()
    peer = house.sdk_peer()
    peer.begins(rpc={"method": "waiting"})
    house.runtime.turn()
    peer.leaves()
    assert house.is_empty
    calls.gate.open()
    house.runtime.turn()
    assert peer.closes == []


# Everything else


def test_it_is_the_server_that_pings(house):
    assert house.sdk_peer().fails(ping={}) == 108


def test_nobody_takes_what_is_sent(house):
    peer = house.sdk_peer()
    peer.says({"send": {"data": 1}})
    assert peer.closes == [3508]


def test_many_commands_of_one_frame_are_answered_in_their_order(house):
    peer = house.sdk_peer("", "room")
    peer.says(*({"id": 100 + number, "publish": {"channel": "room", "data": number}} for number in range(50)))
    answers = [each["id"] for each in peer.received if each.get("id", 0) >= 100]
    assert answers == list(range(100, 150))
    assert peer.messages == list(range(50))
    assert run(house.broker.read("room", house.rules.history, limit=0)).top.offset == 50
