"""Who is there: listed first, then comings and goings of 100 ms told together, to those who asked."""

from __future__ import annotations

import pytest

from yamabiko.core.errors import NotAvailable


@pytest.fixture
def room(house):
    house.rules.presence = True
    return house


def wind(room, milliseconds=100):
    room.runtime.wind(milliseconds / 1000)


def test_the_first_presence_frame_lists_who_is_there_oneself_included(room):
    alice, unknown = room.member(user="alice"), room.member()
    watcher = room.member(user="carol", wants_presence=True)
    wind(room)
    assert watcher.presence == [
        {
            "joined": [
                {"client": alice.connection.client, "user": "alice"},
                {"client": unknown.connection.client},
                {"client": watcher.connection.client, "user": "carol"},
            ]
        }
    ]


def test_the_list_comes_after_the_history(room):
    room.publish("hello")
    watcher = room.member(history=1, wants_presence=True)
    wind(room)
    assert [[*frame] for frame in watcher.received] == [["payload"], ["presence"]]


def test_comings_of_a_hundred_milliseconds_are_told_in_one_frame(room):
    watcher = room.member(wants_presence=True)
    wind(room)
    first = room.member(user="alice")
    wind(room, 99)
    second = room.member(user="bob")
    assert len(watcher.presence) == 1
    wind(room, 1)
    assert watcher.presence[1:] == [
        {
            "joined": [
                {"client": first.connection.client, "user": "alice"},
                {"client": second.connection.client, "user": "bob"},
            ]
        }
    ]
    wind(room, 1000)
    assert len(watcher.presence) == 2


def test_who_leaves_is_told_by_the_name_of_the_connection_alone(room):
    watcher = room.member(wants_presence=True)
    alice = room.member(user="alice")
    wind(room)
    alice.connection.closed()
    wind(room)
    assert watcher.presence[-1] == {"left": [{"client": alice.connection.client}]}


def test_who_comes_and_goes_within_one_batch_is_not_mentioned(room):
    watcher = room.member(wants_presence=True)
    wind(room)
    room.member(user="alice").connection.closed()
    wind(room)
    assert len(watcher.presence) == 1


def test_comings_and_goings_of_one_batch_are_told_together_those_who_came_first(room):
    watcher, alice = room.member(wants_presence=True), room.member(user="alice")
    wind(room)
    bob = room.member(user="bob")
    alice.connection.closed()
    wind(room)
    assert watcher.presence[-2:] == [
        {"joined": [{"client": bob.connection.client, "user": "bob"}]},
        {"left": [{"client": alice.connection.client}]},
    ]


def test_only_those_who_asked_are_told(room):
    member, watcher = room.member(), room.member(wants_presence=True)
    wind(room)
    assert member.received == []
    assert len(watcher.presence) == 1


def test_a_watcher_that_has_left_is_told_nothing_more(room):
    watcher = room.member(wants_presence=True)
    wind(room)
    watcher.connection.closed()
    room.member(user="alice")
    wind(room)
    assert len(watcher.presence) == 1


def test_every_watcher_ends_up_with_the_same_list_however_they_come_and_go(room):
    peers, watchers = [], []
    for number in range(20):
        peers.append(room.member(user=f"u{number}"))
        watchers.append(room.member(wants_presence=True))
        if number % 3 == 2:
            peers.pop(0).connection.closed()
        if number % 4 == 3:
            wind(room)
    wind(room)
    here = {peer.connection.client for peer in [*peers, *watchers]}
    for watcher in watchers:
        known: set[str] = set()
        for change in watcher.presence:
            joined = {member["client"] for member in change.get("joined", [])}
            left = {member["client"] for member in change.get("left", [])}
            assert not joined & known
            assert left <= known
            known = (known | joined) - left
        assert known == here


def test_a_room_without_presence_tells_nobody(house):
    watcher = house.member(wants_presence=True)
    house.member(user="alice")
    house.runtime.wind(1)
    assert watcher.presence == []
    assert watcher.errors == [108]


def test_the_name_of_a_connection_is_unique_and_stays(room):
    names = {room.member().connection.client for _ in range(200)}
    assert len(names) == 200
    connection = room.member().connection
    assert connection.client == connection.client


def test_many_watchers_who_join_together_are_told_of_each_other_once(room):
    watchers = [room.member(wants_presence=True) for _ in range(50)]
    wind(room)
    assert [len(watcher.presence) for watcher in watchers] == [1] * 50
    assert len(watchers[0].presence[0]["joined"]) == 50


def test_a_store_that_cannot_be_reached_is_asked_once_a_second_until_it_can_be(room, monkeypatch):
    watcher, store, asked = room.member(wants_presence=True), room.broker.presence, []
    wind(room)

    async def nobody_answers(name, members):
        asked.append(name)
        raise NotAvailable

    with monkeypatch.context() as away:
        away.setattr(store, "come", nobody_answers)
        alice = room.member(user="alice")
        for _ in range(25):
            wind(room)
    assert len(asked) == 3
    wind(room, 1000)
    assert watcher.presence[1:] == [{"joined": [{"client": alice.connection.client, "user": "alice"}]}]
