"""What peers of the SDK protocol ask and are answered, in the field names of its wire; a channel there is a room here.

Source: the Centrifugo client protocol v2. Payloads (`data`, `info`) are JSON in UTF-8, empty if there is none. Strings
and numbers that are not given are empty and 0. Fields of later protocol versions are passed over.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Raw, Struct, field

NONE = Raw(b"")


class StreamPosition(Struct, omit_defaults=True):
    offset: int = 0
    epoch: str = ""


class ClientInfo(Struct, omit_defaults=True):
    """Who a client is: `conn_info` is said of its connection, `chan_info` of its place in one room."""

    user: str = ""
    client: str = ""
    conn_info: Raw = NONE
    chan_info: Raw = NONE


class Publication(Struct, omit_defaults=True):
    """`info` is there if a client published; `offset` if the room keeps a history."""

    data: Raw = NONE
    info: ClientInfo | None = None
    offset: int = 0
    tags: dict[str, str] = field(default_factory=dict)
    delta: bool = False


# Requests


class SubscribeRequest(Struct, kw_only=True):
    channel: str = ""
    token: str = ""
    recover: bool = False
    epoch: str = ""
    offset: int = 0
    data: Raw = NONE
    positioned: bool = False
    recoverable: bool = False
    join_leave: bool = False
    delta: str = ""
    tf: Raw = NONE
    flag: int = 0
    type: int = 0


class ConnectRequest(Struct, kw_only=True):
    """`subs` says, for subscriptions that the server had made, how far they were received."""

    token: str = ""
    data: Raw = NONE
    subs: dict[str, SubscribeRequest] = field(default_factory=dict)
    name: str = ""
    version: str = ""
    headers: dict[str, str] = field(default_factory=dict)


class UnsubscribeRequest(Struct):
    channel: str = ""


class PublishRequest(Struct):
    channel: str = ""
    data: Raw = NONE
    type: int = 0


class PresenceRequest(Struct):
    channel: str = ""


class PresenceStatsRequest(Struct):
    channel: str = ""


class HistoryRequest(Struct):
    """`limit` 0 asks for the position alone, -1 for all that may be had."""

    channel: str = ""
    limit: int = 0
    since: StreamPosition | None = None
    reverse: bool = False


class PingRequest(Struct):
    pass


class SendRequest(Struct):
    data: Raw = NONE


class RpcRequest(Struct):
    data: Raw = NONE
    method: str = ""


class RefreshRequest(Struct):
    token: str = ""


class SubRefreshRequest(Struct):
    channel: str = ""
    token: str = ""
    type: int = 0


Request: TypeAlias = (
    ConnectRequest
    | SubscribeRequest
    | UnsubscribeRequest
    | PublishRequest
    | PresenceRequest
    | PresenceStatsRequest
    | HistoryRequest
    | PingRequest
    | SendRequest
    | RpcRequest
    | RefreshRequest
    | SubRefreshRequest
)


class Command(Struct):
    """One wish of a peer: the first request that is given counts. None given is the answer to a ping."""

    id: int = 0
    connect: ConnectRequest | None = None
    subscribe: SubscribeRequest | None = None
    unsubscribe: UnsubscribeRequest | None = None
    publish: PublishRequest | None = None
    presence: PresenceRequest | None = None
    presence_stats: PresenceStatsRequest | None = None
    history: HistoryRequest | None = None
    ping: PingRequest | None = None
    send: SendRequest | None = None
    rpc: RpcRequest | None = None
    refresh: RefreshRequest | None = None
    sub_refresh: SubRefreshRequest | None = None

    @property
    def request(self) -> Request | None:
        return (
            self.connect or self.subscribe or self.unsubscribe or self.publish or self.presence
            or self.presence_stats or self.history or self.ping or self.send or self.rpc or self.refresh
            or self.sub_refresh
        )  # fmt: skip


# Results


class SubscribeResult(Struct, omit_defaults=True, kw_only=True):
    """`ttl` in seconds. `offset` is the newest publication's or, where recovered, the one that was asked for."""

    expires: bool = False
    ttl: int = 0
    recoverable: bool = False
    epoch: str = ""
    publications: list[Publication] = field(default_factory=list)
    recovered: bool = False
    offset: int = 0
    positioned: bool = False
    data: Raw = NONE
    was_recovering: bool = False
    delta: bool = False


class ConnectResult(Struct, omit_defaults=True, kw_only=True):
    """`ttl` and `ping` in seconds."""

    client: str = ""
    version: str = ""
    expires: bool = False
    ttl: int = 0
    data: Raw = NONE
    subs: dict[str, SubscribeResult] = field(default_factory=dict)
    ping: int = 0
    pong: bool = False
    session: str = ""
    node: str = ""


class UnsubscribeResult(Struct):
    pass


class PublishResult(Struct):
    pass


class PresenceResult(Struct, omit_defaults=True):
    presence: dict[str, ClientInfo] = field(default_factory=dict)


class PresenceStatsResult(Struct, omit_defaults=True):
    num_clients: int = 0
    num_users: int = 0


class HistoryResult(Struct, omit_defaults=True):
    publications: list[Publication] = field(default_factory=list)
    epoch: str = ""
    offset: int = 0


class RpcResult(Struct, omit_defaults=True):
    data: Raw = NONE


class RefreshResult(Struct, omit_defaults=True):
    client: str = ""
    version: str = ""
    expires: bool = False
    ttl: int = 0


class SubRefreshResult(Struct, omit_defaults=True):
    expires: bool = False
    ttl: int = 0


class Error(Struct, omit_defaults=True):
    code: int
    message: str
    temporary: bool = False


# Pushes


class Join(Struct):
    info: ClientInfo


class Leave(Struct):
    info: ClientInfo


class Unsubscribe(Struct):
    code: int
    reason: str


class Message(Struct, omit_defaults=True):
    data: Raw = NONE


class Subscribe(Struct, omit_defaults=True):
    """The server has made a subscription."""

    recoverable: bool = False
    epoch: str = ""
    offset: int = 0
    positioned: bool = False
    data: Raw = NONE


class Disconnect(Struct):
    code: int
    reason: str


class Refresh(Struct, omit_defaults=True):
    expires: bool = False
    ttl: int = 0


class Push(Struct, omit_defaults=True, kw_only=True):
    channel: str = ""
    pub: Publication | None = None
    join: Join | None = None
    leave: Leave | None = None
    unsubscribe: Unsubscribe | None = None
    message: Message | None = None
    subscribe: Subscribe | None = None
    disconnect: Disconnect | None = None
    refresh: Refresh | None = None


class Reply(Struct, omit_defaults=True, kw_only=True):
    """The answer to the command with that `id`, or a push, or, empty, a ping."""

    id: int = 0
    error: Error | None = None
    push: Push | None = None
    connect: ConnectResult | None = None
    subscribe: SubscribeResult | None = None
    unsubscribe: UnsubscribeResult | None = None
    publish: PublishResult | None = None
    presence: PresenceResult | None = None
    presence_stats: PresenceStatsResult | None = None
    history: HistoryResult | None = None
    rpc: RpcResult | None = None
    refresh: RefreshResult | None = None
    sub_refresh: SubRefreshResult | None = None


class Extras(Struct, omit_defaults=True):
    """What a publication carries beside its data for the SDK protocol; encoded, it is our publications' `extras`."""

    info: ClientInfo | None = None
    tags: dict[str, str] = field(default_factory=dict)


class EmulationRequest(Struct):
    """What a peer says in a request of its own: frames of the connection with that `session` on that `node`."""

    node: str = ""
    session: str = ""
    data: Raw = NONE
