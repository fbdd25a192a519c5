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
    from yamabiko.django.endpoint import RoomConsumer as RoomConsumer
    from yamabiko.django.endpoint import with_rooms as with_rooms
    from yamabiko.django.history import HistoryPage as HistoryPage
    from yamabiko.django.history import Kept as Kept
    from yamabiko.django.history import ahistory as ahistory
    from yamabiko.django.history import history as history
    from yamabiko.django.publish import apublish as apublish
    from yamabiko.django.publish import publish as publish
    from yamabiko.django.rooms import Room as Room
    from yamabiko.django.rooms import register as register

# Importing yamabiko.core must not import Django, so each name is fetched from its floor on first use.
_HOME = {
    "History": "yamabiko.core.messages",
    "HistoryPage": "yamabiko.django.history",
    "Kept": "yamabiko.django.history",
    "NotAvailable": "yamabiko.core.errors",
    "Position": "yamabiko.core.messages",
    "PublishFailed": "yamabiko.core.errors",
    "Refused": "yamabiko.core.errors",
    "Room": "yamabiko.django.rooms",
    "RoomConsumer": "yamabiko.django.endpoint",
    "YamabikoError": "yamabiko.core.errors",
    "ahistory": "yamabiko.django.history",
    "apublish": "yamabiko.django.publish",
    "history": "yamabiko.django.history",
    "publish": "yamabiko.django.publish",
    "register": "yamabiko.django.rooms",
    "with_rooms": "yamabiko.django.endpoint",
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
