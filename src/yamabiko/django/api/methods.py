"""What the HTTP API can be asked for, by method. Source: the Centrifugo server API.

Each function answers one kind of request, or raises a Refusal, whose code and message are the answer then. No Room
class is asked for leave: whoever has the key may do everything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct

from yamabiko.core import orders
from yamabiko.core.errors import (
    FORCE_DISCONNECT,
    BadRequest,
    Expired,
    InternalError,
    MethodNotFound,
    NotAvailable,
    PublishFailed,
    Refusal,
    close_of,
)
from yamabiko.core.messages import Position
from yamabiko.core.names import LONGEST_BYTES
from yamabiko.core.sdk import messages as sdk
from yamabiko.core.sdk.views import client_info, publication_of
from yamabiko.django import wishes
from yamabiko.django.api import messages as api
from yamabiko.django.api.checks import (
    broker_key,
    extras_of,
    json_of,
    json_or_nothing,
    known_room,
    refuse_too_large,
    room_with_history,
    room_with_presence,
    seconds_until,
    user_of,
)
from yamabiko.django.service import service

logger = logging.getLogger("yamabiko")

AT_ONCE = 50
"""Rooms of a broadcast, and commands of a parallel batch, that are seen to at a time."""

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R", bound=Struct)
Result: TypeAlias = Struct
"""What a method answers, or an `api.Error`."""


async def answer_to(name: str, body: bytes | Raw) -> Result:
    """Do what a request for a method of METHODS asks; an empty body asks for nothing in particular.

    Raises ValueError or RecursionError for what is no JSON. Mistakes of ours are logged.
    """
    method = METHODS[name]
    try:
        request = msgspec.json.decode(body or b"{}", type=method.request)
    except msgspec.ValidationError as error:
        return error_of(BadRequest(str(error)))
    return await _answered(method.answer(request))


def error_of(refusal: Refusal) -> api.Error:
    return api.Error(refusal.code, refusal.message)


async def _answered(work: Awaitable[R]) -> R | api.Error:
    try:
        return await work
    except Refusal as refusal:
        return error_of(refusal)
    except Exception:
        logger.exception("a request to the HTTP API could not be answered")
        return error_of(InternalError())


class _Message(NamedTuple):
    """What is published, checked, into however many rooms."""

    data: bytes
    extras: bytes
    key: str
    is_kept: bool


async def _publish(request: api.PublishRequest) -> api.PublishResult:
    return await _publish_in(request.channel, _message_of(request))


async def _broadcast(request: api.BroadcastRequest) -> api.BroadcastResult:
    if not 0 < len(request.channels) <= api.MOST_CHANNELS:
        raise BadRequest(f"channels are 1 to {api.MOST_CHANNELS} rooms, not {len(request.channels)}")
    message = _message_of(request)

    async def reply(channel: str) -> api.PublishReply:
        answer = await _answered(_publish_in(channel, message))
        return api.PublishReply(error=answer) if isinstance(answer, api.Error) else api.PublishReply(result=answer)

    return api.BroadcastResult(await _each(reply, request.channels, at_once=AT_ONCE))


def _message_of(options: api.PublishOptions) -> _Message:
    if options.version:
        raise NotAvailable("publications are not ordered by versions")
    data, extras = json_of(options.data, options.b64data), extras_of(options.tags)
    if not data:
        raise BadRequest("there is no data")
    refuse_too_large(data + extras)
    return _Message(data, extras, broker_key(options.idempotency_key), is_kept=not options.skip_history)


async def _publish_in(channel: str, message: _Message) -> api.PublishResult:
    room = known_room(channel)
    with _told_as_internal_error():
        position = await service().publish(
            room, message.data, key=message.key, extras=message.extras, is_kept=message.is_kept
        )
    return api.PublishResult() if position is None else api.PublishResult(position.offset, position.epoch)


async def _history(request: api.HistoryRequest) -> api.HistoryResult:
    room = room_with_history(request.channel)
    since = sdk.StreamPosition(request.since.offset, request.since.epoch) if request.since is not None else None
    wish = wishes.ReadPage(
        room=room, request=sdk.HistoryRequest(room, request.limit or 0, since, bool(request.reverse))
    )
    page = await _asked(wish)
    publications = [_publication(publication_of(publication)) for publication in page.publications]
    return api.HistoryResult(publications, page.top.epoch, page.top.offset)


def _publication(publication: sdk.Publication) -> api.Publication:
    info = _client_info(publication.info) if publication.info is not None else None
    return api.Publication(publication.data, publication.offset, info, publication.tags)


def _client_info(info: sdk.ClientInfo) -> api.ClientInfo:
    return api.ClientInfo(info.user, info.client, info.conn_info or UNSET, info.chan_info or UNSET)


async def _history_remove(request: api.HistoryRemoveRequest) -> api.HistoryRemoveResult:
    await _asked(wishes.ForgetHistory(room=room_with_history(request.channel)))
    return api.HistoryRemoveResult()


async def _presence(request: api.PresenceRequest) -> api.PresenceResult:
    members = await _asked(wishes.Present(room=room_with_presence(request.channel)))
    return api.PresenceResult({member.client: _client_info(client_info(member)) for member in members})


async def _presence_stats(request: api.PresenceStatsRequest) -> api.PresenceStatsResult:
    counts = await _asked(wishes.CountPresent(room=room_with_presence(request.channel)))
    return api.PresenceStatsResult(counts.clients, counts.users)


async def _subscribe(request: api.SubscribeRequest) -> api.SubscribeResult:
    user = user_of(request)
    room = known_room(request.channel)
    since = request.recover_since
    expires_in_seconds = seconds_until(request.expire_at)
    if expires_in_seconds is not None and expires_in_seconds <= 0:
        raise Expired("expire_at is over")
    order = orders.SubscribeUser(
        user=user,
        client=request.client or "",
        room=room,
        info=json_or_nothing(request.info, request.b64info),
        data=json_or_nothing(request.data, request.b64data),
        expires_in_seconds=expires_in_seconds,
        since=Position(since.epoch, since.offset) if since is not None else None,
    )
    await _asked(wishes.Obey(order=order))
    return api.SubscribeResult()


async def _unsubscribe(request: api.UnsubscribeRequest) -> api.UnsubscribeResult:
    user = user_of(request)
    room = known_room(request.channel) if request.channel else ""
    await _asked(wishes.Obey(order=orders.UnsubscribeUser(user=user, client=request.client or "", room=room)))
    return api.UnsubscribeResult()


async def _disconnect(request: api.DisconnectRequest) -> api.DisconnectResult:
    user = user_of(request)
    given = request.disconnect or api.Disconnect(code=FORCE_DISCONNECT.code)
    close = api.Disconnect(code=given.code, reason=given.reason or FORCE_DISCONNECT.reason)
    try:
        close_of(close.code, close.reason)
    except ValueError as error:
        raise BadRequest(str(error)) from error
    order = orders.DisconnectUser(
        user=user,
        client=request.client or "",
        code=close.code,
        reason=close.reason,
        spared=tuple(request.whitelist or ()),
    )
    await _asked(wishes.Obey(order=order))
    return api.DisconnectResult()


async def _refresh(request: api.RefreshRequest) -> api.RefreshResult:
    user = user_of(request)
    seconds = seconds_until(request.expire_at)
    is_over = bool(request.expired) or (seconds is not None and seconds <= 0)
    order = orders.RefreshUser(
        user=user, client=request.client or "", expires_in_seconds=None if is_over else seconds, expired=is_over
    )
    await _asked(wishes.Obey(order=order))
    return api.RefreshResult()


async def _channels(request: api.ChannelsRequest) -> api.ChannelsResult:
    pattern = request.pattern or ""
    if len(pattern.encode()) > LONGEST_BYTES:
        raise BadRequest(f"a pattern has at most {LONGEST_BYTES} bytes of UTF-8")
    counts = await _asked(wishes.AskRooms(pattern=pattern))
    return api.ChannelsResult({room: api.ChannelInfo(number) for room, number in counts.items()})


async def _info(request: api.InfoRequest) -> api.InfoResult:
    return api.InfoResult([_node(status) for status in await _asked(wishes.Statuses())])


def _node(status: orders.NodeStatus) -> api.Node:
    return api.Node(
        uid=status.node,
        name=status.name,
        version=status.version,
        num_clients=status.clients,
        num_users=status.users,
        num_subs=status.subscriptions,
        num_channels=status.rooms,
        uptime=status.uptime_seconds,
    )


async def _rpc(request: api.RpcRequest) -> api.RpcResult:
    if not request.method:
        raise BadRequest("there is no method")
    raise MethodNotFound(f"there is no extension {request.method[:80]!r}")


async def _batch(request: api.BatchRequest) -> api.BatchResult:
    if len(request.commands) > api.MOST_COMMANDS:
        raise BadRequest(f"a batch has at most {api.MOST_COMMANDS} commands, not {len(request.commands)}")
    return api.BatchResult(await _each(_reply_to, request.commands, at_once=AT_ONCE if request.parallel else 1))


async def _reply_to(command: dict[str, Raw]) -> dict[str, Result]:
    """Answer one command of a batch, {method: request}; a method that is null is not asked for."""
    asked = {name: body for name, body in command.items() if bytes(body) != b"null"}
    if len(asked) != 1:
        return {"error": error_of(BadRequest("a command has one method: {method: request}"))}
    [(name, body)] = asked.items()
    if name not in METHODS or name == "batch":
        return {"error": error_of(MethodNotFound(f"there is no {name[:80]!r} in a batch"))}
    try:
        answer = await answer_to(name, body)
    except (ValueError, RecursionError) as error:
        answer = error_of(BadRequest(str(error)))
    return {"error" if isinstance(answer, api.Error) else name: answer}


async def _each(do: Callable[[S], Awaitable[T]], items: Sequence[S], *, at_once: int) -> list[T]:
    """Return what `do`, which does not raise, has made of each item; others have turns of the loop in between."""
    done: list[T] = []
    for start in range(0, len(items), at_once):
        done += await asyncio.gather(*map(do, items[start : start + at_once]))
    return done


async def _asked(wish: wishes.Wish[T]) -> T:
    with _told_as_internal_error():
        return await service().ask(wish)


@contextmanager
def _told_as_internal_error() -> Iterator[None]:
    """Tell of a broker, or a server, that cannot be reached as what may well work later: error 100."""
    try:
        yield
    except (NotAvailable, PublishFailed) as error:
        raise InternalError(str(error)) from error


class Method(NamedTuple):
    request: type[Struct]
    result: type[Struct]
    answer: Callable[[Any], Awaitable[Result]]


METHODS = {
    "publish": Method(api.PublishRequest, api.PublishResult, _publish),
    "broadcast": Method(api.BroadcastRequest, api.BroadcastResult, _broadcast),
    "subscribe": Method(api.SubscribeRequest, api.SubscribeResult, _subscribe),
    "unsubscribe": Method(api.UnsubscribeRequest, api.UnsubscribeResult, _unsubscribe),
    "disconnect": Method(api.DisconnectRequest, api.DisconnectResult, _disconnect),
    "refresh": Method(api.RefreshRequest, api.RefreshResult, _refresh),
    "presence": Method(api.PresenceRequest, api.PresenceResult, _presence),
    "presence_stats": Method(api.PresenceStatsRequest, api.PresenceStatsResult, _presence_stats),
    "history": Method(api.HistoryRequest, api.HistoryResult, _history),
    "history_remove": Method(api.HistoryRemoveRequest, api.HistoryRemoveResult, _history_remove),
    "channels": Method(api.ChannelsRequest, api.ChannelsResult, _channels),
    "info": Method(api.InfoRequest, api.InfoResult, _info),
    "rpc": Method(api.RpcRequest, api.RpcResult, _rpc),
    "batch": Method(api.BatchRequest, api.BatchResult, _batch),
}
