"""Who of this node is in a room, and who here is told of comings and goings on all nodes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from yamabiko.core.errors import NotAvailable
from yamabiko.core.messages import Counts, Member, PresenceChanged

if TYPE_CHECKING:
    from yamabiko.core.frames import Frame
    from yamabiko.core.interfaces import Codec, PresenceStore, Runtime
    from yamabiko.core.membership import Membership

logger = logging.getLogger("yamabiko")

BATCH_SECONDS = 0.1
"""Comings and goings of a room in this time are told together."""
RETRY_SECONDS = 1.0
NO_CHANGE = PresenceChanged()


class RoomPresence:
    """The members of this node in one room, those included that are lost and may yet come back.

    Changes wait for `BATCH_SECONDS`, then the store has them, which tells all nodes. A store that cannot be reached is
    asked again. What it tells may get lost on its way: who is there is looked up after trouble, and now and then.
    """

    def __init__(self, room: str, store: PresenceStore, runtime: Runtime) -> None:
        self.room = room
        self._store = store
        self._runtime = runtime
        self._members: dict[str, Member] = {}
        self._lingering: dict[str, object] = {}
        self._coming: dict[str, Member] = {}
        self._going: set[str] = set()
        self._watchers: set[Membership] = set()
        self._new_watchers: set[Membership] = set()
        self._told: dict[str, Member] | None = None
        """Who is there as the watchers have been told, None before the first look."""
        self._told_early = _Early()
        self._is_to_look = False
        self._missed: list[PresenceChanged] | None = None
        self._being_told: tuple[dict[str, Member], set[str]] | None = None
        self._is_scheduled = False
        self._is_settling = False

    @property
    def is_over(self) -> bool:
        """Whether there is nobody left here, and nothing left to tell."""
        is_busy = self._is_scheduled or self._is_settling
        return not (is_busy or self._members or self._coming or self._going or self._watchers or self._new_watchers)

    def come(self, membership: Membership) -> None:
        member = membership.member
        self._lingering.pop(member.client, None)
        self._members[member.client] = self._coming[member.client] = member
        self._going.discard(member.client)
        if membership.wants_list:
            self._new_watchers.add(membership)
        elif membership.wants_presence:
            self._watchers.add(membership)
            self._is_to_look = self._is_to_look or self._told is None
        self._schedule(BATCH_SECONDS)

    def renew(self, membership: Membership) -> None:
        """Have others find what is known of a member now; nobody is told that it has come."""
        member = membership.member
        if member.client in self._members:
            self._members[member.client] = self._coming[member.client] = member
            self._schedule(BATCH_SECONDS)

    def look_for_missed(self) -> None:
        """Tell those who want to know what they have not been told, if there is anything."""
        if self._watchers:
            self._is_to_look = True
            self._schedule(BATCH_SECONDS)

    def go(self, membership: Membership) -> None:
        self._stop_telling(membership)
        self._drop(membership.connection.client)

    def linger(self, membership: Membership) -> Callable[[], None]:
        """Keep a lost member present; return what ends that, unless it has come back."""
        self._stop_telling(membership)
        client, mark = membership.connection.client, object()
        self._lingering[client] = mark

        def end() -> None:
            if self._lingering.get(client) is mark:
                self._drop(client)

        return end

    def come_again(self) -> None:
        """Have the store told of all who are here, because it has lost them."""
        self._coming = {**self._here(), **self._coming}
        self._schedule(BATCH_SECONDS)

    async def present(self) -> list[Member]:
        """Return who is in the room, on all nodes. Raises NotAvailable."""
        await self._tell_store()
        listed = {member.client: member for member in await self._store.present(self.room)}
        coming, going = self._untold()
        return [member for client, member in (listed | coming).items() if client not in going]

    async def count(self) -> Counts:
        """Return how many are in the room, on all nodes. Raises NotAvailable."""
        await self._tell_store()
        if any(self._untold()):
            members = await self.present()
            return Counts(len(members), len({member.user for member in members}))
        return await self._store.count(self.room)

    def changed(self, change: PresenceChanged) -> None:
        """Tell who wants to know what has changed, on whichever node; nobody with a list of others of its own leave."""
        self._tell_watchers(self._told_early.without_told(change))
        if self._told is not None:
            _apply(change, self._told)
        if self._missed is not None:
            self._missed.append(change)

    async def settle(self) -> None:
        """Let the store have what has changed here, and new watchers the list of who is there."""
        self._is_settling, self._is_scheduled = True, False
        next_in_seconds = BATCH_SECONDS
        try:
            await self._tell_store()
            if self._new_watchers or self._is_to_look:
                await self._look()
        except NotAvailable as error:
            logger.debug("who is in room %s could not be told: %s", self.room, error.message)
            next_in_seconds = RETRY_SECONDS
        finally:
            self._is_settling = False
            if self._coming or self._going or self._new_watchers or self._is_to_look:
                self._schedule(next_in_seconds)

    def _here(self) -> dict[str, Member]:
        return {client: member for client, member in self._members.items() if client not in self._lingering}

    def _untold(self) -> tuple[dict[str, Member], set[str]]:
        """Return who has come, and who has gone, without the store knowing for sure."""
        coming, going = self._being_told or ({}, set())
        coming = {client: member for client, member in coming.items() if client not in self._going} | self._coming
        return coming, (going - coming.keys()) | self._going

    async def _tell_store(self) -> None:
        """Let the store have what has changed; what is just being told to it is told by nobody else."""
        if self._being_told is not None:
            return
        coming, self._coming = self._coming, {}
        going, self._going = self._going, set()
        self._being_told = coming, going
        try:
            if coming:
                await self._store.come(self.room, list(coming.values()))
            if going:
                await self._store.go(self.room, going)
        except NotAvailable:
            still_here = {client: member for client, member in coming.items() if client in self._members}
            self._coming = {**still_here, **self._coming}
            self._going |= {client for client in going | coming.keys() if client not in self._members}
            raise
        finally:
            self._being_told = None

    async def _look(self) -> None:
        """Tell new watchers who is there, and the others what of that they have not been told."""
        newcomers, self._new_watchers = self._new_watchers, set()
        self._is_to_look, self._missed = False, []
        try:
            listed = {member.client: member for member in await self._store.present(self.room)}
        except NotAvailable:
            self._new_watchers |= {each for each in newcomers if each.is_lasting}
            self._is_to_look = True
            raise
        finally:
            missed, self._missed = self._missed, None
        for change in missed:
            _apply(change, listed)
        listed |= self._here()  # whatever the store may have lost
        if self._told is not None:
            untold = _difference(self._told, listed)
            self._tell_watchers(untold)
            self._told_early = _Early(untold)
        staying = {each for each in newcomers if each.is_lasting}
        tell_all(staying, PresenceChanged(joined=tuple(listed.values())))
        self._watchers |= staying
        self._told = listed if self._watchers else None

    def _tell_watchers(self, change: PresenceChanged) -> None:
        left = {member.client for member in change.left}
        own = (
            {each for each in self._watchers if each.connection.client in left and not each.wants_list} if left else ()
        )
        tell_all(self._watchers.difference(own) if own else self._watchers, change)
        for each in own:
            tell_all([each], _without_leave(change, each.connection.client))

    def _drop(self, client: str) -> None:
        self._lingering.pop(client, None)
        self._members.pop(client, None)
        self._coming.pop(client, None)
        self._going.add(client)  # also if it has just come: it may have been there before
        self._schedule(BATCH_SECONDS)

    def _stop_telling(self, membership: Membership) -> None:
        self._watchers.discard(membership)
        self._new_watchers.discard(membership)
        if not self._watchers:
            self._told, self._is_to_look = None, False

    def _schedule(self, seconds: float) -> None:
        if not self._is_scheduled and not self._is_settling:
            self._is_scheduled = True
            self._runtime.call_later(seconds, lambda: self._runtime.spawn(self.settle()))


class _Early:
    """Who watchers have been told of before the store's own word, which may still be on its way."""

    def __init__(self, told: PresenceChanged = NO_CHANGE) -> None:
        self._joined = {member.client for member in told.joined}
        self._left = {member.client for member in told.left}

    def without_told(self, change: PresenceChanged) -> PresenceChanged:
        """Return what of a change is news; what comes of the same clients after it is news again."""
        if not (self._joined or self._left):
            return change
        joined = tuple(member for member in change.joined if member.client not in self._joined)
        left = tuple(member for member in change.left if member.client not in self._left)
        heard = {member.client for member in (*change.joined, *change.left)}
        self._joined -= heard
        self._left -= heard
        return PresenceChanged(joined, left)


def _apply(change: PresenceChanged, members: dict[str, Member]) -> None:
    members |= {member.client: member for member in change.joined}
    for member in change.left:
        members.pop(member.client, None)


def _difference(before: dict[str, Member], after: dict[str, Member]) -> PresenceChanged:
    return PresenceChanged(
        joined=tuple(member for client, member in after.items() if client not in before),
        left=tuple(member for client, member in before.items() if client not in after),
    )


def _without_leave(change: PresenceChanged, client: str) -> PresenceChanged:
    return PresenceChanged(change.joined, tuple(member for member in change.left if member.client != client))


def tell_all(memberships: Iterable[Membership], change: PresenceChanged) -> None:
    """Write a change to several members of a room, encoded once per codec."""
    if not (change.joined or change.left):
        return
    frames: dict[Codec, Frame] = {}
    for membership in memberships:
        codec = membership.codec
        if codec not in frames:
            frames[codec] = codec.encode(change, membership.room.name)
        membership.connection.transport.write(frames[codec])
