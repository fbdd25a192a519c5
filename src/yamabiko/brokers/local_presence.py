"""Who is in which room of this process alone: its members end with it, so they need no lease."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Container, Iterable, Sequence

from yamabiko.brokers.nobody import Nobody
from yamabiko.core.interfaces import LEASE_SECONDS, Listener
from yamabiko.core.messages import Counts, Member, PresenceChanged

LOST_AT_MOST = 100
"""How many lost clients of one user are remembered."""


class LocalPresence:
    """See `PresenceStore`. Who listens is told of `subscribed` rooms before `come` or `go` returns; it never fails."""

    def __init__(self, clock: Callable[[], float], subscribed: Container[str]) -> None:
        self._clock = clock
        self._subscribed = subscribed
        self._listener: Listener = Nobody()
        self._rooms: dict[str, _Room] = {}
        self._lost = _LostClients()

    def start(self, listener: Listener) -> None:
        self._listener = listener

    def clear(self) -> None:
        """Take everybody out, and tell nobody."""
        self._rooms.clear()

    async def come(self, room: str, members: Sequence[Member]) -> None:
        if not members:
            return
        here = self._rooms.setdefault(room, _Room())
        if joined := here.add(members):
            self._tell(room, PresenceChanged(joined=joined))

    async def go(self, room: str, clients: Collection[str]) -> None:
        here = self._rooms.get(room)
        if here is None:
            return
        left = here.remove(clients)
        if not here.members:
            del self._rooms[room]
        if left:
            self._tell(room, PresenceChanged(left=left))

    async def renew(self, rooms: Sequence[str], *, seconds: float = LEASE_SECONDS) -> list[str]:
        return [room for room in rooms if room not in self._rooms]

    async def present(self, room: str) -> list[Member]:
        here = self._rooms.get(room)
        return list(here.members.values()) if here is not None else []

    async def count(self, room: str) -> Counts:
        here = self._rooms.get(room)
        return Counts(len(here.members), len(here.users)) if here is not None else Counts(0, 0)

    async def lose(self, user: str, client: str, *, seconds: float) -> None:
        if user:
            self._lost.remember(user, client, now=self._clock(), seconds=seconds)

    async def reclaim(self, user: str) -> str:
        return self._lost.take(user, self._clock())

    def _tell(self, room: str, changed: PresenceChanged) -> None:
        if room in self._subscribed:
            self._listener.presence_changed(room, changed)


class _LostClients:
    """Clients by user, those lost last at the end, each with the time at which it is forgotten."""

    def __init__(self) -> None:
        self._of: dict[str, dict[str, float]] = {}
        self._expiries: deque[tuple[float, str]] = deque()

    def remember(self, user: str, client: str, *, now: float, seconds: float) -> None:
        self._forget_some(now)
        clients = self._of.setdefault(user, {})
        clients.pop(client, None)
        clients[client] = now + seconds
        if len(clients) > LOST_AT_MOST:
            del clients[next(iter(clients))]
        self._expiries.append((now + seconds, user))

    def take(self, user: str, now: float) -> str:
        """Return the client lost last, and forget it; or ""."""
        self._forget_some(now)
        clients = self._of.get(user, {})
        while clients:
            client, expires_at = clients.popitem()
            if expires_at > now:
                return client
        return ""

    def _forget_some(self, now: float) -> None:
        """Forget what has expired of those who do not come back."""
        while self._expiries and self._expiries[0][0] <= now:
            user = self._expiries.popleft()[1]
            left = {client: until for client, until in self._of.pop(user, {}).items() if until > now}
            if left:
                self._of[user] = left


class _Room:
    """The members of one room by client, and how many clients each user has."""

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        self.users: Counter[str] = Counter()

    def add(self, members: Iterable[Member]) -> tuple[Member, ...]:
        """Add members, in place of those with the same client; return those that are new."""
        new = {member.client: member for member in members if member.client not in self.members}
        for member in members:
            self._take_out(member.client)
            self.members[member.client] = member
            self.users[member.user] += 1
        return tuple(new.values())

    def remove(self, clients: Iterable[str]) -> tuple[Member, ...]:
        """Remove clients; return the members that were there."""
        return tuple(member for client in clients if (member := self._take_out(client)) is not None)

    def _take_out(self, client: str) -> Member | None:
        member = self.members.pop(client, None)
        if member is not None:
            self.users[member.user] -= 1
            if not self.users[member.user]:
                del self.users[member.user]
        return member
