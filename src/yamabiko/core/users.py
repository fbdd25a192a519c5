"""The connections of this node by their users, and what is ordered of them."""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from typing import TYPE_CHECKING

from yamabiko.core import orders
from yamabiko.core.errors import FORCE_DISCONNECT, Close
from yamabiko.core.plain.connection import PlainConnection
from yamabiko.core.sdk.connection import SdkConnection

if TYPE_CHECKING:
    from yamabiko.core.connection import Connection


logger = logging.getLogger("yamabiko")

REMEMBERED_SECONDS = 30.0
"""How long a user who was disconnected is remembered: a handshake that has found its user before may still come."""


class Users:
    def __init__(self) -> None:
        self._connections: defaultdict[str, set[Connection]] = defaultdict(set)
        self._disconnected: deque[tuple[float, orders.DisconnectUser]] = deque()

    def __len__(self) -> int:
        return len(self._connections)

    def add(self, connection: Connection, *, asked_at: float) -> None:
        """Take in a connection whose user was asked for then; what was ordered since holds for it too."""
        self._connections[connection.user_id].add(connection)
        for ordered_at, order in tuple(self._disconnected):
            if ordered_at >= asked_at and order.user == connection.user_id:
                _obey(connection, order)

    def discard(self, connection: Connection) -> None:
        connections = self._connections.get(connection.user_id)
        if connections is not None:
            connections.discard(connection)
            if not connections:
                del self._connections[connection.user_id]

    def obey(self, order: orders.UserOrder, now: float) -> None:
        """Do what is ordered to those connections here that are meant."""
        if isinstance(order, orders.DisconnectUser) and not order.client:
            self._remember(order, now)
        for connection in tuple(self._connections.get(order.user, ())):
            if order.client in ("", connection.client):
                self._obey_one(connection, order)

    def _obey_one(self, connection: Connection, order: orders.UserOrder) -> None:
        try:
            _obey(connection, order)
        except Exception:  # one connection's trouble is not the others'
            logger.exception("an order could not be carried out for a connection of user %s", order.user)

    def _remember(self, order: orders.DisconnectUser, now: float) -> None:
        while self._disconnected and self._disconnected[0][0] < now - REMEMBERED_SECONDS:
            self._disconnected.popleft()
        self._disconnected.append((now, order))


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
    if isinstance(connection, PlainConnection) and room in ("", connection.room):
        connection.close(FORCE_DISCONNECT)  # its socket is for this room alone
