"""A peer of the SDK protocol: its identity, its rooms and how long they last. What it may ask is in `commands`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
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
    WRITE_ERROR,
    AlreadyJoined,
    Close,
    InternalError,
    LimitExceeded,
    PermissionDenied,
    Refusal,
)
from yamabiko.core.identity import Grant
from yamabiko.core.membership import BURST_BYTES
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
"""Takes a frame of a peer, as it takes one that comes on the connection itself.

Raises TooManyRequests, with the connection closed, if too many wait already.
"""


NOTHING_DECODED: tuple[str | bytes | None, Sequence[Command]] = (None, ())
MOST_AT_ONCE = 32
"""Commands of one frame that are answered without giving others their turn."""


class Entering:
    """The way into a room, from the wish to the membership."""

    def __init__(self, room: str) -> None:
        self.room = room
        self.is_ended = False


class SdkConnection(Connection):
    """Made by `Node.connect_sdk`, with the open handshake as its `visitor`. Its commands are obeyed one by one.

    Calls alone run beside other commands, up to a limit.
    """

    __slots__ = (
        "_awaited_pongs",
        "_decoded",
        "_end",
        "_entering",
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
        self._entering: set[Entering] = set()
        self._end: Deadline | None = None

    @property
    def memberships(self) -> Iterable[SdkMembership]:
        return self.rooms.values()

    @property
    def is_calling(self) -> bool:
        return self.calls > 0

    @property
    def ping_seconds(self) -> int:
        """How often this peer is asked whether it is there; 0 if by WebSocket's own pings."""
        return self.node.sdk_limits.ping_interval_seconds if self._pings else 0

    def open_session(self, session: str, take: Take) -> None:
        """Let `take` have what this peer says in other requests, which show the secret `session`."""
        self.session = session
        self.node.sessions[session] = take

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
        if len(commands) > MOST_AT_ONCE or not all(map(self._answers_at_once, commands)):
            self._decoded = payload, commands  # it comes again
            return False
        for command in commands:
            try:
                self._take(command).send(None)
            except StopIteration:
                continue
            raise RuntimeError(f"{type(self.node.broker).__name__}.publish waited, though it answers at once")
        return True

    def _answers_at_once(self, command: object) -> bool:
        """Tell whether a command is answered without waiting: a pong, and what a room takes as it is."""
        request = command.request if isinstance(command, sdk.Command) else None
        if not isinstance(request, sdk.PublishRequest):
            return request is None
        membership = self.rooms.get(request.channel)
        return membership is None or (self.node.broker.answers_at_once and not membership.room.rules.changes_messages)

    async def receive(self, payload: str | bytes) -> None:
        (known, commands), self._decoded = self._decoded, NOTHING_DECODED
        for number, command in enumerate(commands if known is payload else self.codec.decode(payload)):
            if number:  # no frame may ask for more than its peer takes, nor hold up the others
                await self.transport.drained()
            await self._take(command)

    async def _take(self, command: Command) -> None:
        if not self.is_open:
            return
        if isinstance(command, Invalid) and not command.id:
            self.close(BAD_REQUEST)
        else:
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

    def answer(self, reply: sdk.Reply) -> None:
        """Write a reply of which nobody knows how large it is; one that the peer could not keep up with is refused."""
        frame, at_most = self.codec.encode(reply), self.node.sdk_limits.answer_bytes
        if len(frame) > at_most:
            refusal = LimitExceeded(f"the answer has {len(frame)} bytes, and {at_most} are sent at most")
            self.refuse(reply.id, refusal)
        else:
            self.transport.write(frame)

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

    @property
    def is_known(self) -> bool:
        """Whether it is known whose connection this is, though its peer may not have been told that it is connected."""
        return hasattr(self, "identity")

    def be(self, identity: Identity, *, asked_at: float) -> None:
        """Be known by an identity, as of when it was asked for, until it ends. One that ends later takes its place."""
        is_first = not self.is_known
        self.identity = identity
        self.visitor = None  # several kilobytes of headers, that nobody asks for any more
        for membership in self.memberships:
            self.node.renew(membership)
        if is_first:
            self.node.know(self, asked_at=asked_at)
        if self.is_open:
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

    @contextmanager
    def entering(self, room: str) -> Iterator[Entering]:
        """Be on the way into a room, as long as the block lasts: the server may end that as it ends a membership."""
        entering = Entering(room)
        self._entering.add(entering)
        try:
            yield entering
        finally:
            self._entering.discard(entering)

    def stop_entering(self, room: str) -> None:
        """Let nobody in who is on the way into a room, "" for any."""
        for entering in self._entering:
            entering.is_ended = entering.is_ended or room in ("", entering.room)

    async def enter(
        self,
        entering: Entering,
        grant: Grant,
        *,
        since: sdk.StreamPosition | None = None,
        flag: int = 0,
        wants_presence: bool = False,
        by_server: bool = False,
        wants_deltas: bool = False,
        reply_bytes: int = BURST_BYTES,
    ) -> tuple[SdkMembership, sdk.SubscribeResult]:
        """Take a place in a room, where publications are held, and return it with what the client is to be told.

        Raises UnknownRoom, AlreadyJoined, LimitExceeded, UnrecoverablePosition, InternalError if the broker cannot be
        reached, what `can_publish` raised, PermissionDenied if the server has ended it meanwhile, and the Close
        CONNECTION_CLOSED if the connection has.
        """
        node, room = self.node, entering.room
        rules = node.rules(room)
        may_publish = await rules.can_publish(self.user)
        self._check_place(entering)
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
            result = await membership.begin(node.broker, since, flag=flag, reply_bytes=reply_bytes)
        except BaseException:
            node.leave(membership)
            raise
        result.expires, result.ttl = expiry(grant.expires_in_seconds)
        self.let_last(membership, grant.expires_in_seconds)
        return membership, result

    def _check_place(self, entering: Entering) -> None:
        """See that there is still a place for this room: the server may have been quicker, or the peer gone."""
        at_most = self.node.sdk_limits.rooms
        if not self.is_open:
            raise CONNECTION_CLOSED.anew()
        if entering.is_ended:
            raise PermissionDenied("the server has ended this subscription")
        if entering.room in self.rooms:
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
        if close.code >= PUSHED_FROM and close.code not in (SLOW.code, WRITE_ERROR.code):
            self.push(sdk.Push(disconnect=sdk.Disconnect(close.code, close.reason)))
