"""Any Channels layer as the carrier: what CHANNEL_LAYERS names, and whatever else speaks to its groups.

A layer promises less than the other brokers: messages are carried at most once, without numbers and without history. A
layer whose buffer for this process is full (100 messages by default) drops what comes, and tells nobody.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol
from weakref import WeakValueDictionary

import msgspec

from yamabiko.brokers.keys import Keys
from yamabiko.brokers.local_presence import LocalPresence
from yamabiko.brokers.nobody import Nobody
from yamabiko.core.errors import NotAvailable, PublishFailed
from yamabiko.core.interfaces import Listener, PresenceStore
from yamabiko.core.messages import History, Position, Publication, Stream, encode_message

logger = logging.getLogger("yamabiko")

ANSWER_SECONDS = 2.0
"""How long a layer may take to accept a message or a membership."""
AGAIN_SECONDS = 1.0
COMPLAINT_SECONDS = 10.0
"""How often the log is told of the same trouble."""
REJOIN_SECONDS = 60.0
"""Layers let group memberships expire, and some lose them in a restart that the client library hides."""
NODES_GROUP = "yamabiko-nodes"
"""The group of all nodes: no room's, whose group is a hash or of the application's own making."""


class Layer(Protocol):
    """What is used of a Channels layer."""

    async def new_channel(self) -> str: ...
    async def group_add(self, group: str, channel: str) -> None: ...
    async def group_discard(self, group: str, channel: str) -> None: ...
    async def group_send(self, group: str, message: dict[str, Any]) -> None: ...
    async def receive(self, channel: str) -> dict[str, Any]: ...


class ChannelsBroker:
    """See `Broker`. One channel per room and process is in the room's group; `group_of` gives the group of a room.

    Presence is that of this process alone.
    """

    keeps_history = False
    answers_at_once = False
    is_shared = True

    def __init__(
        self, layer: Layer, group_of: Callable[[str], str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._layer = layer
        self._group_of = group_of
        self._clock = clock
        self._keys = Keys()
        self._complains_from = 0.0
        self._wanted: set[str] = set()
        self._feeds: dict[str, Feed] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._nodes: Feed | None = None
        self._local = LocalPresence(clock, self._wanted)
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
        """Send to the room's group. A key is remembered by this process alone."""
        key = f"{room}\n{key}" if key else ""
        if not key:
            await self._send(room, data, user, extras)
            return None
        # Two at once are one: the second waits, and sends if the first has failed.
        async with self._lock(key):
            self._keys.expire(self._clock())
            if key not in self._keys:
                await self._send(room, data, user, extras)
                self._keys.remember(key, None, now=self._clock())
        return None

    async def _send(self, room: str, data: bytes, user: str, extras: bytes) -> None:
        try:
            event = event_of(room, data, user, extras)
            await answered(self._layer.group_send(self._group_of(room), event))
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
                feed = Feed(self._layer, self._group_of(room), partial(self._hear, room))
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

    async def forget(self, room: str) -> None:
        """Nothing is kept."""

    async def listen(self) -> None:
        if self._nodes is None:
            self._nodes = Feed(self._layer, NODES_GROUP, self._hear_node)
            await self._nodes.begin_at_last()

    async def tell_nodes(self, message: bytes) -> None:
        event = {"type": "yamabiko.node", "text": message.decode("latin-1")}  # some layers carry no bytes
        try:
            await answered(self._layer.group_send(NODES_GROUP, event))
        except Exception as error:
            raise NotAvailable("the channel layer cannot be reached") from error

    async def close(self) -> None:
        nodes, self._nodes = self._nodes, None
        if nodes is not None:
            await nodes.end()
        self._local.clear()
        self._wanted.clear()
        for room in list(self._feeds):
            await self.unsubscribe(room)

    def _lock(self, room: str) -> asyncio.Lock:
        lock = self._locks.get(room)
        if lock is None:
            lock = self._locks[room] = asyncio.Lock()
        return lock

    def _hear(self, room: str, event: dict[str, Any]) -> None:
        if event.get("room", room) != room:  # two rooms may have one group, and must not hear each other
            return
        try:
            publication = publication_of(event)
        except (TypeError, ValueError, KeyError) as error:
            logger.warning("a message in group %s is no publication: %s", self._group_of(room), error)
        else:
            self._deliver(room, publication)

    def _hear_node(self, event: dict[str, Any]) -> None:
        self._listener.heard(event["text"].encode("latin-1"))


class Feed:
    """What one group says, from `begin` to `end`: a task that listens, and one that renews the membership."""

    def __init__(self, layer: Layer, group: str, take: Callable[[dict[str, Any]], None]) -> None:
        self._layer = layer
        self._group = group
        self._take = take
        self._channel = ""
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        self._channel = await self._layer.new_channel()
        await self._layer.group_add(self._group, self._channel)
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._renew())]

    async def begin_at_last(self) -> None:
        """Begin, or leave it to a task that tries until it can. Never raises."""
        try:
            await answered(self.begin())
        except Exception as error:
            logger.warning("the channel layer does not take group %s yet: %r", self._group, error)
            self._tasks = [asyncio.create_task(self._begin_later())]

    async def _begin_later(self) -> None:
        while True:
            await asyncio.sleep(AGAIN_SECONDS)
            try:
                return await answered(self.begin())
            except Exception as error:
                logger.debug("the channel layer does not take group %s yet: %r", self._group, error)

    async def end(self) -> None:
        # A layer may turn a cancellation into an error of its own, so it is said until it is heard.
        while running := [task for task in self._tasks if not task.done()]:
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=AGAIN_SECONDS)
        if not self._channel:
            return
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
                self._pass_on(event)

    async def _take_up_again(self, error: Exception) -> None:
        """Join again after `error`, until it works. A client's timeout only says that nothing came for a while."""
        if type(error).__name__ != "TimeoutError":
            logger.warning("the channel layer cannot be heard, messages may be lost: %r", error)
            await asyncio.sleep(AGAIN_SECONDS)
        while not await self._has_rejoined():  # noqa: ASYNC110  (there is no event: the layer is asked)
            await asyncio.sleep(AGAIN_SECONDS)

    def _pass_on(self, event: dict[str, Any]) -> None:
        try:
            self._take(event)
        except Exception:
            logger.exception("a message of group %s could not be delivered", self._group)

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


def event_of(room: str, data: bytes, user: str, extras: bytes) -> dict[str, Any]:
    """Return the event that consumers with a `send_message` handler know too."""
    event: dict[str, Any] = {"type": "send_message", "message": msgspec.json.decode(data), "room": room}
    if user:
        event["user"] = user
    if extras:
        event["extras"] = msgspec.json.decode(extras)
    return event


def publication_of(event: dict[str, Any]) -> Publication:
    """Return what any sender's event publishes. Raises KeyError without `message`, TypeError if JSON cannot hold it."""
    if "message" not in event:
        raise KeyError(f"expected a 'message' in the event, which has {sorted(map(str, event))}")
    user, extras = event.get("user", ""), event.get("extras")
    return Publication(
        encode_message(event["message"]),
        None,
        user if isinstance(user, str) else "",
        encode_message(extras) if extras and isinstance(extras, dict) else b"",
    )
