"""Audiences collect: what a room writes in one turn of the loop reaches each member in one write.

A large audience sits in sections. One is walked in a turn of the loop, so that nobody else waits for them all.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, TypeVar

from yamabiko.core.frames import Frame

T = TypeVar("T")

SECTION_MEMBERS = 2048
"""As many are written to in one turn: about ten milliseconds of work for the kernel."""


class Section(ABC, Generic[T]):
    """Some members of an audience, and the frames they are still to get: all the same ones."""

    __slots__ = ("frames", "members")

    def __init__(self) -> None:
        self.members: dict[T, None] = {}
        self.frames: list[Frame] = []

    def add(self, transport: T) -> None:
        self.flush()
        self.members[transport] = None

    def discard(self, transport: T) -> None:
        self.flush()
        del self.members[transport]

    def flush(self) -> None:
        frames, self.frames = self.frames, []
        if frames:
            self.pass_on(frames)

    @abstractmethod
    def pass_on(self, frames: list[Frame]) -> None:
        """Write `frames` to every member. Never raises, and changes no audience while it walks one."""


class TurnAudience(Generic[T]):
    """See `Audience`. Its sections are walked in the order in which they came to have something to pass on."""

    __slots__ = ("_due", "_new_section", "_sections")

    def __init__(self, new_section: Callable[[], Section[T]]) -> None:
        self._new_section = new_section
        self._sections = [new_section()]
        self._due: dict[Section[T], None] = {}

    def __len__(self) -> int:
        return sum(len(section.members) for section in self._sections)

    def add(self, transport: T) -> None:
        section = min(self._sections, key=lambda section: len(section.members))
        if len(section.members) >= SECTION_MEMBERS:
            section = self._new_section()
            self._sections.append(section)
        section.add(transport)

    def discard(self, transport: T) -> None:
        for section in self._sections:
            if transport in section.members:
                section.discard(transport)

    def write(self, frame: Frame) -> None:
        if not self._due:
            asyncio.get_running_loop().call_soon(self._walk)
        for section in self._sections:
            self._due[section] = None
            section.frames.append(frame)

    def _walk(self) -> None:
        """Pass on what is due in one section; the others have their turn in the next turns."""
        section = next(iter(self._due))
        del self._due[section]
        section.flush()
        if self._due:
            asyncio.get_running_loop().call_soon(self._walk)
