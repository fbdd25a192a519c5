"""Where the reader is in the room's stream: what to ask for after a break, and what was seen already."""

from __future__ import annotations

from dataclasses import dataclass

from yamabiko.client.wire import Ack, Gap, Position, Publication

# The most that a server gives for `history=`.
WHOLE_HISTORY = 300


@dataclass
class Bookmark:
    """Follows one room from its newest `history` publications on.

    Attributes:
        history: how many earlier publications the reader wants at the first visit.
        position: that of the newest publication seen; None before any.
        is_unnumbered: the room keeps no history, so there is nothing to go back to.
        earliest_own: where to resume as long as nothing was seen but something was accepted.
    """

    history: int = 0
    position: Position | None = None
    earliest_own: Position | None = None
    has_visited: bool = False
    is_unnumbered: bool = False

    @property
    def resumes_after(self) -> Position | None:
        """Return after which position the next visit goes on, None where that cannot be said."""
        return self.position or (None if self.history else self.earliest_own)

    def query(self) -> dict[str, str]:
        """Return the parameters of the next handshake, which make the stream go on where it was left."""
        if self.resumes_after:
            return {"since": str(self.resumes_after)}
        if not self.history or self.is_unnumbered:
            return {}
        # A room that had nothing to show at the first visit: all that it has by now is new.
        return {"history": str(WHOLE_HISTORY if self.has_visited else self.history)}

    def visit(self) -> None:
        self.has_visited = True

    def is_new(self, publication: Publication) -> bool:
        """Return False for a publication that was seen before; remember the others."""
        if publication.position is None:
            self.is_unnumbered = True
            return True
        if self.reaches(publication.position):
            return False
        self.position = publication.position
        return True

    def reaches(self, position: Position) -> bool:
        seen = self.position
        return seen is not None and seen.epoch == position.epoch and seen.offset >= position.offset

    def skip_to(self, gap: Gap) -> None:
        self.position = gap.position

    def learn_from(self, ack: Ack) -> None:
        """Note where the stream is, from a publication of our own that was accepted before anything was seen.

        The own copy may still be on its way, so the place is right before it. It is no position of the
        reader's: what is published by others at the same time has not been seen yet.
        """
        if self.earliest_own is None and ack.position is not None:
            self.earliest_own = Position(ack.position.epoch, ack.position.offset - 1)
