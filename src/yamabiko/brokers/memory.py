"""Numbers and keeps publications in this process: nothing to install, nothing kept over a restart."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from itertools import islice

from yamabiko.brokers.keys import KEPT_SECONDS, Keys
from yamabiko.brokers.local_presence import LocalPresence
from yamabiko.brokers.nobody import Nobody
from yamabiko.core.interfaces import Listener, PresenceStore
from yamabiko.core.messages import History, Position, Publication, Stream

LOOK_SECONDS, LOOKED_AT = 1.0, 1_000
"""How often, and at how many streams at a time, is looked for those to forget."""
EMPTY_STREAMS_KNOWN = 10_000


class MemoryBroker:
    """See `Broker`. What it accepts is delivered before `publish` returns; it never fails."""

    keeps_history = True
    answers_at_once = True
    is_shared = False

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._streams: OrderedDict[str, _Stream] = OrderedDict()
        self._epochs: OrderedDict[str, str] = OrderedDict()
        """Of streams that had nothing yet when the last member left, who may come back and ask for what came since."""
        self._next_look = 0.0
        self._subscribed: set[str] = set()
        self._listens = False
        self._local = LocalPresence(clock, self._subscribed)
        self.presence: PresenceStore = self._local
        self.start(Nobody())

    def start(self, listener: Listener) -> None:
        self._listener, self._deliver = listener, listener.deliver
        self._local.start(listener)

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
        now = self._clock()
        stream = self._stream(room, now)
        if key:
            stream.expire(now)
            stream.keys.expire(now, kept_from=stream.kept_from)
            if key in stream.keys:
                return stream.keys.position(key)
        publication = Publication(data, stream.next_position() if history else None, user, extras)
        stream.remember(publication, history, key, now)
        self._pass_on(room, publication)
        return publication.position

    async def subscribe(self, room: str) -> None:
        self._subscribed.add(room)

    async def unsubscribe(self, room: str) -> None:
        self._subscribed.discard(room)
        stream = self._streams.get(room)
        if stream is not None and stream.is_unused:
            del self._streams[room]
            self._epochs[room] = stream.epoch
            if len(self._epochs) > EMPTY_STREAMS_KNOWN:
                self._epochs.popitem(last=False)

    async def read(self, room: str, history: History, *, since: Position | None = None, limit: int) -> Stream:
        stream = self._stream(room, self._clock())
        stream.expire(self._clock())
        if since is None:
            return Stream(stream.newest(limit), stream.top)
        publications = stream.after(since)[:limit]
        return Stream(publications, stream.top, is_whole=stream.reaches_back_to(since))

    async def forget(self, room: str) -> None:
        stream = self._streams.get(room)
        if stream is not None:
            stream.forget()

    async def listen(self) -> None:
        self._listens = True

    async def tell_nodes(self, message: bytes) -> None:
        if self._listens:
            self._listener.heard(message)

    async def close(self) -> None:
        """Keep all publications: what is here ends with this process."""
        self._listens = False
        self._local.clear()

    def _pass_on(self, room: str, publication: Publication) -> None:
        if room in self._subscribed:
            self._deliver(room, publication)

    def _stream(self, room: str, now: float) -> _Stream:
        """Return the stream of a room, begun now if need be; now and then, forget those that nobody uses any more."""
        if now >= self._next_look:
            self._forget_expired(now)
        stream = self._streams.get(room)
        if stream is None:
            stream = self._streams[room] = _Stream(self._epochs.pop(room, "") or secrets.token_urlsafe(6), now)
        return stream

    def _forget_expired(self, now: float) -> None:
        """Look at some streams, each in its turn, so that the loop is not held and every stream is looked at."""
        self._next_look = now + LOOK_SECONDS
        for _ in range(min(len(self._streams), LOOKED_AT)):
            room, stream = self._streams.popitem(last=False)
            if stream.lives_until > now or room in self._subscribed:
                self._streams[room] = stream


class _Stream:
    """The publications of one room, oldest first, beside them when they expire; and the keys it has seen."""

    def __init__(self, epoch: str, now: float) -> None:
        self.epoch = epoch
        self.offset = 0
        self.keys = Keys()
        self.lives_until = now + KEPT_SECONDS
        self._kept: deque[Publication] = deque()
        self._expiries: deque[float] = deque()

    @property
    def top(self) -> Position:
        return Position(self.epoch, self.offset)

    @property
    def is_unused(self) -> bool:
        return not self.offset and not self.keys

    @property
    def kept_from(self) -> int:
        return self.offset - len(self._kept) + 1

    def next_position(self) -> Position:
        return Position(self.epoch, self.offset + 1)

    def remember(self, publication: Publication, history: History | None, key: str, now: float) -> None:
        self.lives_until = now + KEPT_SECONDS
        if history is not None:
            expires_at = now + history.ttl_seconds
            self.lives_until = max(self.lives_until, expires_at)
            self.offset += 1
            self._kept.append(publication)
            self._expiries.append(expires_at)
            while len(self._kept) > history.size:
                self._forget_oldest()
            self.expire(now)
        if key:
            self.keys.remember(key, publication.position, now=now)

    def expire(self, now: float) -> None:
        while self._expiries and self._expiries[0] <= now:
            self._forget_oldest()

    def forget(self) -> None:
        self._kept.clear()
        self._expiries.clear()

    def _forget_oldest(self) -> None:
        self._kept.popleft()
        self._expiries.popleft()

    def newest(self, limit: int) -> list[Publication]:
        start = max(len(self._kept) - limit, 0)
        return list(islice(self._kept, start, None))

    def after(self, since: Position) -> list[Publication]:
        """Return what is kept after `since`: all of it if that was numbered in another epoch or is still to come."""
        if since.epoch != self.epoch or since.offset > self.offset:
            return self.newest(len(self._kept))
        return self.newest(self.offset - since.offset)

    def reaches_back_to(self, since: Position) -> bool:
        return since.epoch == self.epoch and self.offset - len(self._kept) <= since.offset <= self.offset
