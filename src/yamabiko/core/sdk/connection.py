"""A peer of the SDK protocol: its identity, its rooms and how long they last. What it may ask is in `commands`."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import TYPE_CHECKING

from yamabiko.core.connection import Connection
from yamabiko.core.errors import (
    BAD_REQUEST,
    CONNECTION_CLOSED,
    CONNECTION_EXPIRED,
    PUSHED_FROM,
    SLOW,
    STALE,
    SUBSCRIPTION_EXPIRED,
    AlreadyJoined,
    Close,
    InternalError,
    LimitExceeded,
    Refusal,
)
from yamabiko.core.identity import Grant
from yamabiko.core.messages import Command, Invalid, Position, Publish
from yamabiko.core.sdk import messages as sdk
from yamabiko.core.sdk.commands import obey
from yamabiko.core.sdk.limits import expiry
from yamabiko.core.sdk.membership import SdkMembership
from yamabiko.core.sdk.ordered import carry_out

if TYPE_CHECKING:
    from yamabiko.core import orders
    from yamabiko.core.deadlines import Deadline
    from yamabiko.core.identity import Identity
    from yamabiko.core.interfaces import Codec, Transport
    from yamabiko.core.node import Node

logger = logging.getLogger("yamabiko")

Take = Callable[[str | bytes], Coroutine[object, object, None]]
"""Takes a frame of a peer, as it takes one that comes on the connection itself."""


NOTHING_DECODED: tuple[str | bytes | None, Iterable[Command]] = (None, ())


class SdkConnection(Connection):
    """Made by `Node.connect_sdk`, with the open handshake as its `visitor`. Its commands are obeyed one by one.

    Calls alone run beside other commands, up to a limit.
    """

    __slots__ = (
        "_awaited_pongs",
        "_decoded",
        "_end",
        "_orders",
        "_pings",
        "calls",
        "is_connected",
        "is_refused",
        "rooms",
        "session",
        "visitor",
    )

    def __init__(self, node: Node, codec: Codec, visitor: object, *, pings: bool) -> None:
        super().__init__(node, codec)
        self.visitor = visitor
        self.is_connected = False
        """Whether its peer has been told that it is connected."""
        self.is_refused = False
        """Whether its peer has been told that it cannot connect: nothing else is answered then."""
        self.rooms: dict[str, SdkMembership] = {}
        self.calls = 0
        """How many calls are under way beside other commands."""
        self.session = ""
        """The secret by which requests are known to be this peer's, where they do not come on the connection itself."""
        self._decoded = NOTHING_DECODED
        self._pings = pings
        self._awaited_pongs = 0
        self._orders: list[orders.UserOrder] = []
        self._end: Deadline | None = None

    @property
    def memberships(self) -> Iterable[SdkMembership]:
        return self.rooms.values()

    @property
    def ping_seconds(self) -> int:
        """How often this peer is asked whether it is there; 0 if by WebSocket's own pings."""
        return self.node.sdk_limits.ping_interval_seconds if self._pings else 0

    def open_session(self, take: Take) -> None:
        """Let `take` have what this peer says in other requests."""
        self.session = secrets.token_urlsafe(24)
        self.node.sessions[self.session] = take

    async def go_live(self, transport: Transport) -> None:
        self.transport = transport
        if not self.is_open:
            transport.close(self._close or STALE)
            return
        self._end_in(self.node.sdk_limits.connect_timeout_seconds, STALE)

    def ping(self) -> bool:
        if not (self._pings and self.is_connected and self.codec.ping):
            return False
        self._awaited_pongs += 1
        self.transport.write(self.codec.ping)
        return True

    def take_pong(self) -> None:
        """Take the answer to a ping. Raises the Close BAD_REQUEST if there was none to answer."""
        if not self._awaited_pongs:
            raise BAD_REQUEST.anew()
        self._awaited_pongs -= 1

    def receive_at_once(self, payload: str | bytes) -> bool:
        commands = self.codec.decode(payload)
        if not all(map(self._answers_at_once, commands)):
            self._decoded = payload, commands  # it comes again
            return False
        try:
            self._receive(commands).send(None)
        except StopIteration:
            return True
        raise RuntimeError(f"{type(self.node.broker).__name__}.publish waited, though it answers at once")

    def _answers_at_once(self, command: object) -> bool:
        """Tell whether a command is answered without waiting: a pong, and what a room takes as it is."""
        request = command.request if isinstance(command, sdk.Command) else None
        if not isinstance(request, sdk.PublishRequest):
            return request is None
        membership = self.rooms.get(request.channel)
        return membership is None or (self.node.broker.answers_at_once and not membership.room.rules.changes_messages)

    async def receive(self, payload: str | bytes) -> None:
        (known, commands), self._decoded = self._decoded, NOTHING_DECODED
        await self._receive(commands if known is payload else self.codec.decode(payload))

    async def _receive(self, commands: Iterable[Command]) -> None:
        for command in commands:
            if not self.is_open:
                return
            if isinstance(command, Invalid) and not command.id:
                self.close(BAD_REQUEST)
                return
            await self._answer(command)

    async def _answer(self, command: Command) -> None:
        assert not isinstance(command, Publish)
        try:
            if isinstance(command, Invalid):
                raise command.refusal
            await obey(self, command)
        except Refusal as refusal:
            self.refuse(int(command.id), refusal)
        except Close as close:
            self.close(close)
        except Exception:
            logger.exception("a command could not be obeyed")
            self.refuse(int(command.id), InternalError())

    def refuse(self, command_id: int, refusal: Refusal) -> None:
        error = sdk.Error(refusal.code, refusal.message, refusal.is_temporary)
        self.write(sdk.Reply(id=command_id, error=error))

    def push(self, push: sdk.Push) -> None:
        self.write(sdk.Reply(push=push))

    def tell(self, reply: sdk.Reply, *memberships: SdkMembership) -> None:
        """Tell the peer of its places in rooms; from then on it is told when one ends."""
        self.write(reply)
        for membership in memberships:
            membership.is_told = True

    def welcome(self, reply: sdk.Reply, *memberships: SdkMembership) -> None:
        """Tell the peer that it is connected, then do what the server has ordered meanwhile."""
        self.tell(reply, *memberships)
        self.is_connected = True
        early, self._orders = self._orders, []
        for order in early:
            carry_out(self, order)

    def take_order(self, order: orders.UserOrder) -> None:
        """Do what the server orders, once the peer knows that it is connected."""
        if self.is_connected:
            carry_out(self, order)
        else:
            self._orders.append(order)

    # Who it is, and for how long

    def be(self, identity: Identity) -> None:
        """Be known by an identity, until it ends. One that ends later takes the place of an earlier one."""
        is_first = not hasattr(self, "identity")
        self.identity = identity
        self.visitor = None  # several kilobytes of headers, that nobody asks for any more
        if is_first:
            self.node.know(self)
        for membership in self.memberships:
            membership.forget_extras()
        self.last(identity.expires_in_seconds)

    def last(self, seconds: float | None) -> None:
        """End so many seconds from now, and a grace, unless it is said anew; None never."""
        grace = self.node.sdk_limits.expiry_grace_seconds
        self._end_in(None if seconds is None else seconds + grace, CONNECTION_EXPIRED)

    def _end_in(self, seconds: float | None, close: Close) -> None:
        if self._end is not None:
            self._end.cancel()
        self._end = None if seconds is None or not self.is_open else self.node.at(seconds, partial(self.close, close))

    # Rooms

    async def enter(
        self,
        room: str,
        grant: Grant,
        *,
        since: sdk.StreamPosition | None = None,
        flag: int = 0,
        wants_presence: bool = False,
        by_server: bool = False,
        wants_deltas: bool = False,
    ) -> tuple[SdkMembership, sdk.SubscribeResult]:
        """Take a place in a room, where publications are held, and return it with what the client is to be told.

        Raises UnknownRoom, AlreadyJoined, LimitExceeded, UnrecoverablePosition, InternalError if the broker cannot be
        reached, what `can_publish` raised, and the Close CONNECTION_CLOSED if the connection ended meanwhile.
        """
        node = self.node
        rules = node.rules(room)
        may_publish = await rules.can_publish(self.user)
        self._check_place(room)
        membership = SdkMembership(
            self,
            node.room(room, rules),
            grant=grant,
            may_publish=may_publish,
            wants_presence=wants_presence,
            by_server=by_server,
            wants_deltas=wants_deltas,
        )
        self.rooms[room] = membership
        try:
            result = await membership.begin(node.broker, since, flag=flag)
        except BaseException:
            node.leave(membership)
            raise
        result.expires, result.ttl = expiry(grant.expires_in_seconds)
        self.let_last(membership, grant.expires_in_seconds)
        return membership, result

    def _check_place(self, room: str) -> None:
        """See that there is still a place for this room: the server may have been quicker, or the peer gone."""
        at_most = self.node.sdk_limits.rooms
        if not self.is_open:
            raise CONNECTION_CLOSED.anew()
        if room in self.rooms:
            raise AlreadyJoined()
        if len(self.rooms) >= at_most:
            raise LimitExceeded(f"a connection is in at most {at_most} rooms")

    async def settle(self, membership: SdkMembership) -> None:
        """Have a member go live; its client has been told."""
        try:
            await membership.catch_up(self.node.broker)
        except Exception:
            logger.exception("a member of room %s could not be brought up to date", membership.room.name)
            membership.tell_gap(Position("", 0))
        if membership.is_live:
            await self.node.entered(membership)

    def let_last(self, membership: SdkMembership, seconds: float | None) -> None:
        """Let a subscription end so many seconds from now, and a grace, unless it is said anew; None never."""
        if seconds is None or not membership.is_lasting:
            membership.end_at(None)
            return
        grace = self.node.sdk_limits.expiry_grace_seconds
        membership.end_at(self.node.at(seconds + grace, partial(self._expire, membership)))

    def _expire(self, membership: SdkMembership) -> None:
        if not membership.is_lasting:
            return
        if membership.by_server:
            self.close(SUBSCRIPTION_EXPIRED)
        else:
            membership.end(2501, "subscription expired")

    # Its end

    def closed(self, *, is_lost: bool = False) -> None:
        if self.is_open and self._end is not None:
            self._end.cancel()
        self.node.sessions.pop(self.session, None)
        super().closed(is_lost=is_lost)

    def _say_goodbye(self, close: Close) -> None:
        if close.code >= PUSHED_FROM and close.code != SLOW.code:
            self.push(sdk.Push(disconnect=sdk.Disconnect(close.code, close.reason)))
