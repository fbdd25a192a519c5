"""The thread that owns the log: what waits is written in one transaction, what is asked alike is read once."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from yamabiko.brokers.sqlite.errors import LogTrouble
from yamabiko.brokers.sqlite.log import Entry, Log, Question
from yamabiko.core.errors import ConfigurationError, NotAvailable
from yamabiko.core.messages import Position, Stream

logger = logging.getLogger("yamabiko")

LOOK_SECONDS = 1.0
"""How often is looked for what is kept no longer."""
READING_SECONDS = 0.01
"""How long is read before what waits is written."""
REPEAT_SECONDS = 60.0
"""How often the same trouble is told."""

Loop = asyncio.AbstractEventLoop
Settle = Callable[[list[Entry], list[asyncio.Future[Position | None]], LogTrouble | None], None]


@dataclass
class Turn:
    """What was asked for in one turn of `loop`: `settle` is called there once its entries are on disk, or are not."""

    loop: Loop
    settle: Settle
    entries: list[Entry] = field(default_factory=list)
    positions: list[asyncio.Future[Position | None]] = field(default_factory=list)
    questions: list[tuple[Question, asyncio.Future[Stream]]] = field(default_factory=list)


@dataclass
class Forgetting:
    """The wish to have nothing kept of `room` that was asked for before."""

    loop: Loop
    room: str
    is_forgotten: asyncio.Future[None]


@dataclass
class Opening:
    """The wish to have the log open."""

    loop: Loop
    is_open: asyncio.Future[None]


@dataclass
class Ending:
    """The last of all wishes; whoever cannot wait for it gives no loop."""

    loop: Loop | None = None
    is_over: asyncio.Future[None] | None = None


Wish = Turn | Forgetting | Opening | Ending


class Writer:
    """Takes wishes in any thread, fulfils them one after the other in its own, and lets go of the log with the last."""

    def __init__(self, log: Log, clock: Callable[[], float], is_in_use: Callable[[str], bool]) -> None:
        self._log = log
        self._clock = clock
        self._is_in_use = is_in_use
        self._wishes: SimpleQueue[Wish] = SimpleQueue()
        self._questions: defaultdict[Question, list[tuple[Loop, asyncio.Future[Stream]]]] = defaultdict(list)
        self._forgettings: list[Forgetting] = []
        self._ending: Ending | None = None
        self._complaints = Complaints()
        self._looked_at = clock()
        self._is_behind = False
        self._thread = threading.Thread(target=self._run, name="yamabiko-log", daemon=True)
        self._thread.start()

    def take(self, wish: Wish) -> None:
        self._wishes.put(wish)

    def join(self) -> None:
        """Wait for the very end of the thread, after the ending was said to be over."""
        self._thread.join()

    def _run(self) -> None:
        while self._ending is None or self._questions:
            self._fulfil_some()
        self._log.close()
        if self._ending.loop is not None and self._ending.is_over is not None:
            _call(self._ending.loop, _settle, [(self._ending.is_over, None)])

    def _fulfil_some(self) -> None:
        """Write and forget all that waits, read some of what is asked, and sweep a little if it is time."""
        turns = self._waiting_turns()
        now = self._clock()
        if turns:
            self._write(turns, now)
        if self._forgettings:
            self._forget(now)
        if self._questions:
            self._read(now)
        if self._is_behind or abs(now - self._looked_at) >= LOOK_SECONDS:
            self._sweep(now)

    def _waiting_turns(self) -> list[Turn]:
        """Return the turns that wait; wait for one if there is nothing else to do."""
        turns: list[Turn] = []
        may_wait = not (self._questions or self._is_behind)
        try:
            wish = self._wishes.get(may_wait, LOOK_SECONDS)
            while True:
                if isinstance(wish, Turn):
                    turns.append(wish)
                elif isinstance(wish, Forgetting):
                    self._forgettings.append(wish)
                elif isinstance(wish, Opening):
                    self._open(wish)
                else:
                    self._ending = wish
                wish = self._wishes.get_nowait()
        except Empty:
            return turns

    def _open(self, opening: Opening) -> None:
        result: object = None
        try:
            self._log.open(self._clock())
        except LogTrouble as trouble:
            result = ConfigurationError(f"the rooms cannot be kept in {self._log.path}: {trouble}")
        _call(opening.loop, _settle, [(opening.is_open, result)])

    def _write(self, turns: list[Turn], now: float) -> None:
        for turn in turns:
            for question, stream in turn.questions:
                self._questions[question].append((turn.loop, stream))
        entries = [entry for turn in turns for entry in turn.entries]
        trouble = None
        try:
            self._log.write(entries, {question.room for question in self._questions}, now)
        except LogTrouble as error:
            trouble = error
            self._complaints.tell("nothing can be written to", self._log.path, error)
        else:
            if entries:
                self._complaints.end("nothing can be written to", self._log.path)
        for turn in _joined(turns):
            _call(turn.loop, turn.settle, turn.entries, turn.positions, trouble)

    def _forget(self, now: float) -> None:
        forgettings, self._forgettings = self._forgettings, []
        for each in forgettings:
            result: object = None
            try:
                self._log.forget(each.room, now)
            except LogTrouble as error:
                self._complaints.tell("not everything can be forgotten in", self._log.path, error)
                result = NotAvailable("the history of this room cannot be forgotten now")
            _call(each.loop, _settle, [(each.is_forgotten, result)])

    def _read(self, now: float) -> None:
        """Answer questions for a while, equal ones together."""
        answers: defaultdict[Loop, list[tuple[asyncio.Future[Any], object]]] = defaultdict(list)
        until = time.perf_counter() + READING_SECONDS
        while self._questions and time.perf_counter() < until:
            question = next(iter(self._questions))
            answer = self._answer(question, now)
            for loop, stream in self._questions.pop(question):
                answers[loop].append((stream, answer))
        for loop, settled in answers.items():
            _call(loop, _settle, settled)

    def _answer(self, question: Question, now: float) -> object:
        try:
            return self._log.read(question, now)
        except LogTrouble as error:
            self._complaints.tell("not everything can be read from", self._log.path, error)
            return NotAvailable("the history of this room cannot be read now")

    def _sweep(self, now: float) -> None:
        self._looked_at, self._is_behind = now, False
        try:
            self._is_behind = self._log.is_open and self._log.sweep(now, self._is_in_use)
        except LogTrouble as error:
            self._complaints.tell("what is kept no longer cannot be deleted from", self._log.path, error)


class Complaints:
    """Tells the site's administrators about trouble: once when it begins, again if it lasts, and when it is over."""

    def __init__(self) -> None:
        self._told: dict[str, dict[str, float]] = defaultdict(dict)

    def tell(self, what: str, path: Path, trouble: LogTrouble) -> None:
        now, reason = time.monotonic(), str(trouble)
        if now - self._told[what].get(reason, -REPEAT_SECONDS) >= REPEAT_SECONDS:
            self._told[what][reason] = now
            logger.error("%s %s: %s", what, path, reason)

    def end(self, what: str, path: Path) -> None:
        if self._told.pop(what, None):
            logger.warning('it is over that "%s %s"', what, path)


def _joined(turns: list[Turn]) -> list[Turn]:
    """Return one turn for each loop, with what there is to settle."""
    joined: dict[Loop, Turn] = {}
    for turn in turns:
        if turn.entries:
            other = joined.setdefault(turn.loop, turn)
            if other is not turn:
                other.entries += turn.entries
                other.positions += turn.positions
    return list(joined.values())


def _call(loop: Loop, callback: Callable[..., None], *arguments: object) -> None:
    """Call back on the loop; one that was closed meanwhile has nobody who waits."""
    try:
        loop.call_soon_threadsafe(callback, *arguments)
    except RuntimeError:
        logger.debug("a loop was closed while it waited for the log")


def _settle(answers: list[tuple[asyncio.Future[Any], object]]) -> None:
    for future, result in answers:
        if future.done():
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
