"""The connections of this node by their users, and what is ordered of them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from yamabiko.core import orders
from yamabiko.core.errors import FORCE_DISCONNECT, Close
from yamabiko.core.sdk.connection import SdkConnection

if TYPE_CHECKING:
    from yamabiko.core.connection import Connection


class Users:
    def __init__(self) -> None:
        self._connections: defaultdict[str, set[Connection]] = defaultdict(set)

    def __len__(self) -> int:
        return len(self._connections)

    def add(self, connection: Connection) -> None:
        self._connections[connection.user_id].add(connection)

    def discard(self, connection: Connection) -> None:
        connections = self._connections.get(connection.user_id)
        if connections is not None:
            connections.discard(connection)
            if not connections:
                del self._connections[connection.user_id]

    def obey(self, order: orders.UserOrder) -> None:
        """Do what is ordered to those connections here that are meant."""
        for connection in tuple(self._connections.get(order.user, ())):
            if order.client in ("", connection.client):
                _obey(connection, order)


def _obey(connection: Connection, order: orders.UserOrder) -> None:
    if isinstance(order, orders.DisconnectUser):
        if connection.client not in order.spared:
            connection.close(Close(order.code, order.reason))
    elif isinstance(connection, SdkConnection):
        connection.take_order(order)
    elif isinstance(order, orders.UnsubscribeUser):
        _unsubscribe(connection, order.room)
    # The room protocol has no words for the others.


def _unsubscribe(connection: Connection, room: str) -> None:
    if any(room in ("", membership.room.name) for membership in connection.memberships):
        connection.close(FORCE_DISCONNECT)  # its socket is for this room alone
