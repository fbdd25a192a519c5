"""One peer's life: payloads in, decide, answer."""

from __future__ import annotations

import logging
import secrets
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

from yamabiko.core.errors import (
    SERVER_ERROR,
    AlreadyJoined,
    BadRequest,
    Close,
    InternalError,
    NotAvailable,
    PermissionDenied,
    PublishFailed,
    Refusal,
    Unauthorized,
)
from yamabiko.core.interfaces import Codec, Transport
from yamabiko.core.membership import Membership
from yamabiko.core.messages import (
    Acknowledged,
    Command,
    Event,
    Failed,
    Invalid,
    Join,
    Publish,
    encode_message,
)

if TYPE_CHECKING:
    from yamabiko.core.interfaces import Rules
    from yamabiko.core.node import Node

logger = logging.getLogger("yamabiko")


class Connection:
    """Made by `Node.connect`. It joins before it has a transport, so that a refusal can refuse the handshake."""

    __slots__ = (
        "_answers_at_once",
        "_client",
        "_close",
        "codec",
        "is_open",
        "membership",
        "node",
        "transport",
        "user",
        "user_name",
    )

    transport: Transport

    def __init__(self, node: Node, codec: Codec, user: object, user_name: str) -> None:
        self.node = node
        self.codec = codec
        self.user = user
        self.user_name = user_name
        self.is_open = True
        self.membership: Membership | None = None
        self._client = ""
        self._close: Close | None = None
        self._answers_at_once = False

    @property
    def client(self) -> str:
        """Name this connection to others: random, unique, and no credential."""
        if not self._client:
            self._client = secrets.token_urlsafe(9)
        return self._client

    async def join(self, join: Join) -> Membership:
        """Ask for a place in a room; publications are held from now on, until the membership has caught up.

        Raises UnknownRoom, Unauthorized, PermissionDenied, NotAvailable, or what the room's `can_join` raised.
        """
        if self.membership is not None:
            raise AlreadyJoined(f"this connection is in {self.membership.room.name}")
        rules = self.node.rules(join.room)
        if not await rules.can_join(self.user):
            raise (PermissionDenied("you may not join this room") if self.user_name else Unauthorized("sign in first"))
        may_publish = await rules.can_publish(self.user)
        if not self.is_open:
            raise NotAvailable("the connection was closed")
        self.membership = Membership(self, self.node.room(join.room, rules), join, may_publish=may_publish)
        await self.membership.begin(self.node.broker)
        return self.membership

    async def go_live(self, transport: Transport) -> None:
        """Take the open `transport`, catch up, and be a member. Never raises."""
        self.transport = transport
        if not self.is_open:  # closed while it was joining
            transport.close(self._close or SERVER_ERROR)
            return
        membership = self.membership
        assert membership is not None
        try:
            await membership.catch_up(self.node.broker)
        except Exception:
            logger.exception("a member of room %s could not be brought up to date", membership.room.name)
            self.close(SERVER_ERROR)
        if membership.is_live:
            self._answers_at_once = self.node.broker.answers_at_once and not membership.room.rules.changes_messages
            await self._announce(membership)

    async def _announce(self, membership: Membership) -> None:
        """Tell the application who has joined; who left meanwhile is told of only then."""
        rules = membership.room.rules
        try:
            await run_hook(rules, "on_join", self.user)
        finally:
            membership.is_announced = True
            if not self.is_open:
                self.node.spawn(run_hook(rules, "on_leave", self.user))

    def receive_at_once(self, payload: str | bytes) -> bool:
        """Do what `receive` does, without a task to wait in; return False, with nothing done, where it might wait."""
        if not self._answers_at_once:
            return False
        try:
            self.receive(payload).send(None)
        except StopIteration:
            return True
        raise RuntimeError(f"{type(self.node.broker).__name__}.publish waited, though it answers at once")

    async def receive(self, payload: str | bytes) -> None:
        """Decode a payload and answer its commands one after the other. Never raises."""
        for command in self.codec.decode(payload):
            try:
                await self._answer(command)
            except Refusal as refusal:
                self.write(Failed(refusal, command.id))
            except Exception:
                logger.exception("a message could not be handled")
                self.write(Failed(InternalError(), command.id))

    async def _answer(self, command: Command) -> None:
        if isinstance(command, Invalid):
            raise command.refusal
        await self._publish(command)

    async def _publish(self, command: Publish) -> None:
        membership = self.membership
        if membership is None:
            raise BadRequest("join a room first")
        if not membership.may_publish:
            raise PermissionDenied("you may not publish in this room")
        room = membership.room
        data = command.data
        if room.rules.changes_messages:
            data = await self._ask_application(room.rules, data)
        try:
            position = await self.node.broker.publish(
                room.name, data, history=room.history, user=self.user_name, key=self._key(command)
            )
        except PublishFailed as error:
            raise InternalError("the message was not accepted; try again") from error
        if command.id:
            self.write(Acknowledged(command.id, position))

    async def _ask_application(self, rules: Rules, data: bytes) -> bytes:
        """Return what the room's `on_publish` makes of `data`. A mistake there is logged, and an InternalError here."""
        message = msgspec.json.decode(data)
        try:
            changed = await rules.on_publish(self.user, message)
            if changed is None and message is not None:
                raise TypeError(f"{type(rules).__name__}.on_publish returned None; return what is to be published")
            return encode_message(changed)
        except Refusal:
            raise
        except Exception as error:
            logger.exception("%s.on_publish failed", type(rules).__name__)
            raise InternalError() from error

    def _key(self, command: Publish) -> str:
        """Return what makes the same publish, sent again, the same: the id belongs to one user.

        People unknown to us share no ids: the message itself tells them apart.
        """
        if not command.id:
            return ""
        if self.user_name:
            return f"{self.user_name}\n{command.id}"
        return f"\n{command.id}\n{blake2b(command.data, digest_size=16).hexdigest()}"

    def write(self, *events: Event) -> None:
        self.transport.write(*map(self.codec.encode, events))

    def close(self, close: Close) -> None:
        """End this connection from our side: it is out of its room at once."""
        if not self.is_open:
            return
        self._close = close
        self.closed()
        if hasattr(self, "transport"):
            self.transport.close(close)

    def closed(self) -> None:
        """Leave everything, once, whatever ended the connection and however often it is said."""
        if not self.is_open:
            return
        self.is_open = False
        self.node.forget(self)


async def run_hook(rules: Rules, name: str, user: object) -> None:
    """Run `on_join` or `on_leave` of a room; a mistake there is logged and troubles nobody."""
    try:
        await getattr(rules, name)(user)
    except Exception:
        logger.exception("%s.%s failed", type(rules).__name__, name)
