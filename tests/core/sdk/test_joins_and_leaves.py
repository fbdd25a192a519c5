"""Who is told that somebody came or went, and that a lost connection which comes back has not been away."""

from __future__ import annotations

import pytest
from msgspec import Raw

from tests.core.fakes import Gate, House, Town, WoundRuntime
from yamabiko.core.errors import NO_PONG, SLOW, WRITE_ERROR, Close
from yamabiko.core.identity import Identity
from yamabiko.core.messages import Member, PresenceChanged

BATCH = 0.1


@pytest.fixture
def room(house):
    house.rules.presence = True
    return house


def told(peer):
    """What a peer was told of comings and goings: ("join", client) ..."""
    return [(kind, push[kind]["info"]["client"]) for push in peer.pushes for kind in ("join", "leave") if kind in push]


def watcher(house, user=""):
    peer = house.sdk_peer(user, "room", join_leave=True)
    house.runtime.wind(BATCH)
    return peer


def test_who_asks_is_told_of_its_own_join_after_the_reply_and_of_others(room):
    watching = watcher(room, "alice")
    other = room.sdk_peer("bob", "room")
    room.runtime.wind(BATCH)
    assert [[*each][-1] for each in watching.received] == ["connect", "subscribe", "push", "push"]
    assert watching.pushes == [
        {"channel": "room", "join": {"info": {"user": "id-of-alice", "client": watching.client}}},
        {"channel": "room", "join": {"info": {"user": "id-of-bob", "client": other.client}}},
    ]
    assert other.pushes == []


def test_who_leaves_is_told_to_others_and_never_to_itself(room):
    first, second = watcher(room, "alice"), watcher(room, "bob")
    second.asks(unsubscribe={"channel": "room"})
    room.runtime.wind(BATCH)
    assert told(first) == [("join", first.client), ("join", second.client), ("leave", second.client)]
    assert told(second) == [("join", second.client)]


def test_who_leaves_and_comes_back_is_not_told_of_its_own_leave(room):
    """The news of the leave may be under way for longer than it takes to come back."""
    first, second = watcher(room), watcher(room)
    second.asks(unsubscribe={"channel": "room"})
    room.runtime.wind(BATCH)
    second.joins("room", join_leave=True)
    late = PresenceChanged(left=(Member(second.client), Member("somebody")))
    room.node.presence_changed("room", late)
    assert ("leave", second.client) not in told(second)
    assert told(second)[-1] == ("leave", "somebody")
    assert told(first)[-2:] == [("leave", second.client), ("leave", "somebody")]


@pytest.mark.parametrize("times", [1, 2, 3])
def test_who_comes_and_goes_in_quick_succession_is_where_it_was_last(room, times):
    first, second = room.sdk_peer("", "room"), room.sdk_peer("alice", "room")
    room.runtime.wind(BATCH)
    for _ in range(times):
        second.asks(unsubscribe={"channel": "room"})
        second.joins("room")
    room.runtime.wind(BATCH)
    assert first.asks(presence_stats={"channel": "room"})["presence_stats"]["num_clients"] == 2
    for _ in range(times):
        second.asks(unsubscribe={"channel": "room"})
        second.joins("room")
    second.asks(unsubscribe={"channel": "room"})
    room.runtime.wind(BATCH)
    assert first.asks(presence_stats={"channel": "room"})["presence_stats"]["num_clients"] == 1


def test_a_leave_of_its_own_alone_is_no_frame(room):
    peer = watcher(room)
    number = len(peer.transport.frames)
    room.node.presence_changed("room", PresenceChanged(left=(Member(peer.client),)))
    assert len(peer.transport.frames) == number


def test_a_room_without_presence_tells_nobody(house):
    peer = watcher(house)
    house.sdk_peer("bob", "room")
    house.runtime.wind(1)
    assert peer.pushes == []


def test_members_of_both_protocols_are_told_of_each_other(room):
    plain, peer = room.member(user="bob", wants_presence=True), watcher(room, "alice")
    room.runtime.wind(BATCH)
    assert told(peer) == [("join", plain.connection.client), ("join", peer.client)]
    peer.leaves()
    room.runtime.wind(BATCH)
    assert plain.presence[-1] == {"left": [{"client": peer.client}]}


def test_a_user_with_three_tabs_comes_and_goes_three_times(room):
    peer = watcher(room)
    tabs = [room.sdk_peer("alice", "room") for _ in range(3)]
    room.runtime.wind(BATCH)
    for tab in tabs:
        tab.leaves()
    room.runtime.wind(BATCH)
    clients = {tab.client for tab in tabs}
    assert {client for kind, client in told(peer) if kind == "leave"} == clients
    assert peer.asks(presence_stats={"channel": "room"}) == {"presence_stats": {"num_clients": 1, "num_users": 1}}


def test_who_is_told_of_by_a_push_is_told_as_published(room):
    room.application.tokens["t"] = Identity(user="alice", id="7", name="alice", info=b"1")
    peer = watcher(room)
    other = room.sdk_newcomer()
    other.connects("t")
    other.joins("room")
    other.asks(publish={"channel": "room", "data": 1})
    room.runtime.wind(BATCH)
    assert peer.pushed("join")[-1]["info"] == peer.publications[0]["info"]


# Lost, and back


LOST = {"lost": None, "no pong": NO_PONG, "slow": SLOW, "stalled": WRITE_ERROR, "reconnect": Close(4000, "come back")}


def end(peer, close):
    if close is None:
        peer.leaves(is_lost=True)
    else:
        peer.connection.close(close)


@pytest.mark.parametrize("close", LOST.values(), ids=LOST.keys())
def test_a_lost_client_stays_for_a_while(room, close):
    peer, other = watcher(room), room.sdk_peer("alice", "room")
    room.runtime.wind(BATCH)
    end(other, close)
    room.runtime.wind(14)
    assert told(peer)[-1] == ("join", other.client)
    assert other.client in peer.asks(presence={"channel": "room"})["presence"]["presence"]
    room.runtime.wind(3)
    assert told(peer)[-1] == ("leave", other.client)


GONE = {"a proper close": None, "forced": Close(3503, "force disconnect"), "the application's": Close(4500, "bye")}


@pytest.mark.parametrize("close", GONE.values(), ids=GONE.keys())
def test_who_says_goodbye_or_may_not_come_back_is_gone_at_once(room, close):
    peer, other = watcher(room), room.sdk_peer("alice", "room")
    room.runtime.wind(BATCH)
    if close is None:
        other.leaves()
    else:
        other.connection.close(close)
    room.runtime.wind(BATCH)
    assert told(peer)[-1] == ("leave", other.client)


def test_a_site_may_want_nobody_to_stay(make_house):
    house = make_house(linger_seconds=0)
    house.rules.presence = True
    peer, other = watcher(house), house.sdk_peer("alice", "room")
    house.runtime.wind(BATCH)
    other.leaves(is_lost=True)
    house.runtime.wind(BATCH)
    assert told(peer)[-1] == ("leave", other.client)
    assert house.sdk_peer("alice").client != other.client


def test_a_user_who_comes_back_has_not_been_away(room):
    peer, lost = watcher(room), room.sdk_peer("alice", "room")
    room.runtime.wind(BATCH)
    before = told(peer)
    lost.leaves(is_lost=True)
    room.runtime.wind(5)
    back = room.sdk_peer("alice", "room")
    assert back.client == lost.client
    room.runtime.wind(60)
    assert told(peer) == before
    assert peer.asks(presence_stats={"channel": "room"})["presence_stats"]["num_clients"] == 2


def test_a_user_who_comes_back_again_and_again_has_not_been_away(room):
    peer, back = watcher(room), room.sdk_peer("alice", "room")
    room.runtime.wind(BATCH)
    before = told(peer)
    for _ in range(5):
        back.leaves(is_lost=True)
        room.runtime.wind(10)
        back = room.sdk_peer("alice", "room")
    room.runtime.wind(60)
    assert told(peer) == before
    back.leaves(is_lost=True)
    room.runtime.wind(17)
    assert told(peer)[-1] == ("leave", back.client)


def test_who_comes_back_too_late_is_somebody_new(room):
    lost = room.sdk_peer("alice", "room")
    lost.leaves(is_lost=True)
    room.runtime.wind(17)
    assert room.sdk_peer("alice", "room").client != lost.client


def test_one_lost_client_is_given_back_once(room):
    lost = room.sdk_peer("alice", "room")
    lost.leaves(is_lost=True)
    room.runtime.turn()
    assert [room.sdk_peer("alice").client == lost.client for _ in range(3)] == [True, False, False]


def test_nobody_gets_the_client_of_another_user_or_of_someone_unknown(room):
    lost, unknown = room.sdk_peer("alice", "room"), room.sdk_peer("", "room")
    lost.leaves(is_lost=True)
    unknown.leaves(is_lost=True)
    room.runtime.turn()
    clients = {lost.client, unknown.client}
    assert room.sdk_peer("bob", "room").client not in clients
    assert room.sdk_peer("", "room").client not in clients


def test_who_comes_back_to_fewer_rooms_leaves_the_others(room):
    room.passing.presence = True
    peer = room.sdk_peer("", "passing", join_leave=True)
    lost = room.sdk_peer("alice", "room", "passing")
    room.runtime.wind(BATCH)
    lost.leaves(is_lost=True)
    room.runtime.wind(1)
    assert room.sdk_peer("alice", "room").client == lost.client
    room.runtime.wind(17)
    assert told(peer)[-1] == ("leave", lost.client)


def test_the_room_protocol_comes_back_the_same_way(room):
    peer, lost = watcher(room), room.member(user="alice")
    room.runtime.wind(BATCH)
    before = told(peer)
    lost.connection.closed(is_lost=True)
    room.runtime.wind(5)
    assert room.member(user="alice").connection.client == lost.connection.client
    room.runtime.wind(60)
    assert told(peer) == before


# On two nodes


@pytest.fixture
def two(make_house):
    runtime = WoundRuntime()
    town = Town(runtime.now)
    houses = [make_house(town=town, runtime=runtime) for _ in range(2)]
    for house in houses:
        house.rules.presence = True
    return houses


def test_comings_and_goings_are_told_on_all_nodes(two: list[House]):
    one, other = two
    here = watcher(one, "alice")
    there = watcher(other, "bob")
    there.leaves()
    other.runtime.wind(BATCH)
    assert told(here) == [("join", here.client), ("join", there.client), ("leave", there.client)]


def test_who_comes_back_to_another_node_has_not_been_away(two: list[House]):
    one, other = two
    here, there, lost = watcher(one), watcher(other), one.sdk_peer("alice", "room")
    one.runtime.wind(BATCH)
    before = told(here), told(there)
    lost.leaves(is_lost=True)
    one.runtime.wind(5)
    back = other.sdk_peer("alice", "room")
    assert back.client == lost.client
    one.runtime.wind(60)
    assert (told(here), told(there)) == before
    assert set(here.asks(presence={"channel": "room"})["presence"]["presence"]) == {
        here.client,
        there.client,
        back.client,
    }
    back.leaves()
    one.runtime.wind(BATCH)
    assert told(here)[-1] == told(there)[-1] == ("leave", back.client)


def unheard(house):
    """Let nothing of what the others tell of the room reach the node from now on."""
    house.broker.presence.subscribed.discard("room")


def heard(house):
    """Let the node hear again, and know that it may have missed something."""
    house.broker.presence.subscribed.add("room")
    house.node.missed()
    house.runtime.wind(BATCH)


def test_who_came_and_went_while_the_node_heard_nothing_is_told_after_it(two: list[House]):
    one, other = two
    watching, listing = watcher(one), one.member(wants_presence=True)
    goes, stays = (other.sdk_peer("", "room") for _ in range(2))
    one.runtime.wind(BATCH)
    before = len(told(watching))
    unheard(one)
    goes.leaves()
    comes = other.sdk_peer("", "room")
    passes = other.sdk_peer("", "room")
    one.runtime.wind(BATCH)
    passes.leaves()
    one.runtime.wind(BATCH)
    assert len(told(watching)) == before
    heard(one)
    assert told(watching)[before:] == [("join", comes.client), ("leave", goes.client)]
    assert listing.presence[-1] == {"joined": [{"client": comes.client}], "left": [{"client": goes.client}]}
    heard(one)
    stays.leaves()
    one.runtime.wind(BATCH)
    assert told(watching)[before + 2 :] == [("leave", stays.client)]


def test_what_was_looked_up_is_not_told_again_when_the_news_comes_late(two: list[House]):
    one, other = two
    watching, goes = watcher(one), other.sdk_peer("", "room")
    one.runtime.wind(BATCH)
    before = len(told(watching))
    unheard(one)
    goes.leaves()
    comes = other.sdk_peer("", "room")
    one.runtime.wind(BATCH)
    heard(one)
    late = PresenceChanged(joined=(Member(comes.client),), left=(Member(goes.client),))
    one.node.presence_changed("room", late)
    assert told(watching)[before:] == [("join", comes.client), ("leave", goes.client)]
    one.node.presence_changed("room", PresenceChanged(left=(Member(comes.client),)))
    assert told(watching)[-1] == ("leave", comes.client)


def test_members_of_this_node_are_there_though_the_store_has_lost_them(two: list[House]):
    one, other = two
    watching, _, there = watcher(one), one.sdk_peer("", "room"), other.sdk_peer("", "room")
    one.runtime.wind(BATCH)
    before = len(told(watching))
    one.broker.presence.town.members.clear()
    heard(one)
    assert told(watching)[before:] == [("leave", there.client)]


def test_nobody_is_looked_up_where_nobody_wants_to_know(two: list[House], monkeypatch):
    one, _ = two
    one.sdk_peer("", "room")
    one.runtime.wind(BATCH)
    monkeypatch.setattr(one.broker.presence, "present", None)
    heard(one)


def test_a_member_whose_token_says_something_else_now_is_found_as_it_is_now(room):
    watching, peer = watcher(room), room.sdk_peer("alice", "room")
    room.runtime.wind(BATCH)
    before = told(watching)
    room.application.tokens["new"] = Identity(user="alice", id="id-of-alice", name="alice", info=Raw(b'{"v":2}'))
    assert "refresh" in peer.asks(refresh={"token": "new"})
    room.runtime.wind(BATCH)
    present = watching.asks(presence={"channel": "room"})["presence"]["presence"]
    assert present[peer.client]["conn_info"] == {"v": 2}
    assert told(watching) == before


# A store that is slow


class SlowStore:
    """A presence store whose calls wait at gates."""

    def __init__(self, store):
        self._store = store
        self.come_gate, self.go_gate = Gate(), Gate()

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def come(self, room, members):
        await self.come_gate
        await self._store.come(room, members)

    async def go(self, room, clients):
        await self.go_gate
        await self._store.go(room, clients)


@pytest.fixture
def slow(room):
    store = SlowStore(room.broker.presence)
    room.node._presences._store = store
    return room, store


def test_who_is_just_being_told_to_the_store_is_present(slow):
    house, store = slow
    store.come_gate.shut()
    peer = house.sdk_peer("alice", "room")
    house.runtime.wind(BATCH)
    assert list(peer.asks(presence={"channel": "room"})["presence"]["presence"]) == [peer.client]
    assert peer.asks(presence_stats={"channel": "room"}) == {"presence_stats": {"num_clients": 1, "num_users": 1}}
    store.come_gate.open()
    house.runtime.turn()
    assert peer.asks(presence_stats={"channel": "room"}) == {"presence_stats": {"num_clients": 1, "num_users": 1}}


def test_who_is_just_being_taken_out_of_the_store_is_not_present(slow):
    house, store = slow
    peer, other = house.sdk_peer("alice", "room"), house.sdk_peer("bob", "room")
    house.runtime.wind(BATCH)
    store.go_gate.shut()
    other.asks(unsubscribe={"channel": "room"})
    house.runtime.wind(BATCH)
    assert list(peer.asks(presence={"channel": "room"})["presence"]["presence"]) == [peer.client]
    other.joins("room")
    assert len(peer.asks(presence={"channel": "room"})["presence"]["presence"]) == 2
    store.go_gate.open()
    house.runtime.wind(1)
    assert len(peer.asks(presence={"channel": "room"})["presence"]["presence"]) == 2


def test_a_room_is_not_forgotten_before_the_store_knows_who_left(slow):
    house, store = slow
    peer = house.sdk_peer("alice", "room")
    house.runtime.wind(BATCH)
    store.go_gate.shut()
    peer.asks(unsubscribe={"channel": "room"})
    house.runtime.wind(5)
    peer.joins("room")
    house.runtime.wind(BATCH)
    store.go_gate.open()
    house.runtime.wind(5)
    assert list(peer.asks(presence={"channel": "room"})["presence"]["presence"]) == [peer.client]
