"""Publishing from anywhere in a project: views, signals, tasks, shells, tests."""

from __future__ import annotations

import asyncio
from typing import Any

from asgiref.sync import async_to_sync
from django.db import DEFAULT_DB_ALIAS, connections, transaction

from yamabiko.core.errors import YamabikoError
from yamabiko.core.messages import Position, encode_message
from yamabiko.core.names import room_name
from yamabiko.django.service import service


def publish(room: str, message: Any) -> Position | None:
    """Publish `message`, anything JSON can hold, into `room`; no Room class is asked for leave.

    Returns its position; None where the room keeps no history, and inside `transaction.atomic()`: there it is published
    when the transaction commits, and never if it rolls back; what fails then is logged. Raises UnknownRoom,
    PublishFailed, TypeError for a message that JSON cannot hold, and YamabikoError when called where only
    `await apublish(...)` can be.
    """
    _refuse_on_loop()
    name, data = room_name(room), encode_message(message)
    service().node.rules(name)  # an unknown room is told here, not at the commit
    if DEFAULT_DB_ALIAS in connections and connections[DEFAULT_DB_ALIAS].in_atomic_block:
        # Robust: the transaction stands, so a broker that fails now is logged and others' callbacks still run. Django
        # logs the callback's __qualname__, which a partial has not.
        transaction.on_commit(lambda: _publish_now(name, data), robust=True)
        return None
    return _publish_now(name, data)


async def apublish(room: str, message: Any) -> Position | None:
    """Publish `message` into `room`, as `publish` does, from async code; Django has no transactions there."""
    return await service().publish(room_name(room), encode_message(message))


def _publish_now(room: str, data: bytes) -> Position | None:
    return async_to_sync(service().publish)(room, data)


def _refuse_on_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise YamabikoError("publish() would block the event loop it was called on; use: await yamabiko.apublish(...)")
