"""A client of the Python SDK."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import centrifuge

from tests.sdk.clients import Said, SdkClient, SdkError, ToConnect, Tokens

RESUBSCRIBE = {"min_resubscribe_delay": 0.02, "max_resubscribe_delay": 0.1}
EVENTS = (
    "connecting", "connected", "disconnected", "error", "subscribing", "subscribed", "unsubscribed", "publication",
    "join", "leave",
)  # fmt: skip


class PythonClient(SdkClient):
    def __init__(self, to_connect: ToConnect, *, protobuf: bool) -> None:
        super().__init__()
        self._protobuf = protobuf
        self._is_over = asyncio.Event()
        self._wanted: dict[str, asyncio.Future[centrifuge.StreamPosition]] = {}
        tokens = to_connect.tokens
        self._sdk = centrifuge.Client(
            to_connect.url,
            events=self._listener(),
            token=to_connect.token,
            get_token=self._giver(tokens, "") if tokens is not None else None,
            use_protobuf=protobuf,
            min_reconnect_delay=0.02,
            max_reconnect_delay=0.1,
            headers=to_connect.headers,
            proxy=None,
        )

    async def connect(self) -> None:
        await self._sdk.connect()

    async def disconnect(self) -> None:
        await self._sdk.disconnect()
        self._is_over.set()
        # The SDK closes its sockets in tasks of its own, and has no words to wait for them.
        while closing := set(self._sdk._background_tasks):
            await asyncio.wait(closing)

    async def subscribe(
        self,
        room: str,
        *,
        token: str = "",
        tokens: Tokens | None = None,
        join_leave: bool = False,
        has_state: bool = False,
    ) -> None:
        subscription = self._sdk.get_subscription(room) or self._sdk.new_subscription(
            room,
            events=self._listener(room),
            token=token,
            get_token=self._giver(tokens, room) if tokens is not None else None,
            join_leave=join_leave,
            get_state=self._state if has_state else None,
            **RESUBSCRIBE,
        )
        await subscription.subscribe()

    async def give_state(self, room: str, position: Said) -> None:
        self._wanted.pop(room).set_result(centrifuge.StreamPosition(**position))

    async def unsubscribe(self, room: str) -> None:
        subscription = self._sdk.get_subscription(room)
        assert subscription is not None
        await subscription.unsubscribe()

    async def publish(self, room: str, data: Any) -> None:
        await _answered(self._sdk.publish(room, self._encoded(data)))

    async def rpc(self, method: str, data: Any = None) -> Any:
        return self._decoded((await _answered(self._sdk.rpc(method, self._encoded(data)))).data)

    async def history(self, room: str, *, limit: int = 0, since: Said | None = None, reverse: bool = False) -> Said:
        position = centrifuge.StreamPosition(**since) if since is not None else None
        page = await _answered(self._sdk.history(room, limit, position, reverse))
        publications = [self._publication(each) for each in page.publications]
        return {"publications": publications, "offset": page.offset, "epoch": page.epoch}

    async def presence(self, room: str) -> dict[str, Said]:
        present = await _answered(self._sdk.presence(room))
        return {client: self._info(info) for client, info in present.clients.items()}

    async def presence_stats(self, room: str) -> dict[str, int]:
        counts = await _answered(self._sdk.presence_stats(room))
        return {"clients": counts.num_clients, "users": counts.num_users}

    def _listener(self, room: str = "") -> Any:
        listener = centrifuge.SubscriptionEventHandler() if room else centrifuge.ClientEventHandler()
        for name in EVENTS:
            setattr(listener, f"on_{name}", self._heard_in(name, room))
        return listener

    def _heard_in(self, name: str, room: str) -> Callable[[Any], Awaitable[None]]:
        async def hear(context: Any) -> None:
            self.hear(name, getattr(context, "channel", room), self._plain(context))

        return hear

    def _giver(self, tokens: Tokens, room: str) -> Callable[..., Awaitable[str]]:
        left = list(tokens)

        async def give(*_: str) -> str:
            self.hear("token wanted", room, {})
            token = left.pop(0) if left else ""
            if token is None:
                await self._is_over.wait()
            if not token:
                raise centrifuge.UnauthorizedError("no token is left")
            return token

        return give

    async def _state(self, room: str) -> centrifuge.StreamPosition:
        self._wanted[room] = asyncio.get_running_loop().create_future()
        self.hear("state wanted", room, {})
        return await self._wanted[room]

    def _plain(self, context: Any) -> Said:
        if hasattr(context, "pub"):
            return self._publication(context.pub)
        said = dict(vars(context))
        if "data" in said:
            said["data"] = self._decoded(said["data"])
        if "info" in said:
            said["info"] = self._info(said["info"])
        if "error" in said:
            said |= {"message": str(said["error"]), "code": getattr(said["error"], "code", said["code"])}
        if position := said.pop("stream_position", None):
            said["position"] = vars(position)
        return said

    def _publication(self, publication: centrifuge.Publication) -> Said:
        info = self._info(publication.info) if publication.info is not None else None
        return vars(publication) | {"data": self._decoded(publication.data), "info": info}

    def _info(self, info: centrifuge.ClientInfo) -> Said:
        return vars(info) | {"conn_info": self._decoded(info.conn_info), "chan_info": self._decoded(info.chan_info)}

    def _encoded(self, data: Any) -> Any:
        return json.dumps(data, ensure_ascii=False).encode() if self._protobuf else data

    def _decoded(self, data: Any) -> Any:
        if not self._protobuf:
            return data
        return json.loads(data) if data else None


async def _answered(answer: Awaitable[Any]) -> Any:
    try:
        return await answer
    except centrifuge.ReplyError as error:
        raise SdkError(error.code, error.message) from error
    except centrifuge.CentrifugeError as error:  # an error of the SDK itself
        raise SdkError(0, str(error)) from error
