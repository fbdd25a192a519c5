"""What the server orders of one peer of the SDK protocol: to be in a room or not, to take a message, to last longer."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING

from yamabiko.core import orders
from yamabiko.core.errors import CONNECTION_EXPIRED, AlreadyJoined, Close, Refusal
from yamabiko.core.identity import Grant
from yamabiko.core.sdk import messages as sdk
from yamabiko.core.sdk.limits import expiry

if TYPE_CHECKING:
    from yamabiko.core.sdk.connection import Entering, SdkConnection

logger = logging.getLogger("yamabiko")


def carry_out(connection: SdkConnection, order: orders.UserOrder) -> None:
    """Do what is ordered of a connection whose peer knows that it is connected."""
    match order:
        case orders.SubscribeUser():
            if order.room not in connection.rooms:
                ways = ExitStack()
                entering = ways.enter_context(connection.entering(order.room))  # now: the next order may end it
                connection.node.spawn(_subscribe(connection, order, entering, ways))
        case orders.UnsubscribeUser():
            _unsubscribe(connection, order.room)
        case orders.SendUser():
            connection.push(sdk.Push(message=sdk.Message(order.data)))
        case orders.RefreshUser():
            _refresh(connection, order)


async def _subscribe(
    connection: SdkConnection, order: orders.SubscribeUser, entering: Entering, ways: ExitStack
) -> None:
    """Put a peer into a room and tell it; what it missed follows."""
    grant = Grant(info=order.info, data=order.data, expires_in_seconds=order.expires_in_seconds)
    since = sdk.StreamPosition(order.since.offset, order.since.epoch) if order.since is not None else None
    try:
        with ways:
            membership, result = await connection.enter(entering, grant, since=since, by_server=True)
    except (AlreadyJoined, Close):  # by itself meanwhile; or it has left
        return
    except Refusal as refusal:
        logger.warning("user %r could not be put into room %s: %s", order.user, order.room, refusal.message)
        return
    if not membership.is_lasting:
        return
    subscribe = sdk.Subscribe(result.recoverable, result.epoch, result.offset, result.positioned, result.data)
    connection.tell(sdk.Reply(push=sdk.Push(channel=order.room, subscribe=subscribe)), membership)
    for publication in result.publications:
        connection.push(sdk.Push(channel=order.room, pub=publication))
    await connection.settle(membership)


def _unsubscribe(connection: SdkConnection, room: str) -> None:
    connection.stop_entering(room)
    for membership in tuple(connection.memberships):
        if room in ("", membership.room.name):
            membership.end(2000, "server unsubscribe")


def _refresh(connection: SdkConnection, order: orders.RefreshUser) -> None:
    if order.expired:
        connection.close(CONNECTION_EXPIRED)
        return
    connection.last(order.expires_in_seconds)
    expires, ttl = expiry(order.expires_in_seconds)
    connection.push(sdk.Push(refresh=sdk.Refresh(expires, ttl)))
