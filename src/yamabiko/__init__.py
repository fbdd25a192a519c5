"""Rooms over WebSocket for Django: everything a project imports, loaded when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yamabiko.core.errors import NotAvailable as NotAvailable
    from yamabiko.core.errors import PublishFailed as PublishFailed
    from yamabiko.core.errors import Refused as Refused
    from yamabiko.core.errors import YamabikoError as YamabikoError
    from yamabiko.core.messages import History as History
    from yamabiko.core.messages import Position as Position
    from yamabiko.django.calls import rpc as rpc
    from yamabiko.django.endpoint import ConnectionConsumer as ConnectionConsumer
    from yamabiko.django.endpoint import RoomConsumer as RoomConsumer
    from yamabiko.django.endpoint import with_rooms as with_rooms
    from yamabiko.django.history import HistoryPage as HistoryPage
    from yamabiko.django.history import Kept as Kept
    from yamabiko.django.history import ahistory as ahistory
    from yamabiko.django.history import history as history
    from yamabiko.django.people import PresenceStats as PresenceStats
    from yamabiko.django.people import Present as Present
    from yamabiko.django.people import adisconnect as adisconnect
    from yamabiko.django.people import apresence as apresence
    from yamabiko.django.people import apresence_stats as apresence_stats
    from yamabiko.django.people import asend as asend
    from yamabiko.django.people import asubscribe as asubscribe
    from yamabiko.django.people import aunsubscribe as aunsubscribe
    from yamabiko.django.people import disconnect as disconnect
    from yamabiko.django.people import presence as presence
    from yamabiko.django.people import presence_stats as presence_stats
    from yamabiko.django.people import send as send
    from yamabiko.django.people import subscribe as subscribe
    from yamabiko.django.people import unsubscribe as unsubscribe
    from yamabiko.django.publish import apublish as apublish
    from yamabiko.django.publish import publish as publish
    from yamabiko.django.rooms import Room as Room
    from yamabiko.django.rooms import register as register
    from yamabiko.django.streams import with_streams as with_streams
    from yamabiko.django.tokens import subscription_token as subscription_token
    from yamabiko.django.tokens import token as token

# Importing yamabiko.core must not import Django, so each name is fetched from its floor on first use.
_HOME = {
    "ConnectionConsumer": "yamabiko.django.endpoint",
    "History": "yamabiko.core.messages",
    "HistoryPage": "yamabiko.django.history",
    "Kept": "yamabiko.django.history",
    "NotAvailable": "yamabiko.core.errors",
    "Position": "yamabiko.core.messages",
    "PresenceStats": "yamabiko.django.people",
    "Present": "yamabiko.django.people",
    "PublishFailed": "yamabiko.core.errors",
    "Refused": "yamabiko.core.errors",
    "Room": "yamabiko.django.rooms",
    "RoomConsumer": "yamabiko.django.endpoint",
    "YamabikoError": "yamabiko.core.errors",
    "adisconnect": "yamabiko.django.people",
    "ahistory": "yamabiko.django.history",
    "apresence": "yamabiko.django.people",
    "apresence_stats": "yamabiko.django.people",
    "apublish": "yamabiko.django.publish",
    "asend": "yamabiko.django.people",
    "asubscribe": "yamabiko.django.people",
    "aunsubscribe": "yamabiko.django.people",
    "disconnect": "yamabiko.django.people",
    "history": "yamabiko.django.history",
    "presence": "yamabiko.django.people",
    "presence_stats": "yamabiko.django.people",
    "publish": "yamabiko.django.publish",
    "register": "yamabiko.django.rooms",
    "rpc": "yamabiko.django.calls",
    "send": "yamabiko.django.people",
    "subscribe": "yamabiko.django.people",
    "subscription_token": "yamabiko.django.tokens",
    "token": "yamabiko.django.tokens",
    "unsubscribe": "yamabiko.django.people",
    "with_rooms": "yamabiko.django.endpoint",
    "with_streams": "yamabiko.django.streams",
}

__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'yamabiko' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
