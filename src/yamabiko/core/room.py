"""One room as it is in this process: who is joining, who is live, who is present; fan-out and the gap check."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from yamabiko.core.frames import Frame
from yamabiko.core.interfaces import Audience, Codec, Rules, Runtime, Transport
from yamabiko.core.messages import Event, Gap, History, Member, Position, PresenceChanged, Publication

if TYPE_CHECKING:
    from yamabiko.core.membership import Membership

PRESENCE_BATCH_SECONDS = 0.1


class LocalRoom:
    """The part of a room that is in this process."""

    __slots__ = (
        "_ahead",
        "_audiences",
        "_delivered",
        "_live_count",
        "_newcomers",
        "history",
        "name",
        "presence",
        "rules",
    )

    def __init__(self, name: str, rules: Rules, history: History | None, runtime: Runtime) -> None:
        self.name = name
        self.rules = rules
        self.history = history
        self.presence = Presence(runtime)
        self._newcomers: set[Membership] = set()
        self._audiences: dict[tuple[Codec, object], Audience[Transport]] = {}
        self._live_count = 0
        self._ahead: dict[Membership, Position] = {}
        self._delivered: Position | None = None

    @property
    def is_empty(self) -> bool:
        return not (self._newcomers or self._ahead or self._live_count)

    def hold_for(self, newcomer: Membership) -> None:
        """From now on keep publications for `newcomer` until it goes live."""
        self._newcomers.add(newcomer)

    def delivered_after(self, position: Position) -> Position | None:
        """Return how far the broker has delivered here, or None if that is not after `position`."""
        delivered = self._delivered
        return delivered if delivered is not None and _is_after(delivered, position) else None

    def go_live(self, member: Membership, position: Position | None) -> None:
        """Write publications to `member` as they come; it has had all up to `position`, and what it was held.

        It may have read further than the broker has delivered here: then it waits for the others to reach it.
        """
        self._newcomers.discard(member)
        if self._delivered is None:
            self._delivered = position
        if position is not None and self._delivered is not None and _is_after(position, self._delivered):
            self._ahead[member] = position
        else:
            self._enter(member)
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
        """Pass a publication on to everyone here: once, in order, and with a `Gap` where some never came."""
        position, delivered = publication.position, self._delivered
        if position is None:
            self._fan_out(publication)
        elif delivered is None or self._ahead or not _follows(position, delivered):
            self._deliver_out_of_step(publication, position)
        else:
            self._delivered = position
            self._fan_out(publication)

    def _deliver_out_of_step(self, publication: Publication, position: Position) -> None:
        """Deliver where not everyone has had the same so far, or where something is missing or comes again."""
        delivered = self._delivered
        if delivered is not None and _is_after_or_at(delivered, position):
            return
        self._let_in(lambda had: not _is_after_or_at(had, position))
        if delivered is not None and not _follows(position, delivered):
            self._fan_out(Gap(Position(position.epoch, position.offset - 1)))
        self._delivered = position
        self._fan_out(publication)
        self._let_in(lambda had: had == position)

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


def _follows(position: Position, other: Position) -> bool:
    return position.offset == other.offset + 1 and position.epoch == other.epoch


def _is_after(position: Position, other: Position) -> bool:
    return position.epoch == other.epoch and position.offset > other.offset


def _is_after_or_at(position: Position, other: Position) -> bool:
    return position.epoch == other.epoch and position.offset >= other.offset


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
