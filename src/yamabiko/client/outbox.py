"""What was said and not yet acknowledged: kept in order, bounded, sent again after a break."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from yamabiko.client.wire import encode


class Outbox:
    """Keeps at most `limit` messages until the server has answered for each.

    Every message has an id that stays the same however often it is sent, so the server publishes it once.
    """

    def __init__(self, *, author: str, limit: int) -> None:
        self.author = author
        self.limit = limit
        self._count = 0
        self._unanswered: dict[str, str] = {}
        self._unsent: deque[str] = deque()

    def __len__(self) -> int:
        return len(self._unanswered)

    @property
    def has_room(self) -> bool:
        return len(self._unanswered) < self.limit

    def add(self, text: str) -> None:
        if not self.has_room:
            raise OverflowError(f"{self.limit} messages wait for an answer already; wait until one has come")
        self._count += 1
        publication_id = f"{self.author}-{self._count}"
        self._unanswered[publication_id] = text
        self._unsent.append(publication_id)

    def take_unsent(self) -> Iterator[str]:
        """Yield the frames to send now, oldest first, each once until `rewind`."""
        while self._unsent:
            publication_id = self._unsent.popleft()
            yield encode(self._unanswered[publication_id], publication_id)

    def rewind(self) -> None:
        """Make everything unanswered unsent again: the connection that carried it is gone."""
        self._unsent = deque(self._unanswered)

    def answered(self, publication_id: str) -> str | None:
        """Forget a message that was accepted or refused, and return its text; None if it was not ours."""
        text = self._unanswered.pop(publication_id, None)
        if text is not None and publication_id in self._unsent:
            self._unsent.remove(publication_id)
        return text
