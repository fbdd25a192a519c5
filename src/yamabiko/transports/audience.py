"""Audiences collect: what a room writes in one turn of the loop reaches each member in one write."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from yamabiko.core.frames import Frame

T = TypeVar("T")


class TurnAudience(ABC, Generic[T]):
    """Collects the frames of one turn of the loop, then passes them on to the members they were written for."""

    def __init__(self) -> None:
        self._members: dict[T, None] = {}
        self._frames: list[Frame] = []

    def __len__(self) -> int:
        return len(self._members)

    def add(self, transport: T) -> None:
        self._flush()
        self._members[transport] = None

    def discard(self, transport: T) -> None:
        self._flush()
        self._members.pop(transport, None)

    def write(self, frame: Frame) -> None:
        if not self._frames:
            asyncio.get_running_loop().call_soon(self._flush)
        self._frames.append(frame)

    def _flush(self) -> None:
        frames, self._frames = self._frames, []
        if frames:
            self._pass_on(frames)

    @abstractmethod
    def _pass_on(self, frames: list[Frame]) -> None:
        """Write `frames` to every member. Never raises, and changes no audience while it walks one."""
