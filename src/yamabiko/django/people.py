"""Who is in a room, and what a server does with one user: from anywhere in a project, on every node."""

from __future__ import annotations

from typing import Any

import msgspec

from yamabiko.core import orders
from yamabiko.core.errors import FORCE_DISCONNECT, close_of
from yamabiko.core.messages import NOTHING, Counts, Member, encode_message
from yamabiko.core.names import room_name
from yamabiko.django import wishes
from yamabiko.django.publish import refuse_on_loop
from yamabiko.django.service import service


class Present(msgspec.Struct, frozen=True):
    """One client in a room: someone with three tabs is three clients and one user.

    `user` is the primary key of its user as text and `name` the user's name, both empty for someone unknown; `info` is
    what was said of the connection, `room_info` of its place in this room, None for nothing.
    """

    client: str
    user: str
    name: str
    info: Any = None
    room_info: Any = None


class PresenceStats(msgspec.Struct, frozen=True):
    """How many are in a room; all unknown clients count as one user."""

    clients: int
    users: int


def presence(room: str) -> list[Present]:
    """Return who is in `room`, on all nodes, in no particular order.

    Raises UnknownRoom, NotAvailable for a room without presence and for a broker that cannot be reached, and
    YamabikoError when called where only `await apresence(...)` can be.
    """
    refuse_on_loop("presence")
    return service().run(apresence(room))


async def apresence(room: str) -> list[Present]:
    """Return who is in `room`, as `presence` does, from async code."""
    return [_present(member) for member in await service().ask(wishes.Present(room=room_name(room)))]


def presence_stats(room: str) -> PresenceStats:
    """Return how many are in `room`, without asking who. Raises what `presence` does."""
    refuse_on_loop("presence_stats")
    return service().run(apresence_stats(room))


async def apresence_stats(room: str) -> PresenceStats:
    """Return how many are in `room`, as `presence_stats` does, from async code."""
    counts: Counts = await service().ask(wishes.CountPresent(room=room_name(room)))
    return PresenceStats(counts.clients, counts.users)


def send(user: Any, data: Any, *, client: str = "") -> None:
    """Send `data`, anything JSON can hold, to all connections of `user`, outside of rooms and unnumbered.

    `user` is a Django user or a primary key. Nothing is kept for those who are not there, and connections of the room
    protocol, which has no words for it, do not hear it. With a `client` it goes to that connection alone, if it is the
    user's. Raises NotAvailable, TypeError for what JSON cannot hold, ValueError for a user who is not known, and
    YamabikoError when called where only `await asend(...)` can be.
    """
    refuse_on_loop("send")
    service().run(asend(user, data, client=client))


async def asend(user: Any, data: Any, *, client: str = "") -> None:
    """Send `data` to `user`, as `send` does, from async code."""
    await _order(orders.SendUser(user=_id(user), client=client, data=msgspec.Raw(encode_message(data))))


def disconnect(
    user: Any, *, client: str = "", code: int = FORCE_DISCONNECT.code, reason: str = FORCE_DISCONNECT.reason
) -> None:
    """Close all connections of `user`, of both protocols; with a `client` that one alone, if it is the user's.

    By the default `code` clients do not connect again; they do by 3000 to 3499 and 4000 to 4499. `reason` has at most
    32 ASCII characters. Raises NotAvailable, ValueError for a user who is not known and a code or reason that cannot
    be, and YamabikoError when called where only `await adisconnect(...)` can be.
    """
    refuse_on_loop("disconnect")
    service().run(adisconnect(user, client=client, code=code, reason=reason))


async def adisconnect(
    user: Any, *, client: str = "", code: int = FORCE_DISCONNECT.code, reason: str = FORCE_DISCONNECT.reason
) -> None:
    """Close connections of `user`, as `disconnect` does, from async code."""
    close = close_of(code, reason)
    await _order(orders.DisconnectUser(user=_id(user), client=client, code=close.code, reason=close.reason))


def subscribe(user: Any, room: str, *, client: str = "", info: Any = None, data: Any = None) -> None:
    """Put all connections of `user` that speak the SDK protocol into `room`, whatever its Room class says of joining.

    `info` is told to others of these members, `data` to the members. Raises NotAvailable, UnknownRoom, TypeError for
    what JSON cannot hold, ValueError for a user who is not known, and YamabikoError when called where only
    `await asubscribe(...)` can be.
    """
    refuse_on_loop("subscribe")
    service().run(asubscribe(user, room, client=client, info=info, data=data))


async def asubscribe(user: Any, room: str, *, client: str = "", info: Any = None, data: Any = None) -> None:
    """Put connections of `user` into `room`, as `subscribe` does, from async code."""
    name = room_name(room)
    service().node.rules(name)
    order = orders.SubscribeUser(user=_id(user), client=client, room=name, info=_json(info), data=_json(data))
    await _order(order)


def unsubscribe(user: Any, room: str, *, client: str = "") -> None:
    """Take all connections of `user` out of `room`; those of the room protocol are closed, as it is their only one.

    They are not kept out: that is for the Room class. Raises NotAvailable, UnknownRoom, ValueError for a user who is
    not known, and YamabikoError when called where only `await aunsubscribe(...)` can be.
    """
    refuse_on_loop("unsubscribe")
    service().run(aunsubscribe(user, room, client=client))


async def aunsubscribe(user: Any, room: str, *, client: str = "") -> None:
    """Take connections of `user` out of `room`, as `unsubscribe` does, from async code."""
    await _order(orders.UnsubscribeUser(user=_id(user), client=client, room=room_name(room)))


async def _order(order: orders.AnyOrder) -> None:
    await service().ask(wishes.Obey(order=order))


def _id(user: Any) -> str:
    """Return the id by which connections know a user, from a Django user or a primary key."""
    key = getattr(user, "pk", user)
    if key in (None, ""):
        raise ValueError(f"expected a user who is saved, or a primary key, not {user!r}")
    return str(key)


def _json(value: Any) -> msgspec.Raw:
    return NOTHING if value is None else msgspec.Raw(encode_message(value))


def _present(member: Member) -> Present:
    return Present(member.client, member.user, member.name, _value(member.info), _value(member.room_info))


def _value(encoded: msgspec.Raw) -> Any:
    return msgspec.json.decode(encoded) if encoded else None
