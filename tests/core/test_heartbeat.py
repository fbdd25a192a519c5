"""The wheel: everybody is pinged every interval, the silent are found after the timeout, late ticks accuse nobody."""

from __future__ import annotations

import pytest

from yamabiko.core.heartbeat import Heartbeat

INTERVAL, TIMEOUT = 25, 8


class Peer:
    def __init__(self, *, answers=True):
        self.answers = answers
        self.is_heard = False
        self.pinged_at: list[int] = []
        self.silent_at: list[int] = []


@pytest.fixture
def heartbeat():
    return Heartbeat(interval=INTERVAL, timeout=TIMEOUT)


def tick(heartbeat, now):
    due, silent = heartbeat.tick(now)
    for peer in silent:
        peer.silent_at.append(now)
    for peer in due:
        peer.pinged_at.append(now)
        peer.is_heard = peer.answers
    return due, silent


def add(heartbeat, *peers):
    for peer in peers:
        heartbeat.add(peer)
    return peers


def test_a_peer_is_pinged_every_interval_and_the_first_time_within_it(heartbeat):
    (peer,) = add(heartbeat, Peer())
    for now in range(100, 200):
        tick(heartbeat, now)
    first = peer.pinged_at[0]
    assert first < 100 + INTERVAL
    assert peer.pinged_at == list(range(first, 200, INTERVAL))
    assert peer.silent_at == []


def test_a_silent_peer_is_found_a_timeout_after_its_ping(heartbeat):
    (peer,) = add(heartbeat, Peer(answers=False))
    for now in range(100, 100 + 2 * INTERVAL):
        tick(heartbeat, now)
    assert peer.silent_at[0] == peer.pinged_at[0] + TIMEOUT


def test_a_peer_that_was_never_pinged_is_not_called_silent(heartbeat):
    (peer,) = add(heartbeat, Peer(answers=False))
    for now in range(1001, 1001 + INTERVAL):
        tick(heartbeat, now)
        if peer.pinged_at:
            break
        assert peer.silent_at == []


def test_anything_heard_counts_as_an_answer(heartbeat):
    (peer,) = add(heartbeat, Peer(answers=False))
    for now in range(100, 200):
        tick(heartbeat, now)
        if peer.pinged_at and now == peer.pinged_at[-1] + TIMEOUT - 1:
            peer.is_heard = True
    assert peer.silent_at == []


def test_many_peers_are_spread_over_the_interval(heartbeat):
    peers = add(heartbeat, *(Peer() for _ in range(1000)))
    pings = [len(tick(heartbeat, now)[0]) for now in range(INTERVAL)]
    assert pings == [1000 // INTERVAL] * INTERVAL
    assert all(len(peer.pinged_at) == 1 for peer in peers)


def test_a_forgotten_peer_is_neither_pinged_nor_called_silent(heartbeat):
    peer, other = add(heartbeat, Peer(answers=False), Peer())
    heartbeat.discard(peer)
    heartbeat.discard(peer)
    for now in range(2 * INTERVAL):
        tick(heartbeat, now)
    assert (peer.pinged_at, peer.silent_at, len(heartbeat)) == ([], [], 1)
    assert other.pinged_at


@pytest.mark.parametrize("late", [3, 10, 24, 25, 60, 1000])
def test_a_late_tick_accuses_nobody_and_pings_nobody_twice(heartbeat, late):
    add(heartbeat, *(Peer(answers=False) for _ in range(100)))
    for now in range(100):
        heartbeat.tick(now)
    due, silent = heartbeat.tick(99 + late)
    assert silent == []
    assert len(due) == len(set(due)) == min(late, INTERVAL) * 4


@pytest.mark.parametrize("late", [3, 10, 24, 60])
def test_who_answers_in_time_is_not_accused_after_a_late_tick_either(heartbeat, late):
    peers = add(heartbeat, *(Peer() for _ in range(INTERVAL)))
    for now in range(100):
        tick(heartbeat, now)
    late_tick = 99 + late
    due, _ = heartbeat.tick(late_tick)
    for now in range(late_tick + 1, late_tick + TIMEOUT):
        _, silent = tick(heartbeat, now)
        assert set(silent).isdisjoint(due), f"accused {now - late_tick} s after the ping"
    assert len(peers) == INTERVAL


def test_two_ticks_within_a_second_or_a_clock_that_stands_still_do_no_harm(heartbeat):
    (peer,) = add(heartbeat, Peer())
    for now in range(100):
        tick(heartbeat, now)
        assert tick(heartbeat, now + 0.9) == ([], [])
        assert tick(heartbeat, now - 1) == ([], [])
    assert len(peer.pinged_at) == 100 // INTERVAL


@pytest.mark.parametrize(("interval", "timeout"), [(25, 25), (25, 30), (25, 0), (1, 1)])
def test_a_timeout_that_is_not_shorter_than_the_interval_is_refused(interval, timeout):
    with pytest.raises(ValueError, match="must be shorter"):
        Heartbeat(interval=interval, timeout=timeout)
