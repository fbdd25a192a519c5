"""Any Channels layer as the carrier: what CHANNEL_LAYERS names, and whatever else speaks to its groups.

A layer promises less than the other brokers: messages are carried at most once, without numbers and without history. A
layer whose buffer for this process is full (100 messages by default) drops what comes, and tells nobody.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakValueDictionary

import msgspec

from yamabiko.brokers.keys import Keys
from yamabiko.core.errors import NotAvailable, PublishFailed
from yamabiko.core.interfaces import Deliver
from yamabiko.core.messages import History, Position, Publication, Stream, encode_message

logger = logging.getLogger("yamabiko")

ANSWER_SECONDS = 2.0
"""How long a layer may take to accept a message or a membership."""
AGAIN_SECONDS = 1.0
COMPLAINT_SECONDS = 10.0
"""How often the log is told of the same trouble."""
REJOIN_SECONDS = 60.0
"""Layers let group memberships expire, and some lose them in a restart that the client library hides."""


class Layer(Protocol):
    """What is used of a Channels layer."""

    async def new_channel(self) -> str: ...
    async def group_add(self, group: str, channel: str) -> None: ...
    async def group_discard(self, group: str, channel: str) -> None: ...
    async def group_send(self, group: str, message: dict[str, Any]) -> None: ...
    async def receive(self, channel: str) -> dict[str, Any]: ...


class ChannelsBroker:
    """See `Broker`. One channel per room and process is in the room's group; `group_of` gives the group of a room."""

    keeps_history = False
    answers_at_once = False
    is_shared = True

    def __init__(
        self, layer: Layer, group_of: Callable[[str], str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._layer = layer
        self._group_of = group_of
        self._clock = clock
        self._deliver: Deliver | None = None
        self._keys = Keys()
        self._complains_from = 0.0
        self._wanted: set[str] = set()
        self._feeds: dict[str, Feed] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def start(self, deliver: Deliver, missed: Callable[[], None]) -> None:
        self._deliver = deliver

    async def publish(
        self, room: str, data: bytes, *, history: History | None, user: str = "", key: str = ""
    ) -> Position | None:
        """Send to the room's group. A key is remembered by this process alone."""
        key = f"{room}\n{key}" if key else ""
        if not key:
            await self._send(room, data, user)
            return None
        # Two at once are one: the second waits, and sends if the first has failed.
        async with self._lock(key):
            self._keys.expire(self._clock())
            if key not in self._keys:
                await self._send(room, data, user)
                self._keys.remember(key, None, now=self._clock())
        return None

    async def _send(self, room: str, data: bytes, user: str) -> None:
        try:
            await answered(self._layer.group_send(self._group_of(room), event_of(room, data, user)))
        except Exception as error:
            self._complain(error)
            raise PublishFailed(f"the channel layer did not take the message: {error!r}") from error

    def _complain(self, error: Exception) -> None:
        now = self._clock()
        if now >= self._complains_from:
            self._complains_from = now + COMPLAINT_SECONDS
            logger.error("messages are refused, as the channel layer does not take them: %r", error)

    async def subscribe(self, room: str) -> None:
        self._wanted.add(room)
        async with self._lock(room):
            if room in self._wanted and room not in self._feeds:
                feed = Feed(self._layer, room, self._group_of(room), self._pass_on)
                try:
                    await answered(feed.begin())
                except Exception as error:
                    logger.warning("the channel layer does not take room %r: %r", room, error)
                    raise NotAvailable("the channel layer cannot be reached") from error
                if room in self._wanted:
                    self._feeds[room] = feed
                else:
                    await feed.end()

    async def unsubscribe(self, room: str) -> None:
        self._wanted.discard(room)
        async with self._lock(room):
            if room not in self._wanted and room in self._feeds:
                await self._feeds.pop(room).end()

    async def read(self, room: str, history: History, *, since: Position | None = None, limit: int) -> Stream:
        raise NotAvailable("a channel layer keeps no history")

    async def close(self) -> None:
        self._wanted.clear()
        for room in list(self._feeds):
            await self.unsubscribe(room)

    def _lock(self, room: str) -> asyncio.Lock:
        lock = self._locks.get(room)
        if lock is None:
            lock = self._locks[room] = asyncio.Lock()
        return lock

    def _pass_on(self, room: str, publication: Publication) -> None:
        assert self._deliver is not None
        self._deliver(room, publication)


class Feed:
    """What one group says, from `begin` to `end`: two tasks, one that listens and one that renews the membership."""

    def __init__(self, layer: Layer, room: str, group: str, take: Deliver) -> None:
        self._layer = layer
        self._room = room
        self._group = group
        self._take = take
        self._channel = ""
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        self._channel = await self._layer.new_channel()
        await self._layer.group_add(self._group, self._channel)
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._renew())]

    async def end(self) -> None:
        # A layer may turn a cancellation into an error of its own, so it is said until it is heard.
        while running := [task for task in self._tasks if not task.done()]:
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=AGAIN_SECONDS)
        try:
            await answered(self._layer.group_discard(self._group, self._channel))
        except Exception as error:
            logger.warning("a channel layer kept a group member that has left: %r", error)

    async def _listen(self) -> None:
        while True:
            try:
                event = await self._layer.receive(self._channel)
            except Exception as error:
                await self._take_up_again(error)
            else:
                self._hear(event)

    async def _take_up_again(self, error: Exception) -> None:
        """Join again after `error`, until it works. A client's timeout only says that nothing came for a while."""
        if type(error).__name__ != "TimeoutError":
            logger.warning("the channel layer cannot be heard, messages may be lost: %r", error)
            await asyncio.sleep(AGAIN_SECONDS)
        while not await self._has_rejoined():  # noqa: ASYNC110  (there is no event: the layer is asked)
            await asyncio.sleep(AGAIN_SECONDS)

    def _hear(self, event: dict[str, Any]) -> None:
        if event.get("room", self._room) != self._room:  # two rooms may have one group, and must not hear each other
            return
        try:
            publication = publication_of(event)
        except (TypeError, ValueError, KeyError) as error:
            logger.warning("a message in group %s is no publication: %s", self._group, error)
        else:
            self._pass_on(publication)

    def _pass_on(self, publication: Publication) -> None:
        try:
            self._take(self._room, publication)
        except Exception:
            logger.exception("a publication of group %s could not be delivered", self._group)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(REJOIN_SECONDS)
            await self._has_rejoined()

    async def _has_rejoined(self) -> bool:
        try:
            await answered(self._layer.group_add(self._group, self._channel))
        except Exception as error:
            logger.warning("the channel layer cannot be reached: %r", error)
            return False
        return True


async def answered(work: Any) -> None:
    """Wait for a layer, for a bounded time. Raises TimeoutError."""
    async with asyncio.timeout(ANSWER_SECONDS):
        await work


def event_of(room: str, data: bytes, user: str) -> dict[str, Any]:
    """Return the event that consumers with a `send_message` handler know too."""
    event: dict[str, Any] = {"type": "send_message", "message": msgspec.json.decode(data), "room": room}
    if user:
        event["user"] = user
    return event


def publication_of(event: dict[str, Any]) -> Publication:
    """Return what any sender's event publishes. Raises KeyError without `message`, TypeError if JSON cannot hold it."""
    if "message" not in event:
        raise KeyError(f"expected a 'message' in the event, which has {sorted(map(str, event))}")
    user = event.get("user", "")
    return Publication(encode_message(event["message"]), None, user if isinstance(user, str) else "")
