"""A peer of the room protocol: it is in one room, which it joins with its handshake."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from hashlib import blake2b
from typing import TYPE_CHECKING

from yamabiko.core.connection import Connection
from yamabiko.core.errors import (
    SERVER_ERROR,
    AlreadyJoined,
    BadRequest,
    Close,
    InternalError,
    NotAvailable,
    PermissionDenied,
    Refusal,
    Unauthorized,
)
from yamabiko.core.messages import Acknowledged, Command, Failed, Invalid, Join, Publish
from yamabiko.core.plain.membership import PlainMembership

if TYPE_CHECKING:
    from yamabiko.core.identity import Identity
    from yamabiko.core.interfaces import Codec, Transport
    from yamabiko.core.membership import Membership
    from yamabiko.core.node import Node

logger = logging.getLogger("yamabiko")


class PlainConnection(Connection):
    """Made by `Node.connect`. It joins before it has a transport, so that a refusal can refuse the handshake."""

    __slots__ = ("_answers_at_once", "membership", "room")

    def __init__(self, node: Node, codec: Codec, identity: Identity) -> None:
        super().__init__(node, codec)
        self.identity = identity
        self.membership: PlainMembership | None = None
        self.room = ""
        """The name of the room that it is in, or on its way into."""
        self._answers_at_once = False

    @property
    def memberships(self) -> Iterable[Membership]:
        return () if self.membership is None else (self.membership,)

    async def join(self, join: Join) -> PlainMembership:
        """Ask for a place in a room; publications are held from now on, until the membership has caught up.

        Raises UnknownRoom, Unauthorized, PermissionDenied, NotAvailable, or what the room's `can_join` raised.
        """
        if self.membership is not None:
            raise AlreadyJoined(f"this connection is in {self.membership.room.name}")
        self.room = join.room
        rules = self.node.rules(join.room)
        if not await rules.can_join(self.user):
            raise (PermissionDenied("you may not join this room") if self.user_name else Unauthorized("sign in first"))
        may_publish = await rules.can_publish(self.user)
        if rules.presence:
            await self.reclaim_client()
        if not self.is_open:
            raise NotAvailable("the connection was closed")
        self.membership = PlainMembership(self, self.node.room(join.room, rules), join, may_publish=may_publish)
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
            await self.node.entered(membership)

    def receive_at_once(self, payload: str | bytes) -> bool:
        if not self._answers_at_once:
            return False
        try:
            self.receive(payload).send(None)
        except StopIteration:
            return True
        raise RuntimeError(f"{type(self.node.broker).__name__}.publish waited, though it answers at once")

    async def receive(self, payload: str | bytes) -> None:
        for command in self.codec.decode(payload):
            try:
                await self._answer(command)
            except Refusal as refusal:
                self.write(Failed(refusal, str(command.id)))
            except Exception:
                logger.exception("a message could not be handled")
                self.write(Failed(InternalError(), str(command.id)))

    async def _answer(self, command: Command) -> None:
        if isinstance(command, Invalid):
            raise command.refusal
        if self.membership is None:
            raise BadRequest("join a room first")
        assert isinstance(command, Publish)
        position = await self.publish_in(self.membership, command.data, key=self._key(command))
        if command.id:
            self.write(Acknowledged(command.id, position))

    def _say_goodbye(self, close: Close) -> None:
        """The close frame says it all."""

    def _key(self, command: Publish) -> str:
        """Return what makes the same publish, sent again, the same: the id belongs to one user.

        People unknown to us share no ids: the message itself tells them apart.
        """
        if not command.id:
            return ""
        if self.user_name:
            return f"{self.user_name}\n{command.id}"
        return f"\n{command.id}\n{blake2b(command.data, digest_size=16).hexdigest()}"
