"""Who of this node is present in which rooms: the leases on that, and those who are lost and may come back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING

from yamabiko.core.errors import NotAvailable
from yamabiko.core.presence import RoomPresence

if TYPE_CHECKING:
    from yamabiko.core.connection import Connection
    from yamabiko.core.deadlines import Deadline
    from yamabiko.core.interfaces import PresenceStore, Runtime
    from yamabiko.core.membership import Membership
    from yamabiko.core.messages import Counts, Member, PresenceChanged

logger = logging.getLogger("yamabiko")

RENEW_SECONDS = 15
"""How often leases are renewed; they last three times as long."""

At = Callable[[float, Callable[[], None]], "Deadline"]


class Presences:
    """`at` does something in so many seconds; `linger_seconds` is how long a lost client stays, 0 for not at all."""

    def __init__(self, store: PresenceStore, runtime: Runtime, at: At, *, linger_seconds: float) -> None:
        self._store = store
        self._runtime = runtime
        self._at = at
        self._linger_seconds = linger_seconds
        self._rooms: dict[str, RoomPresence] = {}

    def __len__(self) -> int:
        return len(self._rooms)

    def come(self, membership: Membership) -> None:
        self._room(membership.room.name).come(membership)

    def renew(self, membership: Membership) -> None:
        """Say anew who a member is."""
        self._room(membership.room.name).renew(membership)

    def go(self, membership: Membership, *, is_lost: bool) -> None:
        presence = self._room(membership.room.name)
        if is_lost and self._linger_seconds:
            self._at(self._linger_seconds, presence.linger(membership))
        else:
            presence.go(membership)

    def lose(self, connection: Connection) -> None:
        """Let a lost connection of a known user be the same to others when the user comes back."""
        if self._linger_seconds:
            self._spawn(self._store.lose(connection.user_id, connection.client, seconds=self._linger_seconds))

    async def reclaim(self, user_id: str) -> str:
        """Return the client of a lost connection of this user, empty if there is none; nobody else gets it then."""
        if not self._linger_seconds:
            return ""
        try:
            return await self._store.reclaim(user_id)
        except NotAvailable:  # it will be somebody new then
            return ""

    async def present(self, room: str) -> list[Member]:
        """Return who is in a room, on all nodes. Raises NotAvailable."""
        here = self._rooms.get(room)
        return await (here.present() if here is not None else self._store.present(room))

    async def count(self, room: str) -> Counts:
        """Return how many are in a room, on all nodes. Raises NotAvailable."""
        here = self._rooms.get(room)
        return await (here.count() if here is not None else self._store.count(room))

    def changed(self, room: str, change: PresenceChanged) -> None:
        here = self._rooms.get(room)
        if here is not None:
            here.changed(change)

    def look_for_missed(self, room: str = "") -> None:
        """Look for what the broker may have failed to tell of a room, "" for any."""
        for name in (room,) if room else tuple(self._rooms):
            if name in self._rooms:
                self._rooms[name].look_for_missed()

    def tick(self, second: int) -> None:
        """Forget rooms where nobody is any more, and renew the leases of the others."""
        self._rooms = {room: here for room, here in self._rooms.items() if not here.is_over}
        if second % RENEW_SECONDS == 0 and self._rooms:
            self._spawn(self._renew())

    async def end(self) -> None:
        """Let those who are here count as present for as long as they may come back, to another node. Never raises."""
        await self._quietly(self._store.renew(list(self._rooms), seconds=max(self._linger_seconds, 1.0)))

    async def _renew(self) -> None:
        for room in await self._store.renew(list(self._rooms)):
            here = self._rooms.get(room)
            if here is not None:
                here.come_again()

    def _room(self, room: str) -> RoomPresence:
        here = self._rooms.get(room)
        if here is None:
            here = self._rooms[room] = RoomPresence(room, self._store, self._runtime)
        return here

    def _spawn(self, work: Coroutine[object, object, object]) -> None:
        self._runtime.spawn(self._quietly(work))

    async def _quietly(self, work: Coroutine[object, object, object]) -> None:
        try:
            await work
        except NotAvailable as error:  # the broker has told the log
            logger.debug("presence could not be told: %s", error.message)
