"""What a peer of the SDK protocol may ask, and how each wish is answered.

Source: the Centrifugo client protocol v2, sections "commands" and "codes". Each function answers one kind of request:
it writes its reply, or raises a Refusal, which becomes the reply, or a Close, which ends the connection.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from yamabiko.core.errors import (
    BAD_REQUEST,
    CONNECTION_CLOSED,
    CONNECTION_EXPIRED,
    INSUFFICIENT_STATE,
    INVALID_TOKEN,
    NOT_OFFERED,
    SERVER_ERROR,
    SUBSCRIPTION_EXPIRED,
    TOO_MANY_ROOMS,
    AlreadyJoined,
    BadRequest,
    Close,
    Expired,
    InternalError,
    LimitExceeded,
    NotAvailable,
    PermissionDenied,
    Refusal,
    TokenExpired,
    UnknownRoom,
)
from yamabiko.core.identity import Grant, Identity
from yamabiko.core.membership import BURST_BYTES, split
from yamabiko.core.names import LONGEST_BYTES, exact_room_name
from yamabiko.core.sdk import messages as sdk
from yamabiko.core.sdk.asking import asking_the_broker
from yamabiko.core.sdk.limits import expiry
from yamabiko.core.sdk.reading import read_page
from yamabiko.core.sdk.views import client_info, publication_of
from yamabiko.core.version import VERSION

if TYPE_CHECKING:
    from yamabiko.core.sdk.connection import SdkConnection
    from yamabiko.core.sdk.membership import SdkMembership

logger = logging.getLogger("yamabiko")

SHARED_POLL = 4
"""A type of subscription that is refused with another code than the others that are not offered."""
DELTAS = ("", "fossil")


async def obey(connection: SdkConnection, command: sdk.Command) -> None:
    """Answer one command. Raises a Refusal or a Close."""
    request = command.request
    if connection.is_refused:  # clients that connect and subscribe in one frame are to try again
        raise CONNECTION_CLOSED.anew()
    if not connection.is_connected and not isinstance(request, sdk.ConnectRequest):
        raise BAD_REQUEST.anew()
    if request is None and not command.id:
        connection.take_pong()
    elif request is None or not (command.id or isinstance(request, sdk.SendRequest)):
        raise BAD_REQUEST.anew()
    else:
        await _ANSWERS[type(request)](connection, command.id, request)


async def _connect(connection: SdkConnection, command_id: int, request: sdk.ConnectRequest) -> None:
    if connection.is_known:
        raise BAD_REQUEST.anew()
    began = connection.node.now()
    identity = await _identify(connection, request.token)
    if len(identity.grants) > connection.node.sdk_limits.rooms:
        raise TOO_MANY_ROOMS.anew()
    if not connection.is_open:
        return
    connection.be(identity, asked_at=began)
    try:
        await _welcome(connection, command_id, request)
    except Close:
        raise
    except Exception as error:  # it must not go on half connected
        logger.exception("a connection of user %r could not be begun", connection.user_id)
        raise SERVER_ERROR.anew() from error


async def _welcome(connection: SdkConnection, command_id: int, request: sdk.ConnectRequest) -> None:
    """Put a connection into the rooms it was granted, tell it that it is connected, and have it go live there."""
    identity = connection.identity
    await connection.reclaim_client()
    entered = [
        await _enter_granted(connection, room, grant, request.subs.get(room)) for room, grant in identity.grants.items()
    ]
    if not connection.is_open:
        return
    settled = [each for each in entered if each is not None and each[0].is_lasting]
    expires, ttl = expiry(identity.expires_in_seconds)
    result = sdk.ConnectResult(
        client=connection.client,
        version=VERSION,
        expires=expires,
        ttl=ttl,
        subs={membership.room.name: result for membership, result in settled},
        ping=connection.ping_seconds,
        pong=connection.ping_seconds > 0,
        session=connection.session,
        node=connection.node.id if connection.session else "",
    )
    memberships = [membership for membership, _ in settled]
    connection.welcome(sdk.Reply(id=command_id, connect=result), *memberships)
    for membership in memberships:
        await connection.settle(membership)


async def _identify(connection: SdkConnection, token: str) -> Identity:
    try:
        return await connection.node.application.identify(connection.visitor, token)
    except Exception:
        connection.is_refused = True
        raise


async def _enter_granted(
    connection: SdkConnection, room: str, grant: Grant, had: sdk.SubscribeRequest | None
) -> tuple[SdkMembership, sdk.SubscribeResult] | None:
    """Put a new connection into a room that it was granted; one that it cannot be put into is left out.

    Raises the Close SERVER_ERROR where it may work the next time: to the client what is left out is over.
    """
    since = sdk.StreamPosition(had.offset, had.epoch) if had is not None and had.recover else None
    reply_bytes = BURST_BYTES // len(connection.identity.grants)
    try:
        with connection.entering(room) as entering:
            return await connection.enter(entering, grant, since=since, by_server=True, reply_bytes=reply_bytes)
    except Close:
        raise
    except Exception as error:
        if isinstance(error, Refusal) and not error.is_temporary:
            logger.warning("user %r could not be put into room %s: %s", connection.user_id, room, error.message)
            return None
        logger.exception("user %r could not be put into room %s", connection.user_id, room)
        raise SERVER_ERROR.anew() from error


async def _subscribe(connection: SdkConnection, command_id: int, request: sdk.SubscribeRequest) -> None:
    room = _room(request.channel)
    connection.node.rules(room)
    if request.type:
        raise NotAvailable() if request.type == SHARED_POLL else PermissionDenied("there are stream subscriptions only")
    if request.delta not in DELTAS:
        raise BAD_REQUEST.anew()
    if room in connection.rooms:
        raise AlreadyJoined()
    if len(connection.rooms) >= connection.node.sdk_limits.rooms:
        raise LimitExceeded()
    with connection.entering(room) as entering:
        grant = await _grant(connection, room, request.token)
        if request.tf:
            raise BadRequest("there are no filters")
        membership, result = await connection.enter(
            entering,
            grant,
            since=sdk.StreamPosition(request.offset, request.epoch) if request.recover else None,
            flag=request.flag,
            wants_presence=request.join_leave,
            wants_deltas=bool(request.delta),
        )
    if not membership.is_lasting:
        raise PermissionDenied("the server has ended this subscription")
    connection.tell(sdk.Reply(id=command_id, subscribe=result), membership)
    await connection.settle(membership)


async def _grant(connection: SdkConnection, room: str, token: str) -> Grant:
    """Return the right to join: what the token grants or, without one, what the Room class says."""
    if token:
        application = connection.node.application
        return await application.grant(token, room=room, user_id=connection.user_id, client=connection.client)
    if not await connection.node.rules(room).can_join(connection.user):
        raise PermissionDenied("you may not join this room")
    return Grant()


async def _unsubscribe(connection: SdkConnection, command_id: int, request: sdk.UnsubscribeRequest) -> None:
    membership = connection.rooms.get(_room(request.channel))
    if membership is not None:
        connection.node.leave(membership)
    connection.write(sdk.Reply(id=command_id, unsubscribe=sdk.UnsubscribeResult()))


async def _publish(connection: SdkConnection, command_id: int, request: sdk.PublishRequest) -> None:
    membership = _membership(connection, request.channel)
    if not request.data:
        raise BadRequest("there is no data")
    if request.type:
        raise PermissionDenied("there are stream publications only")
    await connection.publish_in(membership, bytes(request.data))
    connection.write_soon(sdk.Reply(id=command_id, publish=sdk.PublishResult()))


async def _history(connection: SdkConnection, command_id: int, request: sdk.HistoryRequest) -> None:
    room = _membership(connection, request.channel).room
    if room.history is None:
        raise NotAvailable("this room keeps no history")
    with asking_the_broker():
        page = await read_page(connection.node, room.name, request)
    fitting, _ = split(page.publications, connection.node.sdk_limits.answer_bytes // 2)
    publications = [publication_of(publication) for publication in fitting or page.publications[:1]]
    result = sdk.HistoryResult(publications, page.top.epoch, page.top.offset)
    connection.answer(sdk.Reply(id=command_id, history=result))


async def _presence(connection: SdkConnection, command_id: int, request: sdk.PresenceRequest) -> None:
    room = _room_with_presence(connection, request.channel)
    with asking_the_broker():
        members = await connection.node.present(room)
    result = sdk.PresenceResult({member.client: client_info(member) for member in members})
    connection.answer(sdk.Reply(id=command_id, presence=result))


async def _presence_stats(connection: SdkConnection, command_id: int, request: sdk.PresenceStatsRequest) -> None:
    room = _room_with_presence(connection, request.channel)
    with asking_the_broker():
        counts = await connection.node.count_present(room)
    result = sdk.PresenceStatsResult(counts.clients, counts.users)
    connection.write(sdk.Reply(id=command_id, presence_stats=result))


async def _ping(connection: SdkConnection, command_id: int, request: sdk.PingRequest) -> None:
    raise NotAvailable("it is the server that pings")


async def _send(connection: SdkConnection, command_id: int, request: sdk.SendRequest) -> None:
    raise NOT_OFFERED.anew()


async def _rpc(connection: SdkConnection, command_id: int, request: sdk.RpcRequest) -> None:
    """Begin a call beside the next commands; the last one that may be under way holds them up."""
    connection.calls += 1
    work = _call(connection, command_id, request)
    if connection.calls < connection.node.sdk_limits.calls:
        connection.node.spawn(work)
    else:
        await work


async def _call(connection: SdkConnection, command_id: int, request: sdk.RpcRequest) -> None:
    try:
        data = await _result(connection, request.method, bytes(request.data))
    except Refusal as refusal:
        connection.refuse(command_id, refusal)
    except Exception:
        logger.exception("%s failed", request.method)
        connection.refuse(command_id, InternalError())
    else:
        connection.answer(sdk.Reply(id=command_id, rpc=sdk.RpcResult(msgspec.Raw(data))))
    finally:
        connection.calls -= 1


async def _result(connection: SdkConnection, method: str, arguments: bytes) -> bytes:
    """Call "function", or "room:method" of a room that the peer is in."""
    room, colon, name = method.rpartition(":")
    if not colon:
        return await connection.node.application.call(connection.user, method, arguments)
    membership = connection.rooms.get(room)
    if membership is None:
        raise PermissionDenied(f"join {room} first")
    return await membership.room.rules.call(connection.user, name, arguments)


async def _refresh(connection: SdkConnection, command_id: int, request: sdk.RefreshRequest) -> None:
    if not request.token:
        raise BAD_REQUEST.anew()
    began = connection.node.now()
    try:
        identity = await connection.node.application.identify(connection.visitor, request.token)
    except (TokenExpired, Expired) as error:
        raise CONNECTION_EXPIRED.anew() from error
    if identity.id != connection.user_id:
        raise INVALID_TOKEN.anew()
    if identity.grants.keys() != connection.identity.grants.keys():
        raise INSUFFICIENT_STATE.anew()
    connection.be(identity, asked_at=began)
    expires, ttl = expiry(identity.expires_in_seconds)
    result = sdk.RefreshResult(connection.client, VERSION, expires, ttl)
    connection.write(sdk.Reply(id=command_id, refresh=result))


async def _sub_refresh(connection: SdkConnection, command_id: int, request: sdk.SubRefreshRequest) -> None:
    membership = _membership(connection, request.channel)
    if not request.token:
        raise BadRequest("there is no token")
    try:
        grant = await _grant(connection, membership.room.name, request.token)
    except PermissionDenied as error:
        raise INVALID_TOKEN.anew() from error
    except (TokenExpired, Expired) as error:
        raise SUBSCRIPTION_EXPIRED.anew() from error
    if not membership.is_lasting:
        raise PermissionDenied("the server has ended this subscription")
    membership.renew(grant)
    connection.let_last(membership, grant.expires_in_seconds)
    expires, ttl = expiry(grant.expires_in_seconds)
    connection.write(sdk.Reply(id=command_id, sub_refresh=sdk.SubRefreshResult(expires, ttl)))


def _room(channel: str) -> str:
    """Return the room that a channel is. Raises BAD_REQUEST, BadRequest or UnknownRoom."""
    if not channel:
        raise BAD_REQUEST.anew()
    if len(channel.encode()) > LONGEST_BYTES:
        raise BadRequest(f"a room's name has at most {LONGEST_BYTES} bytes of UTF-8")
    try:
        return exact_room_name(channel)
    except UnknownRoom as refusal:
        raise BadRequest(refusal.message) from refusal


def _membership(connection: SdkConnection, channel: str) -> SdkMembership:
    membership = connection.rooms.get(channel) or connection.rooms.get(_room(channel))
    if membership is None:
        raise PermissionDenied("subscribe first")
    return membership


def _room_with_presence(connection: SdkConnection, channel: str) -> str:
    room = _membership(connection, channel).room
    if not room.rules.presence:
        raise NotAvailable("this room does not tell who is present")
    return room.name


_ANSWERS: dict[type, Callable[[SdkConnection, int, Any], Awaitable[None]]] = {
    sdk.ConnectRequest: _connect,
    sdk.SubscribeRequest: _subscribe,
    sdk.UnsubscribeRequest: _unsubscribe,
    sdk.PublishRequest: _publish,
    sdk.PresenceRequest: _presence,
    sdk.PresenceStatsRequest: _presence_stats,
    sdk.HistoryRequest: _history,
    sdk.PingRequest: _ping,
    sdk.SendRequest: _send,
    sdk.RpcRequest: _rpc,
    sdk.RefreshRequest: _refresh,
    sdk.SubRefreshRequest: _sub_refresh,
}
