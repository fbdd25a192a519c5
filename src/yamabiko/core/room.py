"""One room as it is in this process: who is joining, who is live, who is present; fan-out and the gap check."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from yamabiko.core.frames import Frame
from yamabiko.core.interfaces import Audience, Broker, Codec, Rules, Runtime, Transport
from yamabiko.core.mending import Mending
from yamabiko.core.messages import (
    Event,
    Gap,
    History,
    Member,
    Position,
    PresenceChanged,
    Publication,
    before,
    is_after,
    is_after_or_at,
    is_next,
)

if TYPE_CHECKING:
    from yamabiko.core.membership import Membership

PRESENCE_BATCH_SECONDS = 0.1


class LocalRoom:
    """The part of a room that is in this process."""

    __slots__ = (
        "_ahead",
        "_audiences",
        "_broker",
        "_live_count",
        "_mending",
        "_newcomers",
        "_runtime",
        "delivered",
        "history",
        "name",
        "presence",
        "rules",
    )

    def __init__(self, name: str, rules: Rules, history: History | None, broker: Broker, runtime: Runtime) -> None:
        self.name = name
        self.rules = rules
        self.history = history
        self.presence = Presence(runtime)
        self.delivered: Position | None = None
        """How far the members here have had everything; None before the first is live, or without history."""
        self._broker = broker
        self._runtime = runtime
        self._mending: Mending | None = None
        self._newcomers: set[Membership] = set()
        self._audiences: dict[tuple[Codec, object], Audience[Transport]] = {}
        self._live_count = 0
        self._ahead: dict[Membership, Position] = {}

    @property
    def is_empty(self) -> bool:
        return not (self._newcomers or self._ahead or self._live_count)

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
        if self.rules.presence:
            self.presence.come(member)

    def leave(self, member: Membership) -> None:
        if member.is_live:
            if self._ahead.pop(member, None) is None:
                self._audience_of(member).discard(member.connection.transport)
                self._live_count -= 1
            if self.rules.presence:
                self.presence.go(member)
        self._newcomers.discard(member)

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
        self._fan_out(Gap(position))
        self.go_on_from(position)

    def go_on_from(self, position: Position) -> None:
        """What comes next comes after `position`, and those here have had all up to it."""
        self.delivered = position
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
        self._live_count += 1

    def _fan_out(self, event: Publication | Gap) -> None:
        if self._newcomers:
            for newcomer in tuple(self._newcomers):  # one that overruns leaves
                newcomer.hold(event)
        for (codec, _), audience in self._audiences.items():
            if audience:
                audience.write(codec.encode(event))

    def _audience_of(self, member: Membership) -> Audience[Transport]:
        transport = member.connection.transport
        key = (member.connection.codec, transport.kind)
        if key not in self._audiences:
            self._audiences[key] = transport.new_audience()
        return self._audiences[key]


class Presence:
    """Who is in a room, told to those who asked; comings and goings of 100 ms are told together."""

    def __init__(self, runtime: Runtime) -> None:
        self.members: dict[str, Member] = {}
        self._runtime = runtime
        self._watchers: set[Membership] = set()
        self._new_watchers: set[Membership] = set()
        self._joined: dict[str, Member] = {}
        self._left: dict[str, Member] = {}
        self._is_scheduled = False

    def come(self, membership: Membership) -> None:
        member = membership.member
        self.members[member.client] = self._joined[member.client] = member
        if membership.wants_presence:
            self._new_watchers.add(membership)
        self._schedule()

    def go(self, membership: Membership) -> None:
        member = membership.member
        self._watchers.discard(membership)
        self._new_watchers.discard(membership)
        self.members.pop(member.client, None)
        if self._joined.pop(member.client, None) is None:
            self._left[member.client] = member
            self._schedule()

    def tell(self) -> None:
        """Tell the watchers what has changed since the last time, and new watchers who is there."""
        self._is_scheduled = False
        joined, self._joined = self._joined, {}
        left, self._left = self._left, {}
        newcomers, self._new_watchers = self._new_watchers, set()
        if joined or left:
            tell_all(self._watchers, PresenceChanged(tuple(joined.values()), tuple(left.values())))
        if newcomers:
            tell_all(newcomers, PresenceChanged(joined=tuple(self.members.values())))
            self._watchers |= newcomers

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._runtime.call_later(PRESENCE_BATCH_SECONDS, self.tell)


def tell_all(memberships: Iterable[Membership], event: Event) -> None:
    """Write an event to several connections, encoded once per codec."""
    frames: dict[Codec, Frame] = {}
    for membership in memberships:
        connection = membership.connection
        if connection.codec not in frames:
            frames[connection.codec] = connection.codec.encode(event)
        connection.transport.write(frames[connection.codec])
