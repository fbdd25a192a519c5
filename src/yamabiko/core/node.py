"""One process: its hub, its broker, its connections and the application's rules."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Coroutine
from contextlib import suppress

import msgspec

from yamabiko.core import orders
from yamabiko.core.connection import Connection, run_hook
from yamabiko.core.deadlines import Deadline, Deadlines
from yamabiko.core.errors import NotAvailable, TooManyRequests
from yamabiko.core.hub import Hub
from yamabiko.core.identity import Identity
from yamabiko.core.interfaces import Application, Broker, Codec, Rules, Runtime
from yamabiko.core.membership import Membership
from yamabiko.core.messages import Counts, History, Member, Position, PresenceChanged, Stream, is_after
from yamabiko.core.plain.connection import PlainConnection
from yamabiko.core.presences import Presences
from yamabiko.core.room import LocalRoom
from yamabiko.core.sdk.connection import SdkConnection, Take
from yamabiko.core.sdk.limits import SdkLimits
from yamabiko.core.site import ANSWER_SECONDS, STATUS_SECONDS, RoomCounts, Site, matches
from yamabiko.core.users import Users
from yamabiko.core.version import VERSION

logger = logging.getLogger("yamabiko")

BEFORE_ALL = Position("", 0)
"""In no epoch, so that history begins with the oldest publication that is kept."""


class Node:
    """See `Listener` for what it takes from its broker."""

    def __init__(
        self,
        broker: Broker,
        application: Application,
        runtime: Runtime,
        *,
        name: str = "",
        sdk_limits: SdkLimits | None = None,
        linger_seconds: float = 15.0,
        position_check_seconds: float = 40,
    ) -> None:
        self.id = uuid.uuid4().hex
        self.broker = broker
        self.application = application
        self.sdk_limits = sdk_limits or SdkLimits()
        self.hub = Hub(broker, runtime)
        self.connections: set[Connection] = set()
        self.users = Users()
        self.sessions: dict[str, Take] = {}
        """Connections whose peers speak in requests of their own, by a secret that both know."""
        self.deliver = self.hub.deliver
        self._name = name or self.id[:8]
        self._runtime = runtime
        self._position_check_seconds = max(int(position_check_seconds), 1)
        self._presences = Presences(broker.presence, runtime, self.at, linger_seconds=linger_seconds)
        self._deadlines = Deadlines()
        self._site = Site()
        self._began = runtime.now()
        self._second = 0
        self._is_ticking = False
        self._is_listening = False
        self._is_serving = False
        broker.start(self)

    # Who comes and goes

    def connect(self, codec: Codec, identity: Identity, *, asked_at: float | None = None) -> PlainConnection:
        """Open a connection that speaks the room protocol. Whoever does so must see to it that `closed` is called.

        `asked_at` is when it was asked for the identity, as `now` tells it: the user may have been ordered off since.
        """
        connection = PlainConnection(self, codec, identity)
        self.connections.add(connection)
        self.know(connection, asked_at=self.now() if asked_at is None else asked_at)
        return connection

    def connect_sdk(self, codec: Codec, visitor: object, *, pings: bool = True) -> SdkConnection:
        """Open one that speaks the SDK protocol; it says only later who it is, or `visitor`, its handshake, does."""
        connection = SdkConnection(self, codec, visitor, pings=pings)
        self.connections.add(connection)
        return connection

    def know(self, connection: Connection, *, asked_at: float) -> None:
        """Take note of whose connection this is; close it if its user has been disconnected since `asked_at`."""
        if connection.user_id:
            self.users.add(connection, asked_at=asked_at)

    async def entered(self, membership: Membership) -> None:
        """Tell the others and the application who has become live; who left meanwhile is told of only then."""
        rules, user = membership.room.rules, membership.connection.user
        if rules.presence:
            self._presences.come(membership)
            self._tick_on()
        try:
            await run_hook(rules, "on_join", user)
        finally:
            membership.is_announced = True
            if not membership.is_lasting:
                self.spawn(run_hook(rules, "on_leave", user))

    def renew(self, membership: Membership) -> None:
        """Say anew to others who a member is: something of it has changed."""
        membership.forget_extras()
        if membership.is_live and membership.room.rules.presence:
            self._presences.renew(membership)

    def leave(self, membership: Membership, *, is_lost: bool = False) -> None:
        """Take a membership out of its room; one that is lost stays present for a while."""
        if membership.has_left:
            return
        room, was_live = membership.room, membership.is_live
        membership.leave()
        if was_live and room.rules.presence:
            self._presences.go(membership, is_lost=is_lost)
        if membership.is_announced:
            self.spawn(run_hook(room.rules, "on_leave", membership.connection.user))
        if self.hub.forget_if_empty(room):
            self.spawn(self._unsubscribe(room))

    def forget(self, connection: Connection, *, is_lost: bool) -> None:
        """Take a closed connection out of its rooms and out of this node."""
        self.connections.discard(connection)
        was_present = False
        for membership in tuple(connection.memberships):
            was_present = was_present or (membership.is_live and membership.room.rules.presence)
            self.leave(membership, is_lost=is_lost)
        if hasattr(connection, "identity") and connection.user_id:
            self.users.discard(connection)
            if is_lost and was_present:
                self._presences.lose(connection)

    async def reclaim(self, user_id: str) -> str:
        """Return the client of a lost connection of this user, empty if there is none; nobody else gets it then."""
        return await self._presences.reclaim(user_id)

    # Rooms

    def rules(self, room: str) -> Rules:
        """Return the rules of a room, those in force if it has members here. Raises UnknownRoom."""
        here = self.hub.rooms.get(room)
        return here.rules if here is not None else self.application.rules(room)

    def room(self, name: str, rules: Rules) -> LocalRoom:
        return self.hub.room(name, rules, self._history(rules))

    async def publish(
        self, room: str, data: bytes, *, user: str = "", extras: bytes = b"", key: str = "", is_kept: bool = True
    ) -> Position | None:
        """Publish `data` (JSON in UTF-8) from the application itself: no Room class is asked for leave.

        Returns the position, None where it is not kept. Raises UnknownRoom or PublishFailed.
        """
        history = self._history(self.rules(room)) if is_kept else None
        return await self.broker.publish(room, data, history=history, user=user, extras=extras, key=key)

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

    async def forget_history(self, room: str) -> None:
        """Let go of what is kept of a room; numbering goes on. Raises UnknownRoom and NotAvailable."""
        if self._history(self.rules(room)) is None:
            raise NotAvailable("this room keeps no history")
        await self.broker.forget(room)

    async def present(self, room: str) -> list[Member]:
        """Return who is in a room, on all nodes. Raises UnknownRoom and NotAvailable."""
        self._refuse_without_presence(room)
        return await self._presences.present(room)

    async def count_present(self, room: str) -> Counts:
        """Return how many are in a room, on all nodes. Raises UnknownRoom and NotAvailable."""
        self._refuse_without_presence(room)
        return await self._presences.count(room)

    # All nodes

    async def begin(self) -> None:
        """Hear what other nodes ask of all, and let them know of this one. Never raises."""
        self._is_serving = True
        await self.observe()
        if self.broker.is_shared:
            await self._tell(self._status())

    async def observe(self) -> bool:
        """Hear of the other nodes from now on, without being one of them; return whether that is new. Never raises."""
        if self._is_listening:
            return False
        self._is_listening = True
        await self.broker.listen()
        if self.broker.is_shared:
            self._tick_on()
            await self._tell(orders.AskStatus())
        return True

    async def end(self) -> None:
        """Let the others know that this node is going. Its members count as present for as long as they may linger."""
        if self._is_serving and self.broker.is_shared:
            await self._tell(self._status(is_leaving=True))
            await self._presences.end()
        self._is_listening = self._is_serving = False

    async def order(self, order: orders.Order) -> None:
        """Have every node do its part, this one too. Raises NotAvailable if the broker cannot be reached."""
        await self.broker.tell_nodes(orders.encode(order))

    def knows_node(self, node: str) -> bool:
        return node == self.id or any(node == status.node for status in self._others())

    async def pass_on(self, node: str, session: str, payload: str | bytes) -> None:
        """Hand in what the peer of a session says, here or on another node; a session that is not known is ignored.

        Raises NotAvailable if the broker cannot be reached, and TooManyRequests if too much of it waits here.
        """
        if node != self.id:
            is_text = isinstance(payload, str)
            data = payload.encode() if isinstance(payload, str) else payload
            await self.order(orders.PassOn(node=node, session=session, data=data, is_text=is_text))
            return
        take = self.sessions.get(session)
        if take is not None:
            await take(payload)

    async def ask_rooms(self, pattern: str, answered: Callable[[RoomCounts], None]) -> None:
        """Ask all nodes for their rooms; `answered` has the numbers of members within a second. Raises NotAvailable."""
        question = self._site.ask(pattern, {status.node for status in self.statuses()}, answered)
        self._runtime.call_later(ANSWER_SECONDS, lambda: self._site.finish(question.id))
        await self.order(question)

    def statuses(self) -> list[orders.NodeStatus]:
        """Return how the nodes of this site are, this one first if it is one, the others as of some seconds ago."""
        here = [self._status()] if self._is_serving or not self.broker.is_shared else []
        return here + self._others()

    # What the broker brings

    def missed(self) -> None:
        self.hub.look_for_missed()
        self._presences.look_for_missed()

    def presence_changed(self, room: str, changed: PresenceChanged) -> None:
        self._presences.changed(room, changed)

    def heard(self, message: bytes) -> None:
        try:
            order = orders.decode(message)
        except msgspec.MsgspecError as error:
            logger.warning("another node asks for what this one does not know: %s", error)
            return
        if isinstance(order, orders.UserOrder):
            self.users.obey(order, self.now())
        elif isinstance(order, orders.PassOn):
            self._pass_on(order)
        elif isinstance(order, orders.NodeStatus):
            self._site.learn(order, self._runtime.now())
        elif isinstance(order, orders.AskStatus):
            if self._is_serving:
                self.spawn(self._tell(self._status()))
        elif isinstance(order, orders.AskRooms):
            self.spawn(self._tell(orders.TellRooms(id=order.id, node=self.id, rooms=self._room_counts(order.pattern))))
        else:
            self._site.take(order)

    # Time

    def now(self) -> float:
        return self._runtime.now()

    def at(self, seconds: float, callback: Callable[[], None]) -> Deadline:
        """Do something in so many seconds, give or take one."""
        self._tick_on()
        return self._deadlines.add(self._runtime.now() + seconds, callback)

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Run `work` beside everything else, owned by this node's runtime."""
        self._runtime.spawn(work)

    def _tick_on(self) -> None:
        if not self._is_ticking:
            self._is_ticking = True
            self._runtime.call_later(1, self._tick)

    def _tick(self) -> None:
        self._second += 1
        self._deadlines.tick(self._runtime.now())
        self._presences.tick(self._second)
        if self.broker.is_shared:
            self._look_for_missed()
            if self._is_serving and self._second % int(STATUS_SECONDS) == 0:
                self.spawn(self._tell(self._status()))
        self._is_ticking = False
        if self.connections or self._presences or len(self._deadlines) or self._listens_to_others:
            self._tick_on()

    @property
    def _listens_to_others(self) -> bool:
        return self._is_listening and self.broker.is_shared

    def _look_for_missed(self) -> None:
        """Compare some rooms with the broker, each in its turn: the bus may have lost the last publication of one."""
        period = self._position_check_seconds
        for name, room in tuple(self.hub.rooms.items()):
            if (hash(name) + self._second) % period == 0:
                room.look_for_missed()
                self._presences.look_for_missed(name)

    # Helpers

    def _history(self, rules: Rules) -> History | None:
        return rules.history if self.broker.keeps_history else None

    def _refuse_without_presence(self, room: str) -> None:
        if not self.rules(room).presence:
            raise NotAvailable("this room does not tell who is present")

    async def _read_in_reverse(self, room: str, history: History, since: Position | None, limit: int) -> Stream:
        if since is None:
            page = await self.broker.read(room, history, limit=limit)
            return Stream(page.publications[::-1], page.top)
        start = Position(since.epoch, max(since.offset - 1 - limit, 0))
        page = await self.broker.read(room, history, since=start, limit=limit)
        older = [each for each in page.publications if each.position is not None and is_after(since, each.position)]
        return Stream(older[::-1], page.top, is_whole=since.epoch == page.top.epoch)

    async def _unsubscribe(self, room: LocalRoom) -> None:
        if room.name not in self.hub.rooms:
            await self.broker.unsubscribe(room.name)

    def _pass_on(self, order: orders.PassOn) -> None:
        if order.node == self.id and order.session in self.sessions:
            self.spawn(self._hand_in(order))

    async def _hand_in(self, order: orders.PassOn) -> None:
        with suppress(TooManyRequests):  # the connection has been closed for it
            await self.pass_on(order.node, order.session, order.data.decode() if order.is_text else order.data)

    def _others(self) -> list[orders.NodeStatus]:
        return self._site.others(self.id, self._runtime.now())

    def _room_counts(self, pattern: str) -> RoomCounts:
        return {name: room.live_count for name, room in self.hub.rooms.items() if matches(name, pattern)}

    def _status(self, *, is_leaving: bool = False) -> orders.NodeStatus:
        rooms = self.hub.rooms.values()
        return orders.NodeStatus(
            node=self.id,
            name=self._name,
            version=VERSION,
            clients=len(self.connections),
            users=len(self.users),
            subscriptions=sum(room.live_count for room in rooms),
            rooms=len(rooms),
            uptime_seconds=int(self._runtime.now() - self._began),
            is_leaving=is_leaving,
        )

    async def _tell(self, order: orders.Order) -> None:
        try:
            await self.order(order)
        except NotAvailable as error:
            logger.debug("the other nodes could not be told: %s", error.message)
