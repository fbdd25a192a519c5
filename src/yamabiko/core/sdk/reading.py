"""A page of a room's history as the SDK protocol asks for it, from a client or through the HTTP API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yamabiko.core.errors import BadRequest, UnrecoverablePosition
from yamabiko.core.messages import Position, Stream
from yamabiko.core.sdk import messages as sdk

if TYPE_CHECKING:
    from yamabiko.core.node import Node

ALL = -1


async def read_page(node: Node, room: str, request: sdk.HistoryRequest) -> Stream:
    """Return what was asked for, cut to what one answer may hold; `top` is always the newest position.

    Raises BadRequest, UnrecoverablePosition if `since` has another epoch, UnknownRoom and NotAvailable.
    """
    since, at_most = request.since, node.sdk_limits.history_read
    if since is not None and request.reverse and not since.offset:
        raise BadRequest("there is nothing before offset 0")
    if request.limit < ALL:
        raise BadRequest("limit is a number of publications, 0 for the position alone, -1 for all")
    limit = at_most if request.limit == ALL else min(request.limit, at_most)
    if since is None and limit:
        return await node.read(room, limit=limit, reverse=request.reverse)
    top = (await node.read(room, limit=0, reverse=True)).top
    if since is not None and since.epoch and since.epoch != top.epoch:
        raise UnrecoverablePosition()
    if since is None or not limit or (since.offset >= top.offset and not request.reverse):
        return Stream([], top)
    offset = min(since.offset, top.offset + 1)
    return await node.read(room, since=Position(top.epoch, offset), limit=limit, reverse=request.reverse)
