"""The loop's side: gathers what one turn asks for, and delivers what the writer has put on disk."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from yamabiko.brokers.keys import KEPT_SECONDS
from yamabiko.brokers.local_presence import LocalPresence
from yamabiko.brokers.nobody import Nobody
from yamabiko.brokers.sqlite.errors import LogTrouble
from yamabiko.brokers.sqlite.log import Entry, Log, Question
from yamabiko.brokers.sqlite.writer import Ending, Forgetting, Opening, Turn, Writer
from yamabiko.core.errors import PublishFailed
from yamabiko.core.interfaces import Listener, PresenceStore
from yamabiko.core.messages import History, Position, Publication, Stream

logger = logging.getLogger("yamabiko")

GATHERED_SECONDS = 0.002
"""How long is gathered at most while every turn of the loop brings more: larger commits cost less for each message."""


class SqliteBroker:
    """See `Broker`. Whatever is to be kept is on disk before it is delivered, and before `publish` returns.

    The file at `path` belongs to one process at a time; its folder must exist. `clock` is the time of the calendar, in
    seconds: what is kept outlives this process.
    """

    keeps_history = True
    answers_at_once = False
    is_shared = False

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path.absolute()
        self._clock = clock
        self._listens = False
        self._members = Members(clock)
        self._turns: dict[asyncio.AbstractEventLoop, Turn] = {}
        self._writer: Writer | None = None
        self._process = os.getpid()
        self._changing = threading.Lock()
        self._may_have_missed = False
        self._local = LocalPresence(clock, self._members.rooms)
        self.presence: PresenceStore = self._local
        self.start(Nobody())

    def start(self, listener: Listener) -> None:
        self._listener, self._deliver = listener, listener.deliver
        self._local.start(listener)

    async def open(self) -> None:
        """Open the file now rather than when it is first needed. Raises ConfigurationError if that cannot be."""
        loop = asyncio.get_running_loop()
        is_open: asyncio.Future[None] = loop.create_future()
        self._wish(Opening(loop, is_open))
        await is_open

    async def publish(
        self,
        room: str,
        data: bytes,
        *,
        history: History | None,
        user: str = "",
        extras: bytes = b"",
        key: str = "",
    ) -> Position | None:
        if history is None and not key:
            self._pass_on(room, Publication(data, None, user, extras))
            return None
        _check_texts(user, key)
        turn = self._turn()
        position: asyncio.Future[Position | None] = turn.loop.create_future()
        turn.entries.append(Entry(room, data, history, user, key, extras))
        turn.positions.append(position)
        return await position

    async def subscribe(self, room: str) -> None:
        self._members.come(room)

    async def unsubscribe(self, room: str) -> None:
        self._members.go(room)

    async def read(self, room: str, history: History, *, since: Position | None = None, limit: int) -> Stream:
        turn = self._turn()
        stream: asyncio.Future[Stream] = turn.loop.create_future()
        turn.questions.append((Question(room, history.size, since, limit), stream))
        return await stream

    async def forget(self, room: str) -> None:
        loop = asyncio.get_running_loop()
        is_forgotten: asyncio.Future[None] = loop.create_future()
        self._hand_over(loop)
        self._wish(Forgetting(loop, room, is_forgotten))
        await is_forgotten

    async def listen(self) -> None:
        self._listens = True

    async def tell_nodes(self, message: bytes) -> None:
        if self._listens:
            self._listener.heard(message)

    async def close(self) -> None:
        self._listens = False
        self._local.clear()
        self._members.clear()
        loop = asyncio.get_running_loop()
        self._hand_over(loop)
        is_over: asyncio.Future[None] = loop.create_future()
        with self._changing:
            self._forget_the_parent()
            writer, self._writer = self._writer, None
            if writer is None:
                return
            self._letting_go.detach()
            writer.take(Ending(loop, is_over))
        await is_over
        writer.join()

    def _turn(self) -> Turn:
        """Return what is gathered until a turn of the loop brings nothing more; then the writer gets it, as one."""
        loop = asyncio.get_running_loop()
        turn = self._turns.get(loop)
        if turn is None:
            turn = self._turns[loop] = Turn(loop, self._settle)
            loop.call_soon(self._gather, turn, 0, loop.time() + GATHERED_SECONDS)
        return turn

    def _gather(self, turn: Turn, had: int, until: float) -> None:
        loop, has = turn.loop, len(turn.entries) + len(turn.questions)
        if self._turns.get(loop) is not turn:
            return
        if has > had and loop.time() < until:
            loop.call_soon(self._gather, turn, has, until)
        else:
            self._hand_over(loop)

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        turn = self._turns.pop(loop, None)
        if turn is not None:
            self._wish(turn)

    def _wish(self, wish: Turn | Forgetting | Opening) -> None:
        with self._changing:
            self._forget_the_parent()
            if self._writer is None:
                self._writer = Writer(Log(self._path), self._clock, self._members.are_in)
                # A broker that nobody holds any longer must not hold the file.
                self._letting_go = weakref.finalize(self, self._writer.take, Ending())
            self._writer.take(wish)

    def _forget_the_parent(self) -> None:
        """Begin anew in a forked child: the writer's thread has stayed with the parent."""
        if self._process != os.getpid():
            self._process, self._writer = os.getpid(), None

    def _settle(
        self, entries: list[Entry], positions: list[asyncio.Future[Position | None]], trouble: LogTrouble | None
    ) -> None:
        if trouble is not None:
            self._refuse(positions, trouble)
            return
        for entry, position in zip(entries, positions, strict=True):
            if entry.publication is not None:
                self._pass_on(entry.room, entry.publication)
            if not position.done():
                position.set_result(entry.position)
        if self._may_have_missed:
            self._may_have_missed = False
            self._listener.missed()

    def _refuse(self, positions: list[asyncio.Future[Position | None]], trouble: LogTrouble) -> None:
        self._may_have_missed = True  # what failed at the very end may be in the file after all
        for position in positions:
            if not position.done():
                position.set_exception(PublishFailed(f"{self._path.name} cannot be written: {trouble}"))

    def _pass_on(self, room: str, publication: Publication) -> None:
        if room not in self._members.rooms:
            return
        try:
            self._deliver(room, publication)
        except Exception:
            logger.exception("a publication in room %r could not be delivered", room)


class Members:
    """Which rooms have members here, or had some in the last five minutes: those are not forgotten."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.rooms: set[str] = set()
        self._clock = clock
        self._left: OrderedDict[str, float] = OrderedDict()

    def come(self, room: str) -> None:
        self.rooms.add(room)
        self._left.pop(room, None)

    def go(self, room: str) -> None:
        if room not in self.rooms:
            return
        now = self._clock()
        self._left[room] = now
        self.rooms.discard(room)
        while self._left and next(iter(self._left.values())) <= now - KEPT_SECONDS:
            self._left.popitem(last=False)

    def are_in(self, room: str) -> bool:
        """Tell whether the room is in use; asked by the writer's thread."""
        return room in self.rooms or self._left.get(room, -KEPT_SECONDS) > self._clock() - KEPT_SECONDS

    def clear(self) -> None:
        self.rooms.clear()
        self._left.clear()


def _check_texts(*texts: str) -> None:
    """Raise PublishFailed for half a character, which no file can hold: it would spoil what is written with it."""
    for text in texts:
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise PublishFailed(f"a name or a key is text that UTF-8 can hold, not {text!r}") from error
