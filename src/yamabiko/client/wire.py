"""The room protocol as the guest speaks it: text of a frame <-> what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Position:
    """A place in a room's stream; offsets count within an epoch."""

    epoch: str
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.offset}"


@dataclass(frozen=True)
class Publication:
    message: object
    position: Position | None = None
    user: str | None = None


@dataclass(frozen=True)
class Ack:
    id: str
    position: Position | None = None


@dataclass(frozen=True)
class Refusal:
    code: int
    message: str
    id: str | None = None


@dataclass(frozen=True)
class Gap:
    """History no longer reaches back; what follows begins after `position`."""

    position: Position


@dataclass(frozen=True)
class Presence:
    joined: tuple[str, ...]
    left: tuple[str, ...]


@dataclass(frozen=True)
class Unknown:
    """A frame of a kind that this guest does not know: a later server may well send one."""

    payload: str | bytes


Frame = Publication | Ack | Refusal | Gap | Presence | Unknown


def encode(text: str, publication_id: str) -> str:
    return json.dumps({"message": text, "id": publication_id}, ensure_ascii=False)


def decode(payload: str | bytes) -> Frame:
    """Never raises: what cannot be understood comes back as `Unknown`."""
    try:
        frame = json.loads(payload)
        kind, content = next((kind, frame[kind]) for kind in DECODERS if kind in frame)
        return DECODERS[kind](content)
    except (ValueError, TypeError, KeyError, AttributeError, StopIteration, RecursionError):
        return Unknown(payload)


def decode_publication(content: dict[str, Any]) -> Publication:
    user = content.get("user")
    return Publication(content["message"], position_in(content), None if user is None else str(user))


def decode_ack(content: dict[str, Any]) -> Ack:
    return Ack(str(content["id"]), position_in(content))


def decode_error(content: dict[str, Any]) -> Refusal:
    publication_id = content.get("id")
    text = str(content.get("message", "refused"))
    return Refusal(int(content["code"]), text, None if publication_id is None else str(publication_id))


def decode_gap(content: dict[str, Any]) -> Gap:
    return Gap(Position(str(content["epoch"]), int(content["offset"])))


def decode_presence(content: dict[str, Any]) -> Presence:
    return Presence(names_in(content.get("joined", [])), names_in(content.get("left", [])))


def names_in(peers: list[dict[str, Any]]) -> tuple[str, ...]:
    return tuple(str(peer.get("user") or peer["client"]) for peer in peers)


def position_in(content: dict[str, Any]) -> Position | None:
    if "epoch" not in content or "offset" not in content:
        return None
    return Position(str(content["epoch"]), int(content["offset"]))


DECODERS: dict[str, Callable[[Any], Frame]] = {
    "payload": decode_publication,
    "ack": decode_ack,
    "error": decode_error,
    "gap": decode_gap,
    "presence": decode_presence,
}
