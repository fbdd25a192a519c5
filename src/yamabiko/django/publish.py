"""Publishing from anywhere in a project: views, signals, tasks, shells, tests."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections

from yamabiko.core.errors import YamabikoError
from yamabiko.core.messages import Position, encode_message
from yamabiko.core.names import room_name
from yamabiko.django.service import service

LONGEST_KEY_BYTES = 255


def publish(room: str, message: Any, *, idempotency_key: str = "", using: str | None = None) -> Position | None:
    """Publish `message`, anything JSON can hold, into `room`; no Room class is asked for leave.

    Returns its position; None where the room keeps no history, and inside `transaction.atomic()`: there it is part of
    the transaction, sent when it commits, also if this process dies, and never if it rolls back. `using` names the
    database whose transaction that is; otherwise it is the first one in a transaction, the default one before others.

    The same `idempotency_key` publishes once into a room, however often it is used in five minutes, or as long as the
    history reaches. Raises UnknownRoom, PublishFailed, TypeError for a message that JSON cannot hold, ValueError for a
    key that is no such text, and YamabikoError when called where only `await apublish(...)` can be.
    """
    refuse_on_loop("publish")
    name, data, key = _checked(room, message, idempotency_key)
    transactions = _open_transactions(using)
    if not transactions:
        return service().publish_now(name, data, key=key)
    service().refuse_too_large(data)  # told here, because nobody could be told at the commit
    # Models can be imported once all apps are ready; this module can be imported before.
    from yamabiko.django.outbox_commit import publish_at_commit

    publish_at_commit(transactions, name, data, key)
    return None


async def apublish(room: str, message: Any, *, idempotency_key: str = "") -> Position | None:
    """Publish `message` into `room`, as `publish` does, from async code; Django has no transactions there."""
    name, data, key = _checked(room, message, idempotency_key)
    return await service().publish(name, data, key=key)


def refuse_on_loop(name: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise YamabikoError(f"{name}() would block the event loop it was called on; use: await yamabiko.a{name}(...)")


def _open_transactions(using: str | None) -> list[str]:
    """Return the databases that are in a transaction on this thread, the default one first."""
    aliases = sorted(connections, key=lambda alias: alias != DEFAULT_DB_ALIAS) if using is None else [using]
    return [alias for alias in aliases if connections[alias].in_atomic_block]


def _checked(room: str, message: Any, idempotency_key: str) -> tuple[str, bytes, str]:
    name, data = room_name(room), encode_message(message)
    service().node.rules(name)  # an unknown room is told here, whoever has its members
    return name, data, _broker_key(idempotency_key)


def _broker_key(key: str) -> str:
    """Return a key that no client can have sent.

    Theirs hold a line break, whatever their users are called (see Connection); the application's own never do.
    """
    if not key:
        return ""
    if not isinstance(key, str) or re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", key):
        raise ValueError(f"an idempotency_key is a text without control characters and surrogates, not {key!r:.80}")
    if len(key.encode()) > LONGEST_KEY_BYTES:
        raise ValueError(f"an idempotency_key has at most {LONGEST_KEY_BYTES} bytes of UTF-8, not {len(key.encode())}")
    return f"app:{key}"
