"""What code of this project wants of a node, wherever it runs: written down, so that another process can fulfil it."""

from __future__ import annotations

import asyncio
from typing import Any, Generic, TypeVar

import msgspec

from yamabiko.core import orders
from yamabiko.core.messages import Counts, Member, Position, Stream
from yamabiko.core.node import Node
from yamabiko.core.sdk.messages import HistoryRequest
from yamabiko.core.sdk.reading import read_page
from yamabiko.core.site import RoomCounts

T = TypeVar("T")


class Wish(msgspec.Struct, Generic[T], frozen=True, tag_field="wish", tag=True, omit_defaults=True, kw_only=True):
    """What the answer to it is, its parameter says."""

    async def fulfil(self, node: Node) -> T:
        """Do it on the node's own loop. Raises UnknownRoom, NotAvailable, another Refusal or PublishFailed."""
        raise NotImplementedError


class Publish(Wish[Position | None], frozen=True, tag=True, kw_only=True):
    """See `Node.publish`."""

    room: str
    data: msgspec.Raw
    key: str = ""
    extras: bytes = b""
    is_kept: bool = True

    async def fulfil(self, node: Node) -> Position | None:
        return await node.publish(self.room, bytes(self.data), key=self.key, extras=self.extras, is_kept=self.is_kept)


class Read(Wish[Stream], frozen=True, tag=True, kw_only=True):
    """See `Node.read`."""

    room: str
    since: Position | None = None
    limit: int
    reverse: bool = False

    async def fulfil(self, node: Node) -> Stream:
        return await node.read(self.room, since=self.since, limit=self.limit, reverse=self.reverse)


class ReadPage(Wish[Stream], frozen=True, tag=True, kw_only=True):
    """See `read_page`."""

    room: str
    request: HistoryRequest

    async def fulfil(self, node: Node) -> Stream:
        return await read_page(node, self.room, self.request)


class ForgetHistory(Wish[None], frozen=True, tag=True, kw_only=True):
    room: str

    async def fulfil(self, node: Node) -> None:
        await node.forget_history(self.room)


class Present(Wish[list[Member]], frozen=True, tag=True, kw_only=True):
    room: str

    async def fulfil(self, node: Node) -> list[Member]:
        return await node.present(self.room)


class CountPresent(Wish[Counts], frozen=True, tag=True, kw_only=True):
    room: str

    async def fulfil(self, node: Node) -> Counts:
        return await node.count_present(self.room)


class Obey(Wish[None], frozen=True, tag=True, kw_only=True):
    """Have every node do its part of an order."""

    order: orders.AnyOrder

    async def fulfil(self, node: Node) -> None:
        await node.order(self.order)


class AskRooms(Wish[RoomCounts], frozen=True, tag=True, kw_only=True):
    """Ask all nodes for the rooms with members whose names match a shell pattern."""

    pattern: str = ""

    async def fulfil(self, node: Node) -> RoomCounts:
        answer: asyncio.Future[RoomCounts] = asyncio.get_running_loop().create_future()

        def answered(counts: RoomCounts) -> None:
            if not answer.done():
                answer.set_result(counts)

        await node.ask_rooms(self.pattern, answered)
        return await answer


class Statuses(Wish[list[orders.NodeStatus]], frozen=True, tag=True, kw_only=True):
    async def fulfil(self, node: Node) -> list[orders.NodeStatus]:
        return node.statuses()


AnyWish = Publish | Read | ReadPage | ForgetHistory | Present | CountPresent | Obey | AskRooms | Statuses


def decoded_answer(wish: Wish[T], encoded: bytes) -> T:
    """Return the answer to a wish that `msgspec.json.encode` encoded."""
    answer: T = msgspec.json.decode(encoded, type=_ANSWERS[type(wish)])
    return answer


_ANSWERS: dict[type, Any] = {
    Publish: Position | None,
    Read: Stream,
    ReadPage: Stream,
    ForgetHistory: None,
    Present: list[Member],
    CountPresent: Counts,
    Obey: None,
    AskRooms: RoomCounts,
    Statuses: list[orders.NodeStatus],
}
