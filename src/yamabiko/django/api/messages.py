"""What a backend asks through the HTTP API and is answered, in the field names of its wire; a channel is a room here.

Source: the Centrifugo server API. Docstrings and descriptions are part of the OpenAPI document. What a request must
have has no default; null is as good as absent, except in `data` of a publication. Other fields are passed over.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

MOST_CHANNELS = 10_000
MOST_COMMANDS = 1_000

# Beyond it, not every reader of JSON and not every broker has all whole numbers.
_LARGEST = 2**53 - 1

Json = Annotated[Raw | UnsetType, Meta(description="any JSON")]
UnixTime = Annotated[int, Meta(ge=0, le=_LARGEST, description="Unix time in seconds; 0 is never")]
Base64 = Annotated[str, Meta(description="JSON in UTF-8, in base64; it takes precedence")]
Client = Annotated[str, Meta(description="one connection alone, if it is the user's")]
Session = Annotated[str, Meta(description="not offered: error 108")]
IdempotencyKey = Annotated[
    str, Meta(description="the same key publishes once into a room, for five minutes at least; up to 255 bytes")
]
Version = Annotated[
    int, Meta(ge=0, le=_LARGEST, description="publications are not ordered by versions: from 1 on, error 108")
]
Limit = Annotated[
    int, Meta(ge=-1, le=2**31 - 1, description="0 for the position alone, -1 for as many as one answer may hold")
]


class PublishOptions(Struct, kw_only=True):
    data: Json = UNSET
    b64data: Base64 | None = None
    skip_history: Annotated[bool, Meta(description="for who is there now alone: it has no number")] | None = None
    tags: dict[str, str] | None = None
    idempotency_key: IdempotencyKey | None = None
    delta: Annotated[bool, Meta(description="has no effect")] | None = None
    version: Version | None = None


class PublishRequest(PublishOptions, kw_only=True):
    """`data` or `b64data` is needed."""

    channel: str


class BroadcastRequest(PublishOptions, kw_only=True):
    """`data` or `b64data` is needed; each room is answered by itself, in order."""

    channels: Annotated[list[str], Meta(description=f"1 to {MOST_CHANNELS:,} rooms")]


class StreamPosition(Struct):
    offset: Annotated[int, Meta(ge=0, le=_LARGEST)] = 0
    epoch: str = ""


class SubscribeRequest(Struct, kw_only=True):
    """The user's clients learn of it by a push; those that cannot be subscribed are left out.

    What a room keeps and tells is for its Room class: `override` has no effect.
    """

    user: str
    channel: str
    client: Client | None = None
    session: Session | None = None
    info: Annotated[Raw | UnsetType, Meta(description="any JSON, told to others in the room")] = UNSET
    b64info: Base64 | None = None
    data: Annotated[Raw | UnsetType, Meta(description="any JSON, told to the client")] = UNSET
    b64data: Base64 | None = None
    recover_since: StreamPosition | None = None
    expire_at: UnixTime | None = None


class UnsubscribeRequest(Struct, kw_only=True):
    user: str
    channel: Annotated[str, Meta(description="empty means all rooms")] | None = None
    client: Client | None = None
    session: Session | None = None


class Disconnect(Struct, kw_only=True):
    """Clients come back after 3000-3499 and 4000-4499."""

    code: Annotated[int, Meta(description="3000 to 4999")]
    reason: Annotated[str, Meta(description="at most 32 ASCII characters; empty for the default")] = ""


class DisconnectRequest(Struct, kw_only=True):
    user: str
    client: Client | None = None
    session: Session | None = None
    whitelist: Annotated[list[str], Meta(description="clients that stay")] | None = None
    disconnect: Annotated[Disconnect, Meta(description="by default 3503, force disconnect")] | None = None


class RefreshRequest(Struct, kw_only=True):
    """Without `expire_at` connections last until they are closed; what is known of them stays: `info` has no effect."""

    user: str
    client: Client | None = None
    session: Session | None = None
    expired: Annotated[bool, Meta(description="end now, with 3005")] | None = None
    expire_at: UnixTime | None = None


class PresenceRequest(Struct, kw_only=True):
    channel: str


class PresenceStatsRequest(Struct, kw_only=True):
    channel: str


class HistoryRequest(Struct, kw_only=True):
    """Oldest first, from the oldest that is kept or after `since`; in reverse newest first, or before `since`."""

    channel: str
    limit: Limit | None = None
    since: StreamPosition | None = None
    reverse: bool | None = None


class HistoryRemoveRequest(Struct, kw_only=True):
    channel: str


class ChannelsRequest(Struct, kw_only=True):
    pattern: Annotated[str, Meta(description="a shell pattern such as chat/*; by default all rooms")] | None = None


class InfoRequest(Struct, kw_only=True):
    pass


class RpcRequest(Struct, kw_only=True):
    """There are no extensions to call: always error 104."""

    method: str
    params: Json = UNSET


class BatchRequest(Struct, kw_only=True):
    """One after the other, or, if they are `parallel`, in no particular order; each is answered by itself."""

    commands: Annotated[
        list[dict[str, Raw]], Meta(description=f"up to {MOST_COMMANDS:,}, of any method but batch: {{method: request}}")
    ]
    parallel: bool | None = None


class Error(Struct):
    code: int
    message: str


class PublishResult(Struct, omit_defaults=True):
    """Its position, if the room keeps a history."""

    offset: int = 0
    epoch: str = ""


class PublishReply(Struct, omit_defaults=True):
    """One of both."""

    result: PublishResult | None = None
    error: Error | None = None


class BroadcastResult(Struct):
    responses: list[PublishReply]


class SubscribeResult(Struct):
    """Also if the user has no such connection."""


class UnsubscribeResult(Struct):
    """Also if the user has no such connection."""


class DisconnectResult(Struct):
    """Also if the user has no such connection."""


class RefreshResult(Struct):
    """Also if the user has no such connection."""


class ClientInfo(Struct):
    """`conn_info` is said of the connection, `chan_info` of its place in the room."""

    user: str
    client: str
    conn_info: Json = UNSET
    chan_info: Json = UNSET


class Publication(Struct, omit_defaults=True):
    """`info` says which client published it, if one did."""

    data: Json
    offset: int
    info: ClientInfo | None = None
    tags: dict[str, str] = {}


class PresenceResult(Struct):
    """By client."""

    presence: dict[str, ClientInfo]


class PresenceStatsResult(Struct):
    num_clients: int
    num_users: int


class HistoryResult(Struct):
    """With the position of the newest publication, kept or not."""

    publications: list[Publication]
    epoch: str
    offset: int


class HistoryRemoveResult(Struct):
    """Numbering goes on."""


class ChannelInfo(Struct):
    num_clients: int


class ChannelsResult(Struct):
    """Rooms with members, on all nodes."""

    channels: dict[str, ChannelInfo]


class Node(Struct):
    """Numbers are as of some seconds ago; `uptime` is in seconds."""

    uid: str
    name: str
    version: str
    num_clients: int
    num_users: int
    num_subs: int
    num_channels: int
    uptime: int


class InfoResult(Struct):
    nodes: list[Node]


class RpcResult(Struct):
    data: Json = UNSET


class BatchResult(Struct):
    """In the order of the commands: {method: result} or {error}."""

    replies: list[dict[str, Any]]
