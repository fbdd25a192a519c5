"""One room as it is in this process: who is joining, who is live; fan-out and the gap check."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from yamabiko.core.fossil import delta
from yamabiko.core.interfaces import Audience, Broker, Codec, Rules, Runtime, Transport
from yamabiko.core.mending import Mending
from yamabiko.core.messages import (
    Delta,
    Gap,
    History,
    Position,
    Publication,
    before,
    is_after,
    is_after_or_at,
    is_next,
)

if TYPE_CHECKING:
    from yamabiko.core.membership import Membership


class LocalRoom:
    """The part of a room that is in this process."""

    __slots__ = (
        "_ahead",
        "_audiences",
        "_base",
        "_broker",
        "_entered_count",
        "_has_deltas",
        "_live",
        "_mending",
        "_newcomers",
        "_runtime",
        "_without_base",
        "delivered",
        "history",
        "name",
        "rules",
    )

    def __init__(self, name: str, rules: Rules, history: History | None, broker: Broker, runtime: Runtime) -> None:
        self.name = name
        self.rules = rules
        self.history = history
        self.delivered: Position | None = None
        """How far the members here have had everything; None before the first is live, or without history."""
        self._has_deltas = rules.delta
        self._broker = broker
        self._runtime = runtime
        self._mending: Mending | None = None
        self._newcomers: set[Membership] = set()
        self._audiences: dict[tuple[Codec, bool, object], Audience[Transport]] = {}
        """By codec, by whether they take deltas, and by kind of transport."""
        self._without_base: list[Membership] = []
        """Those who take deltas once they have had a whole publication."""
        self._base: bytes | None = None
        self._entered_count = 0
        self._live: set[Membership] = set()
        """The live members that are told of gaps one by one: a frame for all would not do."""
        self._ahead: dict[Membership, Position] = {}

    @property
    def live_count(self) -> int:
        return self._entered_count + len(self._ahead)

    @property
    def is_empty(self) -> bool:
        return not (self._newcomers or self.live_count)

    def hold_for(self, newcomer: Membership) -> None:
        """From now on keep publications for `newcomer` until it goes live."""
        self._newcomers.add(newcomer)

    def is_reached_by(self, position: Position) -> bool:
        """Tell whether who has had all up to `position` has had all that was delivered here."""
        return self.delivered is None or is_after_or_at(position, self.delivered)

    def go_live(self, member: Membership, position: Position | None) -> None:
        """Write publications to `member` as they come; it has had all up to `position`, and what it was held.

        It may have read further than the broker has delivered here: then it waits for the others to reach it.
        """
        self._newcomers.discard(member)
        if self.delivered is None:
            self.delivered = position
        if position is None or self.delivered is None or is_after_or_at(self.delivered, position):
            self._enter(member)
        else:
            self._ahead[member] = position
            if position.epoch != self.delivered.epoch:
                self.look_for_missed()

    def leave(self, member: Membership) -> None:
        if member.is_live and self._ahead.pop(member, None) is None:
            self._audience_of(member).discard(member.connection.transport)
            self._live.discard(member)
            self._entered_count -= 1
        self._newcomers.discard(member)
        if member in self._without_base:
            self._without_base.remove(member)

    def deliver(self, publication: Publication) -> None:
        """Pass a publication on to everyone here: once and in order; what is missing before it is read from history."""
        position, delivered = publication.position, self.delivered
        if position is None:
            self._fan_out(publication)
        elif delivered is None or self._ahead or not is_next(position, delivered):
            self._deliver_out_of_step(publication, position)
        else:
            self.delivered = position
            self._fan_out(publication)

    def _deliver_out_of_step(self, publication: Publication, position: Position) -> None:
        """Deliver where not everyone has had the same so far, or where something is missing or comes again."""
        delivered = self.delivered
        if delivered is not None and is_after_or_at(delivered, position):
            return
        if delivered is not None and not is_next(position, delivered):
            if self.history is not None:
                self._mend(self.history).hold(publication)
                return
            self.skip_to(before(position))
        self._let_in(lambda had: is_after(position, had))
        self.delivered = position
        self._fan_out(publication)
        self._let_in(lambda had: had == position)

    def skip_to(self, position: Position) -> None:
        """Tell everyone here who has had less that what comes next comes after `position`."""
        begins_anew = self.delivered is None or self.delivered.epoch != position.epoch
        self._let_in(lambda had: is_after(position, had) or (begins_anew and had.epoch != position.epoch))
        self._tell_gap(position)
        self.go_on_from(position)

    def go_on_from(self, position: Position) -> None:
        """What comes next comes after `position`, and those here have had all up to it."""
        self.delivered = position
        self._base = None
        self._let_in(lambda had: had == position)

    def look_for_missed(self) -> None:
        """Ask the broker for what it may have failed to deliver here."""
        if self.history is not None and self.delivered is not None:
            self._mend(self.history)

    def _mend(self, history: History) -> Mending:
        if self._mending is None:
            self._mending = Mending(self, history, self._broker, self._runtime)
            self._runtime.spawn(self._mending.run())
        return self._mending

    def is_mended(self) -> None:
        self._mending = None

    def _let_in(self, is_reached: Callable[[Position], bool]) -> None:
        """Let those members in who were ahead of the others, and are so no longer."""
        for member in [member for member, position in self._ahead.items() if is_reached(position)]:
            del self._ahead[member]
            self._enter(member)

    def _enter(self, member: Membership) -> None:
        self._audience_of(member).add(member.connection.transport)
        self._entered_count += 1
        if not member.codec.tells_gaps:
            self._live.add(member)
        if self._has_deltas and not member.takes_deltas:
            self._without_base.append(member)

    def _fan_out(self, publication: Publication) -> None:
        if self._newcomers:
            self._hold(publication)
        delta = self._delta(publication) if self._has_deltas else None
        for (codec, takes_deltas, _), audience in self._audiences.items():
            if audience:
                audience.write(codec.encode(delta if takes_deltas and delta else publication, self.name))
        if self._without_base:
            self._give_base()

    def _delta(self, publication: Publication) -> Delta | None:
        """Return what has changed since the publication before, if everybody has that, and it is shorter.

        One without a number is not for those who come back: it is sent whole, and so is the next.
        """
        base, self._base = self._base, None if publication.position is None else publication.data
        if (
            base is None
            or self._base is None
            or not any(takes_deltas and audience for (_, takes_deltas, _), audience in self._audiences.items())
        ):
            return None
        changes = delta(base, publication.data)
        return None if changes is None else Delta(publication, changes)

    def _give_base(self) -> None:
        """Let those who have now had a whole publication take deltas, if they want them."""
        members, self._without_base = self._without_base, []
        for member in members:
            if member.is_lasting:
                audience = self._audience_of(member)
                member.has_had_one()
                if member.takes_deltas:
                    audience.discard(member.connection.transport)
                    self._audience_of(member).add(member.connection.transport)

    def _tell_gap(self, position: Position) -> None:
        gap = Gap(position)
        self._hold(gap)
        for (codec, _, _), audience in self._audiences.items():
            if audience and codec.tells_gaps:
                audience.write(codec.encode(gap, self.name))
        for member in tuple(self._live):  # some leave
            member.tell_gap(position)

    def _hold(self, event: Publication | Gap) -> None:
        for newcomer in tuple(self._newcomers):  # one that overruns leaves
            newcomer.hold(event)

    def _audience_of(self, member: Membership) -> Audience[Transport]:
        transport = member.connection.transport
        key = (member.codec, member.takes_deltas, transport.kind)
        if key not in self._audiences:
            self._audiences[key] = transport.new_audience()
        return self._audiences[key]
