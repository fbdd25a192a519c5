"""A place in a room of a peer of the SDK protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from yamabiko.core.errors import INSUFFICIENT_STATE, UnrecoverablePosition
from yamabiko.core.identity import Grant
from yamabiko.core.membership import BURST_BYTES, Membership, split
from yamabiko.core.messages import Event, Position, Stream
from yamabiko.core.sdk import messages as sdk
from yamabiko.core.sdk.asking import asking_the_broker
from yamabiko.core.sdk.views import publication_of

if TYPE_CHECKING:
    from yamabiko.core.deadlines import Deadline
    from yamabiko.core.interfaces import Broker, Codec
    from yamabiko.core.messages import History
    from yamabiko.core.room import LocalRoom
    from yamabiko.core.sdk.connection import SdkConnection

REJECT_UNRECOVERED = 2
"""The bit of a request's `flag` by which an error is wanted where not everything can be recovered."""


class SdkMembership(Membership):
    """Made by an `SdkConnection`. What was missed is all in the reply, or nothing is; a gap ends the subscription.

    One that is `by_server` was not asked for by its client, which cannot ask for it again: a gap ends the connection.
    """

    __slots__ = ("_codec", "_end", "_has_base", "by_server", "grant", "is_told")
    connection: SdkConnection

    def __init__(
        self,
        connection: SdkConnection,
        room: LocalRoom,
        *,
        grant: Grant,
        may_publish: bool,
        wants_presence: bool,
        by_server: bool,
        wants_deltas: bool = False,
    ) -> None:
        super().__init__(connection, room, may_publish=may_publish, wants_presence=wants_presence)
        self.grant = grant
        self.by_server = by_server
        self.is_told = False
        """Whether the peer has been told of this place; before, it is not told either that it is lost."""
        self._end: Deadline | None = None
        self._has_base = False
        has_deltas = wants_deltas and room.rules.delta and room.history is not None
        self._codec = (connection.codec.deltas if has_deltas else None) or connection.codec

    @property
    def codec(self) -> Codec:
        return self._codec

    @property
    def takes_deltas(self) -> bool:
        return self._has_base and self._codec is not self.connection.codec

    @property
    def room_info(self) -> msgspec.Raw:
        return self.grant.info

    async def begin(
        self,
        broker: Broker,
        since: sdk.StreamPosition | None,
        *,
        flag: int = 0,
        reply_bytes: int = BURST_BYTES,
    ) -> sdk.SubscribeResult:
        """Hold publications from now on, and return what the client is to be told before it goes live.

        Of what it missed so many bytes are in that at most; the rest follows as live publications do.
        Raises UnrecoverablePosition if that was asked for, and InternalError if the broker cannot be reached.
        """
        self.room.hold_for(self)
        history = self.room.history
        result = sdk.SubscribeResult(data=self.grant.data, delta=self._codec is not self.connection.codec)
        with asking_the_broker():
            await broker.subscribe(self.room.name)
            if history is None:
                if since is not None and flag & REJECT_UNRECOVERED:
                    raise UnrecoverablePosition()
                return result
            result.recoverable = result.positioned = True
            if since is None:
                top = (await broker.read(self.room.name, history, limit=0)).top
                self._begin_at(top, result)
            else:
                await self._recover(broker, history, since, result, flag=flag, reply_bytes=reply_bytes)
        return result

    def write(self, *events: Event) -> None:
        super().write(*events)
        self.has_had_one()

    def has_had_one(self) -> None:
        """Take note that this member has the publication on which the next may be built."""
        self._has_base = True

    def leave(self) -> None:
        super().leave()
        self.end_at(None)
        self.connection.rooms.pop(self.room.name, None)

    def tell_gap(self, position: Position) -> None:
        if self.by_server:
            self.connection.close(INSUFFICIENT_STATE)
        else:
            self.end(2500, "insufficient state")

    def end(self, code: int, reason: str) -> None:
        """Take this member out of its room and tell it why; by codes from 2500 it subscribes again."""
        if not self.is_lasting:
            return
        self.connection.node.leave(self)
        if self.is_told:
            unsubscribe = sdk.Unsubscribe(code, reason)
            self.connection.write(sdk.Reply(push=sdk.Push(channel=self.room.name, unsubscribe=unsubscribe)))

    def renew(self, grant: Grant) -> None:
        """Take the grant that follows the first one; it may tell others something else of this member."""
        self.grant = grant
        self.connection.node.renew(self)

    def end_at(self, deadline: Deadline | None) -> None:
        """Take the deadline by which this ends, None if it does not, in place of an earlier one."""
        if self._end is not None:
            self._end.cancel()
        self._end = deadline

    async def _recover(
        self,
        broker: Broker,
        history: History,
        since: sdk.StreamPosition,
        result: sdk.SubscribeResult,
        *,
        flag: int,
        reply_bytes: int,
    ) -> None:
        result.was_recovering = True
        room, limit = self.room.name, self.connection.node.sdk_limits.recovered
        epoch = since.epoch or (await broker.read(room, history, limit=0)).top.epoch
        page = await broker.read(room, history, since=Position(epoch, since.offset), limit=limit)
        if not _reaches_top(page, since.offset):
            if flag & REJECT_UNRECOVERED:
                raise UnrecoverablePosition()
            self._begin_at(page.top, result)
            return
        result.recovered = True
        result.epoch, result.offset = page.top.epoch, since.offset
        first, rest = split(page.publications, reply_bytes)
        result.publications = [publication_of(self._codec.whole(publication)) for publication in first]
        self._has_base = bool(result.publications)
        self._position, self._page = page.top, Stream(rest, page.top)

    def _begin_at(self, top: Position, result: sdk.SubscribeResult) -> None:
        result.epoch, result.offset = top.epoch, top.offset
        self._position, self._page = top, Stream([], top)


def _reaches_top(page: Stream, since_offset: int) -> bool:
    """Tell whether a page has everything after an offset, up to the newest."""
    last = page.publications[-1].position if page.publications else None
    return page.is_whole and (last.offset if last is not None else since_offset) == page.top.offset
