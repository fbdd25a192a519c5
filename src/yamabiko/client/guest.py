"""The program behind `yamabiko connect`: a visit that always ends with the closing handshake."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import traceback
from dataclasses import dataclass
from typing import TextIO

from yamabiko.client.address import Address, label_of
from yamabiko.client.backoff import Backoff
from yamabiko.client.bookmark import Bookmark
from yamabiko.client.link import Link
from yamabiko.client.outbox import Outbox
from yamabiko.client.screen import Screen, tolerate_any_text
from yamabiko.client.trace import SILENT, Trace
from yamabiko.client.visit import Source, Visit

UNANSWERED_FROM_A_PIPE = 64
UNANSWERED_FROM_THE_KEYBOARD = 1000
HISTORY_AT_THE_PROMPT = 10


@dataclass(frozen=True)
class Wishes:
    """What was asked for on the command line; `history` None is the usual number."""

    address: Address
    history: int | None = None
    is_traced: bool = False


class Guest:
    """A `MainFinally` program: `on_main` visits the room, `on_finally` says goodbye whatever happened."""

    def __init__(self, wishes: Wishes) -> None:
        self.wishes = wishes
        self.is_at_a_prompt = is_terminal(sys.stdin) and is_terminal(sys.stdout)
        self.screen = Screen(is_styled=self.is_at_a_prompt)
        self.runner = asyncio.Runner()
        self.visit: Visit | None = None

    def on_main(self) -> int:
        tolerate_any_text()
        return self.runner.run(self._visit_room())

    def on_except(self, error: Exception) -> int:
        self.screen.note(f"an error of the client itself, please report it: {type(error).__name__}: {error}")
        if self.wishes.is_traced:
            for line in traceback.format_exception(error):
                self.screen.trace(line)
        return 1

    def on_finally(self) -> None:
        with self.runner:
            if self.visit is not None:
                self.runner.run(self.visit.end())

    async def _visit_room(self) -> int:
        self.visit = self._prepare()
        return await self.visit.stay(self._source())

    def _prepare(self) -> Visit:
        trace = Trace(self.screen.trace) if self.wishes.is_traced else SILENT
        visit = Visit(
            Link(self.wishes.address, backoff=Backoff(), trace=trace),
            screen=self.screen,
            bookmark=Bookmark(history=self._history()),
            outbox=Outbox(author=secrets.token_urlsafe(12), limit=self._unanswered()),
        )
        self.screen.on_reader_gone = visit.ask_to_leave
        return visit

    def _source(self) -> Source:
        if self.is_at_a_prompt:
            from yamabiko.client.terminal import Terminal

            return Terminal(label_of(self.wishes.address.url))
        from yamabiko.client.pipe import Pipe

        return Pipe(input_descriptor())

    def _history(self) -> int:
        usual = HISTORY_AT_THE_PROMPT if self.is_at_a_prompt else 0
        return usual if self.wishes.history is None else self.wishes.history

    def _unanswered(self) -> int:
        return UNANSWERED_FROM_THE_KEYBOARD if self.is_at_a_prompt else UNANSWERED_FROM_A_PIPE


def input_descriptor() -> int:
    """Return what to read from. Where standard input is closed, its number may be that of a socket by now."""
    return os.open(os.devnull, os.O_RDONLY) if sys.stdin is None else sys.stdin.fileno()


def is_terminal(stream: TextIO | None) -> bool:
    """Return False as well for a stream that was closed before the program began: Python has None there."""
    return stream is not None and stream.isatty()
