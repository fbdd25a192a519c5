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


class RoomPresence:
    """The members of this node in one room, those included that are lost and may yet come back.

    Changes wait for `BATCH_SECONDS`, then the store has them, which tells all nodes. A store that cannot be reached is
    asked again.
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
        self._missed: list[PresenceChanged] | None = None
        self._is_scheduled = False
        self._is_settling = False

    @property
    def is_over(self) -> bool:
        """Whether there is nobody left here, and nothing left to tell."""
        return not (self._members or self._coming or self._going or self._watchers or self._new_watchers)

    def come(self, membership: Membership) -> None:
        member = membership.member
        is_back = self._lingering.pop(member.client, None) is not None
        self._members[member.client] = member
        self._going.discard(member.client)
        if not is_back:
            self._coming[member.client] = member
        if membership.wants_list:
            self._new_watchers.add(membership)
        elif membership.wants_presence:
            self._watchers.add(membership)
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
        present = {client: member for client, member in self._members.items() if client not in self._lingering}
        self._coming = {**present, **self._coming}
        self._schedule(BATCH_SECONDS)

    async def present(self) -> list[Member]:
        """Return who is in the room, on all nodes. Raises NotAvailable."""
        await self._tell_store()
        return await self._store.present(self.room)

    async def count(self) -> Counts:
        """Return how many are in the room, on all nodes. Raises NotAvailable."""
        await self._tell_store()
        return await self._store.count(self.room)

    def changed(self, change: PresenceChanged) -> None:
        """Tell who wants to know what has changed, on whichever node."""
        tell_all(self._watchers, change)
        if self._missed is not None:
            self._missed.append(change)

    async def settle(self) -> None:
        """Let the store have what has changed here, and new watchers the list of who is there."""
        self._is_settling, self._is_scheduled = True, False
        try:
            await self._tell_store()
            await self._tell_new_watchers()
        except NotAvailable as error:
            logger.debug("who is in room %s could not be told: %s", self.room, error.message)
            self._schedule(RETRY_SECONDS)
        finally:
            self._is_settling = False
            if self._coming or self._going or self._new_watchers:
                self._schedule(BATCH_SECONDS)

    async def _tell_store(self) -> None:
        coming, self._coming = self._coming, {}
        going, self._going = self._going, set()
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

    async def _tell_new_watchers(self) -> None:
        if not self._new_watchers:
            return
        newcomers, self._new_watchers = self._new_watchers, set()
        self._missed = []
        try:
            listed = {member.client: member for member in await self._store.present(self.room)}
        except NotAvailable:
            self._new_watchers |= {each for each in newcomers if each.is_lasting}
            raise
        finally:
            missed, self._missed = self._missed, None
        for change in missed:
            listed |= {member.client: member for member in change.joined}
            for member in change.left:
                listed.pop(member.client, None)
        staying = {each for each in newcomers if each.is_lasting}
        tell_all(staying, PresenceChanged(joined=tuple(listed.values())))
        self._watchers |= staying

    def _drop(self, client: str) -> None:
        self._lingering.pop(client, None)
        self._members.pop(client, None)
        if self._coming.pop(client, None) is None:
            self._going.add(client)
        self._schedule(BATCH_SECONDS)

    def _stop_telling(self, membership: Membership) -> None:
        self._watchers.discard(membership)
        self._new_watchers.discard(membership)

    def _schedule(self, seconds: float) -> None:
        if not self._is_scheduled and not self._is_settling:
            self._is_scheduled = True
            self._runtime.call_later(seconds, lambda: self._runtime.spawn(self.settle()))


def tell_all(memberships: Iterable[Membership], change: PresenceChanged) -> None:
    """Write a change to several members of a room, encoded once per codec."""
    frames: dict[Codec, Frame] = {}
    for membership in memberships:
        codec = membership.codec
        if codec not in frames:
            frames[codec] = codec.encode(change, membership.room.name)
        membership.connection.transport.write(frames[codec])
