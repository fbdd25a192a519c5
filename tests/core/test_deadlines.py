"""What is due is done in time and once; what is cancelled is forgotten."""

from __future__ import annotations

import gc
import weakref

import pytest

from yamabiko.core import deadlines as deadlines_module
from yamabiko.core.deadlines import Deadlines


@pytest.fixture
def deadlines():
    return Deadlines()


def test_what_is_due_is_done_once_in_the_order_of_its_times(deadlines):
    done: list[str] = []
    for when, name in [(3, "c"), (1, "a"), (2, "b"), (1, "a again"), (9, "z")]:
        deadlines.add(when, lambda name=name: done.append(name))
    deadlines.tick(0.9)
    assert done == []
    deadlines.tick(3)
    deadlines.tick(3)
    assert done == ["a", "a again", "b", "c"]
    assert len(deadlines) == 1


def test_what_is_cancelled_is_not_done_and_holds_on_to_nothing(deadlines):
    class Something:
        def act(self):
            raise AssertionError

    something = Something()
    dead, deadline = weakref.ref(something), deadlines.add(1, something.act)
    deadline.cancel()
    deadline.cancel()
    assert deadline.is_cancelled
    del something
    gc.collect()
    assert dead() is None
    deadlines.tick(2)
    assert len(deadlines) == 0


def test_what_is_done_may_cancel_and_add_others(deadlines):
    done: list[str] = []
    later = deadlines.add(2, lambda: done.append("cancelled"))

    def act():
        later.cancel()
        deadlines.add(1.5, lambda: done.append("added"))

    deadlines.add(1, act)
    deadlines.tick(3)
    assert done == ["added"]


def test_a_mistake_is_told_in_the_log_and_holds_up_nobody(deadlines, caplog):
    done: list[str] = []
    deadlines.add(1, lambda: 1 / 0)
    deadlines.add(1, lambda: done.append("next"))
    deadlines.tick(1)
    assert done == ["next"]
    assert "ZeroDivisionError" in caplog.text


def test_what_is_cancelled_long_before_its_time_is_cleared_away(deadlines):
    """As the deadline of a token that is good for days, of a connection that is closed after a second."""
    kept = [deadlines.add(10_000 + number, lambda: None) for number in range(10)]
    for _ in range(10_000):
        deadlines.add(86_400, lambda: None).cancel()
    assert len(deadlines) <= 2 * deadlines_module.FEWEST_TO_CLEAR
    assert not any(deadline.is_cancelled for deadline in kept)


def test_clearing_away_takes_no_more_than_its_share(deadlines, monkeypatch):
    cleared = 0
    clear = Deadlines._clear

    def counting(self):
        nonlocal cleared
        cleared += len(self)
        clear(self)

    monkeypatch.setattr(Deadlines, "_clear", counting)
    for _ in range(10_000):
        deadlines.add(1, lambda: None)
    assert cleared < 2 * 10_000
    assert len(deadlines) == 10_000
