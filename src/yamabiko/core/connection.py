"""One peer on one WebSocket: who it is, what it has joined. Subclasses know what its protocol asks and is answered."""

from __future__ import annotations

import logging
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from yamabiko.core.errors import Close, InternalError, PermissionDenied, PublishFailed, Refusal, can_come_back
from yamabiko.core.interfaces import Codec, Transport
from yamabiko.core.messages import Event, Position, encode_message

if TYPE_CHECKING:
    from yamabiko.core.identity import Identity
    from yamabiko.core.interfaces import Rules
    from yamabiko.core.membership import Membership
    from yamabiko.core.node import Node

logger = logging.getLogger("yamabiko")


class Connection(ABC):
    """Made by a `Node`. Whoever has it made must see to it that `closed` is called in the end."""

    __slots__ = ("_client", "_close", "codec", "identity", "is_open", "node", "transport")

    transport: Transport
    identity: Identity

    def __init__(self, node: Node, codec: Codec) -> None:
        self.node = node
        self.codec = codec
        self.is_open = True
        self._client = ""
        self._close: Close | None = None

    @property
    def client(self) -> str:
        """Name this connection to others: random, unique, and no credential."""
        if not self._client:
            self._client = str(uuid.uuid4())
        return self._client

    @property
    def user(self) -> object:
        return self.identity.user

    @property
    def user_id(self) -> str:
        return self.identity.id

    @property
    def user_name(self) -> str:
        return self.identity.name

    @property
    def info(self) -> msgspec.Raw:
        """JSON that is told to others of this connection."""
        return self.identity.info

    @property
    @abstractmethod
    def memberships(self) -> Iterable[Membership]: ...

    def ping(self) -> bool:
        """Ask this peer whether it is there, in its own protocol; return False where WebSocket's own ping is to do."""
        return False

    def receive_at_once(self, payload: str | bytes) -> bool:
        """Do what `receive` does, without a task to wait in; return False, with nothing done, where it might wait."""
        return False

    @property
    def is_calling(self) -> bool:
        """Whether a call that may take long holds up what this peer says."""
        return False

    @abstractmethod
    async def receive(self, payload: str | bytes) -> None:
        """Decode a payload and answer its commands one after the other. Never raises."""

    @abstractmethod
    async def go_live(self, transport: Transport) -> None:
        """Take the open `transport`. Never raises."""

    async def reclaim_client(self) -> None:
        """Be called as a lost connection of the same user was, if there is one: to others it has not been away."""
        if self.user_id and not self._client:
            self._client = await self.node.reclaim(self.user_id)

    async def publish_in(self, membership: Membership, data: bytes, *, key: str = "") -> Position | None:
        """Publish what this peer says in a room. Raises a Refusal that says why not."""
        if not membership.may_publish:
            raise PermissionDenied("you may not publish in this room")
        room = membership.room
        if room.rules.changes_messages:
            data = await self._ask_application(room.rules, data)
        try:
            return await self.node.broker.publish(
                room.name, data, history=room.history, user=self.user_name, extras=membership.extras, key=key
            )
        except PublishFailed as error:
            if error.may_be_published:
                raise InternalError("it is not known whether the message was published") from error
            raise InternalError("the message was not accepted; try again") from error

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

    def write(self, *events: Event) -> None:
        self.transport.write(*map(self.codec.encode, events))

    def write_soon(self, *events: Event) -> None:
        """Write what many of may come together, and what waits for nothing else."""
        self.transport.write_soon(*map(self.codec.encode, events))

    def close(self, close: Close) -> None:
        """End this connection from our side: it is out of its rooms at once."""
        if not self.is_open:
            return
        self._close = close
        self.closed(is_lost=can_come_back(close))
        if hasattr(self, "transport"):
            self._say_goodbye(close)
            self.transport.close(close)

    def closed(self, *, is_lost: bool = False) -> None:
        """Leave everything, once, whatever ended the connection and however often it is said.

        One that `is_lost` has not said goodbye and may come back: to others it stays present for a while.
        """
        if self.is_open:
            self.is_open = False
            self.node.forget(self, is_lost=is_lost)

    @abstractmethod
    def _say_goodbye(self, close: Close) -> None:
        """Tell the peer why, where its protocol has words for it beside the close frame."""


async def run_hook(rules: Rules, name: str, user: object) -> None:
    """Run `on_join` or `on_leave` of a room; a mistake there is logged and troubles nobody."""
    try:
        await getattr(rules, name)(user)
    except Exception:
        logger.exception("%s.%s failed", type(rules).__name__, name)
