"""What one node asks of all: each does its part. They travel as JSON, through the broker."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from yamabiko.core.messages import NOTHING, Position


class Order(msgspec.Struct, tag_field="order", tag=True, omit_defaults=True, kw_only=True):
    """Sent to every node, the sender included."""


class UserOrder(Order, kw_only=True):
    """For all connections of `user`, an id; or with a `client` for that one alone, if it is the user's."""

    user: str
    client: str = ""


class DisconnectUser(UserOrder, kw_only=True):
    """Close with `code` and `reason`, all but the `spared` clients."""

    code: int
    reason: str
    spared: tuple[str, ...] = ()


class SubscribeUser(UserOrder, kw_only=True):
    """Put into `room`, as a `Grant` with these values does; first come publications after `since`, if they are kept."""

    room: str
    info: msgspec.Raw = NOTHING
    data: msgspec.Raw = NOTHING
    expires_in_seconds: float | None = None
    since: Position | None = None


class UnsubscribeUser(UserOrder, kw_only=True):
    """Take out of `room`, or, where that is empty, of all rooms."""

    room: str = ""


class SendUser(UserOrder, kw_only=True):
    data: msgspec.Raw


class RefreshUser(UserOrder, kw_only=True):
    """Let connections end so many seconds from now, None for never; those that have `expired` end at once."""

    expires_in_seconds: float | None = None
    expired: bool = False


class PassOn(Order, kw_only=True):
    """Hand `data` to the connection of a `session` on `node`, whose peer says it in a request that another has had."""

    node: str
    session: str
    data: bytes
    is_text: bool


class NodeStatus(Order, kw_only=True):
    """What a node says of itself every few seconds, and when it is asked."""

    node: str
    name: str
    version: str
    clients: int
    users: int
    subscriptions: int
    rooms: int
    uptime_seconds: int
    is_leaving: bool = False


class AskStatus(Order, kw_only=True):
    """Ask every node to say how it is, now."""


class AskRooms(Order, kw_only=True):
    """Ask every node for its rooms with members whose names match a shell pattern; empty matches all."""

    id: str
    pattern: str = ""


class TellRooms(Order, kw_only=True):
    """A node's answer to `AskRooms`: the number of its members by room."""

    id: str
    node: str
    rooms: dict[str, int]


AnyOrder: TypeAlias = (
    DisconnectUser
    | SubscribeUser
    | UnsubscribeUser
    | SendUser
    | RefreshUser
    | PassOn
    | NodeStatus
    | AskStatus
    | AskRooms
    | TellRooms
)

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(AnyOrder).decode
