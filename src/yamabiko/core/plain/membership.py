"""A place in a room of a peer of the room protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yamabiko.core.errors import NotAvailable, Refusal
from yamabiko.core.membership import PAGE, Membership
from yamabiko.core.messages import Failed, Gap, Join, Position

if TYPE_CHECKING:
    from yamabiko.core.connection import Connection
    from yamabiko.core.interfaces import Broker
    from yamabiko.core.room import LocalRoom

NEWEST_AT_MOST = 300


class PlainMembership(Membership):
    """Made by `PlainConnection.join`. What was missed is written page by page, a gap in between is told and passed."""

    __slots__ = ("join",)

    def __init__(self, connection: Connection, room: LocalRoom, join: Join, *, may_publish: bool) -> None:
        super().__init__(connection, room, may_publish=may_publish, wants_presence=join.wants_presence)
        self.join = join

    @property
    def wants_list(self) -> bool:
        return self.wants_presence

    async def begin(self, broker: Broker) -> None:
        """Hold publications from now on and read the first page of what was asked for.

        Raises NotAvailable if the broker cannot be reached.
        """
        self.room.hold_for(self)
        await broker.subscribe(self.room.name)
        history, join = self.room.history, self.join
        if history is None:
            return
        if join.since is not None:
            self._page = await broker.read(self.room.name, history, since=join.since, limit=PAGE)
        else:
            self._page = await broker.read(self.room.name, history, limit=min(join.history, NEWEST_AT_MOST))

    async def catch_up(self, broker: Broker) -> None:
        for refusal in self._refused():
            self.write(Failed(refusal))
        await super().catch_up(broker)

    def has_had_one(self) -> None:
        """Nothing here depends on it: messages are always whole."""

    def tell_gap(self, position: Position) -> None:
        self.write(Gap(position))

    def _refused(self) -> list[Refusal]:
        """Return what of the join cannot be."""
        refusals = list(self.join.invalid)
        if self.room.history is None and (self.join.since is not None or self.join.history):
            refusals.append(NotAvailable("this room keeps no history; messages come from now on"))
        if self.join.wants_presence and not self.room.rules.presence:
            refusals.append(NotAvailable("this room does not tell who is present"))
        return refusals
