"""Who takes nothing of what waits for it is found after the timeout; slow peers and late ticks accuse nobody."""

from __future__ import annotations

import pytest

from yamabiko.transports.stalls import Stalls

TIMEOUT = 3


class Peer:
    def __init__(self) -> None:
        self.is_behind = True
        self.taken = 0

    def is_stalled(self) -> None:
        raise AssertionError("whoever ticks tells it")


@pytest.fixture
def stalls() -> Stalls:
    stalls = Stalls(TIMEOUT)
    stalls.tick(100)
    return stalls


def test_who_takes_nothing_for_the_whole_timeout_is_told_once(stalls):
    peer = Peer()
    stalls.add(peer, 100.5)
    assert [stalls.tick(now) for now in range(101, 107)] == [[], [], [], [peer], [], []]


def test_who_takes_something_now_and_then_is_not(stalls):
    peer = Peer()
    stalls.add(peer, 100.5)
    for now in range(101, 120):
        peer.taken += now % 2
        assert stalls.tick(now) == []
    assert [stalls.tick(now) for now in range(120, 124)] == [[], [], [peer], []]


def test_more_that_waits_is_no_news_of_the_peer(stalls):
    peer = Peer()
    for now in range(101, 104):
        stalls.add(peer, now - 0.5)
        assert stalls.tick(now) == []
    assert stalls.tick(104) == [peer]


def test_who_has_caught_up_is_forgotten(stalls):
    peer = Peer()
    stalls.add(peer, 100.5)
    peer.is_behind = False
    assert stalls.tick(101) == []
    assert not stalls
    peer.is_behind = True
    stalls.add(peer, 103.5)
    assert [stalls.tick(now) for now in (102, 103, 104, 105, 106)] == [[]] * 5
    assert stalls.tick(107) == [peer]


def test_a_late_tick_accuses_nobody(stalls):
    peer = Peer()
    stalls.add(peer, 100.5)
    assert [stalls.tick(now) for now in (101, 105, 106, 107)] == [[], [], [], []]
    assert stalls.tick(108) == [peer]
