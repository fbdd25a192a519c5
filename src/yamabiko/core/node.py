"""One process: its hub, its broker and the application's rules."""

from __future__ import annotations

from collections.abc import Coroutine

from yamabiko.core.connection import Connection, run_hook
from yamabiko.core.errors import NotAvailable
from yamabiko.core.hub import Hub
from yamabiko.core.interfaces import Application, Broker, Codec, Rules, Runtime
from yamabiko.core.messages import History, Position, Stream, is_after
from yamabiko.core.room import LocalRoom

BEFORE_ALL = Position("", 0)
"""In no epoch, so that history begins with the oldest publication that is kept."""


class Node:
    def __init__(self, broker: Broker, application: Application, runtime: Runtime) -> None:
        self.broker = broker
        self.hub = Hub(broker, runtime)
        self.connections: set[Connection] = set()
        self._application = application
        self._runtime = runtime
        broker.start(self.hub.deliver, self.hub.look_for_missed)

    def rules(self, room: str) -> Rules:
        """Return the rules of a room, those in force if it has members here. Raises UnknownRoom."""
        here = self.hub.rooms.get(room)
        return here.rules if here is not None else self._application.rules(room)

    def connect(self, codec: Codec, user: object) -> Connection:
        """Open a connection for `user`. Whoever does so must see to it that `closed` is called."""
        connection = Connection(self, codec, user, self._application.name_of(user))
        self.connections.add(connection)
        return connection

    async def publish(self, room: str, data: bytes, *, user: str = "", key: str = "") -> Position | None:
        """Publish `data` (JSON in UTF-8) from the application itself: no Room class is asked for leave.

        Returns the position, None where the room keeps no history. Raises UnknownRoom or PublishFailed.
        """
        history = self._history(self.rules(room))
        return await self.broker.publish(room, data, history=history, user=user, key=key)

    async def read(
        self, room: str, *, since: Position | None = None, limit: int = 100, reverse: bool = False
    ) -> Stream:
        """Return at most `limit` kept publications: the oldest, or the first after `since`.

        In reverse the newest come first, or those before `since`. Raises UnknownRoom, and NotAvailable if the room
        keeps no history or the broker cannot be reached.
        """
        history = self._history(self.rules(room))
        if history is None:
            raise NotAvailable("this room keeps no history")
        if reverse:
            return await self._read_in_reverse(room, history, since, limit)
        page = await self.broker.read(room, history, since=since or BEFORE_ALL, limit=limit)
        return page if since is not None else Stream(page.publications, page.top)

    async def _read_in_reverse(self, room: str, history: History, since: Position | None, limit: int) -> Stream:
        if since is None:
            page = await self.broker.read(room, history, limit=limit)
            return Stream(page.publications[::-1], page.top)
        start = Position(since.epoch, max(since.offset - 1 - limit, 0))
        page = await self.broker.read(room, history, since=start, limit=limit)
        older = [each for each in page.publications if each.position is not None and is_after(since, each.position)]
        return Stream(older[::-1], page.top, is_whole=since.epoch == page.top.epoch)

    def room(self, name: str, rules: Rules) -> LocalRoom:
        return self.hub.room(name, rules, self._history(rules))

    def _history(self, rules: Rules) -> History | None:
        return rules.history if self.broker.keeps_history else None

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Run `work` beside everything else, owned by this node's runtime."""
        self._runtime.spawn(work)

    def forget(self, connection: Connection) -> None:
        """Take a closed connection out of its room and out of this node."""
        self.connections.discard(connection)
        membership = connection.membership
        if membership is None:
            return
        room = membership.room
        room.leave(membership)
        if membership.is_announced:
            self._runtime.spawn(run_hook(room.rules, "on_leave", connection.user))
        if self.hub.forget_if_empty(room):
            self._runtime.spawn(self._unsubscribe(room))

    async def _unsubscribe(self, room: LocalRoom) -> None:
        if room.name not in self.hub.rooms:
            await self.broker.unsubscribe(room.name)
