"""What a node knows of the others, and what it hears when it asks all."""

from __future__ import annotations

import pytest

from tests.core.fakes import run
from yamabiko.core import orders
from yamabiko.core.site import GONE_SECONDS, Site, matches


def status(node, **said):
    numbers = {"clients": 1, "users": 1, "subscriptions": 1, "rooms": 1, "uptime_seconds": 5}
    return orders.NodeStatus(**({"node": node, "name": node, "version": "1"} | numbers | said))


@pytest.fixture
def site():
    return Site()


def test_the_others_are_known_by_what_they_said_last(site):
    site.learn(status("a"), 0)
    site.learn(status("b"), 0)
    site.learn(status("b", clients=7), 5)
    assert [(each.node, each.clients) for each in site.others("a", 6)] == [("b", 7)]


def test_one_that_has_been_silent_for_long_is_gone_and_may_come_back(site):
    site.learn(status("b"), 0)
    assert site.others("a", GONE_SECONDS - 1)
    assert site.others("a", GONE_SECONDS) == []
    site.learn(status("b"), 100)
    assert site.others("a", 100)


def test_one_that_leaves_is_gone_at_once(site):
    site.learn(status("b"), 0)
    site.learn(status("b", is_leaving=True), 1)
    assert site.others("a", 1) == []


def tell(site, question, node, **rooms):
    site.take(orders.TellRooms(id=question.id, node=node, rooms=rooms))


def test_the_answers_of_all_are_summed_up_as_soon_as_they_are_there(site):
    answers = []
    question = site.ask("*", {"a", "b"}, answers.append)
    tell(site, question, "a", x=1, y=2)
    assert answers == []
    tell(site, question, "b", y=3)
    assert answers == [{"x": 1, "y": 5}]
    tell(site, question, "b", y=3)
    site.finish(question.id)
    assert len(answers) == 1


def test_one_that_does_not_answer_is_not_waited_for_for_ever(site):
    answers = []
    question = site.ask("*", {"a", "b"}, answers.append)
    tell(site, question, "a", x=1)
    site.finish(question.id)
    assert answers == [{"x": 1}]


def test_an_answer_counts_once_and_only_of_who_was_asked(site):
    answers = []
    question = site.ask("*", {"a", "b"}, answers.append)
    tell(site, question, "a", x=1)
    tell(site, question, "a", x=1)
    tell(site, question, "stranger", x=1)
    site.take(orders.TellRooms(id="another question", node="b", rooms={"x": 9}))
    site.finish(question.id)
    assert answers == [{"x": 1}]


@pytest.mark.parametrize(
    ("pattern", "does"), [("", True), ("chat/*", True), ("*lobby", True), ("chat", False), ("news/*", False)]
)
def test_a_pattern_is_a_shell_s(pattern, does):
    assert matches("chat/lobby", pattern) is does


ORDERS = [
    orders.DisconnectUser(user="1", code=3503, reason="force disconnect", spared=("c",)),
    orders.SubscribeUser(user="1", client="c", room="r", expires_in_seconds=1.5),
    orders.UnsubscribeUser(user="1"),
    orders.RefreshUser(user="1", expired=True),
    orders.AskRooms(id="q", pattern="*"),
    orders.TellRooms(id="q", node="n", rooms={"r": 1}),
]


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: type(order).__name__)
def test_orders_travel_as_json(order):
    assert orders.decode(orders.encode(order)) == order


def test_a_node_asks_itself_too(house):
    house.sdk_peer("alice", "room", "passing")
    answers = []
    run(house.node.ask_rooms("p*", answers.append))
    house.runtime.turn()
    assert answers == [{"passing": 1}]


def test_an_order_that_is_not_understood_is_told_in_the_log(house, caplog):
    house.node.heard(b'{"order":"FlyAway"}')
    house.node.heard(b"nonsense")
    assert len(caplog.records) == 2
