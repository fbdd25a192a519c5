"""What this node knows of the others: who they are, and what they answer when all are asked."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable
from fnmatch import fnmatchcase

from yamabiko.core import orders

STATUS_SECONDS = 10.0
"""How often every node says how it is; one that has not for three times as long is gone."""
GONE_SECONDS = 3 * STATUS_SECONDS
ANSWER_SECONDS = 1.0

RoomCounts = dict[str, int]
"""Numbers of members by room."""


class Site:
    """The nodes of a site, and the questions to all of them that are still open."""

    def __init__(self) -> None:
        self._statuses: dict[str, tuple[float, orders.NodeStatus]] = {}
        self._questions: dict[str, _Question] = {}

    def learn(self, status: orders.NodeStatus, now: float) -> None:
        self._statuses[status.node] = (now, status)
        if status.is_leaving:
            del self._statuses[status.node]

    def others(self, own: str, now: float) -> list[orders.NodeStatus]:
        """Return what the other nodes last said, those left out that have been silent for long."""
        self._statuses = {
            node: (since, status) for node, (since, status) in self._statuses.items() if now - since < GONE_SECONDS
        }
        return [status for node, (_, status) in self._statuses.items() if node != own]

    def ask(self, pattern: str, nodes: set[str], answered: Callable[[RoomCounts], None]) -> orders.AskRooms:
        """Return what to ask `nodes`; `answered` has the sum of their answers once all are there, or time is over."""
        order = orders.AskRooms(id=uuid.uuid4().hex, pattern=pattern)
        self._questions[order.id] = _Question(nodes, answered)
        return order

    def take(self, answer: orders.TellRooms) -> None:
        question = self._questions.get(answer.id)
        if question is not None:
            question.take(answer)
            if not question.waits_for:
                self.finish(answer.id)

    def finish(self, question_id: str) -> None:
        """Answer a question with what has come."""
        question = self._questions.pop(question_id, None)
        if question is not None:
            question.answered(dict(question.counts))


class _Question:
    def __init__(self, nodes: set[str], answered: Callable[[RoomCounts], None]) -> None:
        self.waits_for = set(nodes)
        self.answered = answered
        self.counts: Counter[str] = Counter()

    def take(self, answer: orders.TellRooms) -> None:
        if answer.node in self.waits_for:
            self.waits_for.discard(answer.node)
            self.counts.update(answer.rooms)


def matches(room: str, pattern: str) -> bool:
    return not pattern or fnmatchcase(room, pattern)
