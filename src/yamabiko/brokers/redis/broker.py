"""Numbers, keeps and carries publications in Redis or Valkey, for any number of processes on any number of machines."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Self

import msgspec

from yamabiko.brokers.nobody import Nobody
from yamabiko.brokers.redis.address import Address, address_of, texts
from yamabiko.brokers.redis.names import RoomNames, names_of
from yamabiko.brokers.redis.presence import RedisPresence
from yamabiko.brokers.redis.records import (
    NOWHERE,
    OTHERWISE,
    body_of,
    page_of,
    position_of,
    presence_changed,
    published,
)
from yamabiko.brokers.redis.scripts import FORGET, PUBLISH, READ, Request, Word
from yamabiko.brokers.redis.troubles import Broken, Trouble, TroubleLog
from yamabiko.core.errors import ConfigurationError, NotAvailable, PublishFailed
from yamabiko.core.interfaces import Listener, PresenceStore
from yamabiko.core.messages import History, Position, Stream

if TYPE_CHECKING:
    from yamabiko.brokers.redis.feed import Feed
    from yamabiko.brokers.redis.lines import Lines
    from yamabiko.brokers.redis.servers import Servers

logger = logging.getLogger("yamabiko")

ALL_NODES = ""
"""No room's name, under which all nodes hear what is for them."""
LONGEST_TTL_MS = 100 * 365 * 86_400_000


class RedisBroker:
    """See `Broker`. Without members nothing is heard: who only publishes has one connection, and none before."""

    keeps_history = True
    answers_at_once = False
    is_shared = True

    def __init__(
        self, address: Address, *, timeout_seconds: float, prefix: str, clock: Callable[[], float] | None = None
    ) -> None:
        """Without a `clock` the server's own tells what has expired, so that several machines agree."""
        self._address = address
        self._timeout_seconds = timeout_seconds
        self._prefix = prefix
        self._clock = clock
        self._verb = "SPUBLISH" if address.kind == "cluster" else "PUBLISH"
        self._servers: Servers | None = None
        self._lines: Lines | None = None
        self._feed: Feed | None = None
        self._log = TroubleLog("Redis cannot be used")
        self.presence: PresenceStore = RedisPresence(self._asked, self._names, self._now_ms, self._verb)
        self.start(Nobody())

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        timeout_seconds: float = 2.0,
        prefix: str = "yamabiko",
        clock: Callable[[], float] | None = None,
    ) -> Self:
        """Return a broker for the Redis that `url` names; `timeout_seconds` is how long it may take to answer.

        Nothing is reached yet. Raises ConfigurationError for a URL that cannot be used, or if the client is missing.
        """
        if find_spec("hiredis") is None:
            raise ConfigurationError("a broker on Redis needs its client: pip install 'yamabiko[redis]'")
        if not timeout_seconds > 0:
            raise ConfigurationError(f"the timeout of Redis is a number of seconds above 0, not {timeout_seconds!r}")
        if not prefix or "{" in prefix or "}" in prefix:
            raise ConfigurationError(f"the prefix of the keys in Redis is a text without braces, not {prefix!r}")
        return cls(address_of(url), timeout_seconds=timeout_seconds, prefix=prefix, clock=clock)

    def __repr__(self) -> str:
        return f"<RedisBroker at {texts(self._address.hosts)}>"

    def start(self, listener: Listener) -> None:
        self._listener, self._deliver = listener, listener.deliver

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
        names = self._names(room)
        body = body_of(data, user, extras)
        if history is None and not key:
            request = Request(names.tag, (self._verb, names.channel, NOWHERE + body))
        else:
            command = _publish_command(names, history, self._verb, self._now_ms(), has_key=bool(key))
            request = Request(names.tag, command, PUBLISH.source, (body, key))
        try:
            reply = await self._connected().ask(request, may_repeat=bool(key))
        except Trouble as trouble:
            self._log.trouble(trouble)
            raise PublishFailed(_failure(trouble), may_be_published=isinstance(trouble, Broken)) from trouble
        self._log.is_well()
        return position_of(*reply) if history is not None else None

    async def subscribe(self, room: str) -> None:
        try:
            await self._heard().subscribe(self._names(room))
        except Trouble as trouble:  # the feed has said why
            raise NotAvailable("Redis cannot be reached") from trouble

    async def unsubscribe(self, room: str) -> None:
        if self._feed is not None:
            try:
                await self._feed.unsubscribe(self._names(room))
            except Trouble as trouble:  # the feed will see to it
                logger.debug("Redis has not confirmed the end of a subscription: %s", trouble)

    async def read(self, room: str, history: History, *, since: Position | None = None, limit: int) -> Stream:
        names = self._names(room)
        # Without an epoch the newest are meant; a position in no epoch is one that is not known.
        where: tuple[Word, ...] = ("", 0) if since is None else (since.epoch or "-", since.offset)
        words = (*where, limit, history.size, _ttl_ms(history), self._now_ms())
        request = Request(names.tag, READ.command((names.numbers, names.log), words), READ.source)
        return page_of(await self._asked(request), is_newest_first=since is None)

    async def forget(self, room: str) -> None:
        names = self._names(room)
        await self._asked(Request(names.tag, FORGET.command((names.numbers, names.log), ()), FORGET.source))

    async def listen(self) -> None:
        await self._heard().want(self._names(ALL_NODES))

    async def tell_nodes(self, message: bytes) -> None:
        names = self._names(ALL_NODES)
        await self._asked(Request(names.tag, (self._verb, names.channel, OTHERWISE + message)), may_repeat=False)

    async def close(self) -> None:
        lines, feed = self._lines, self._feed
        self._servers = self._lines = self._feed = None
        if lines is not None:
            await lines.close()
        if feed is not None:
            await feed.close()

    async def _asked(self, request: Request, *, may_repeat: bool = True) -> Any:
        """Return the answer of Redis. Raises NotAvailable."""
        try:
            reply = await self._connected().ask(request, may_repeat=may_repeat)
        except Trouble as trouble:
            self._log.trouble(trouble)
            raise NotAvailable("Redis cannot be reached") from trouble
        return reply

    def _names(self, room: str) -> RoomNames:
        return names_of(room, prefix=self._prefix, db=self._address.db)

    def _now_ms(self) -> Word:
        return "" if self._clock is None else int(self._clock() * 1000)

    def _connected(self) -> Lines:
        if self._lines is None:
            from yamabiko.brokers.redis.lines import Lines

            self._lines = Lines(self._known_servers(), self._timeout_seconds)
        return self._lines

    def _heard(self) -> Feed:
        if self._feed is None:
            from yamabiko.brokers.redis.feed import Feed

            self._feed = Feed(self._known_servers(), self._timeout_seconds, self._take, self._tell_missed)
        return self._feed

    def _known_servers(self) -> Servers:
        if self._servers is None:
            from yamabiko.brokers.redis.servers import servers_of

            self._servers = servers_of(self._address)
        return self._servers

    def _take(self, room: str, payload: bytes) -> None:
        """Take what came on a room's channel. Never raises."""
        try:
            publication = published(payload)
        except ValueError as error:
            self._take_otherwise(room, payload, error)
            return
        try:
            self._deliver(room, publication)
        except Exception:
            logger.exception("a publication in room %s could not be delivered", room)

    def _take_otherwise(self, room: str, payload: bytes, error: ValueError) -> None:
        """Take what is no publication because of `error`. Never raises."""
        if not payload.startswith(OTHERWISE):
            logger.warning("a message that somebody sent to room %s through Redis is no publication: %s", room, error)
            return
        message = payload.removeprefix(OTHERWISE)
        try:
            if room != ALL_NODES:
                self._listener.presence_changed(room, presence_changed(message))
            else:
                self._listener.heard(message)
        except msgspec.DecodeError as reason:
            logger.warning("a message that came through Redis to room %r cannot be read: %s", room, reason)
        except Exception:
            logger.exception("a message that came through Redis to room %r could not be taken", room)

    def _tell_missed(self) -> None:
        self._listener.missed()


@lru_cache(maxsize=4096)
def _publish_command(
    names: RoomNames, history: History | None, verb: str, now_ms: Word, *, has_key: bool
) -> tuple[Word, ...]:
    # No more keys than needed: while a slot moves, what is not there yet cannot be asked for.
    keys = (names.numbers, names.log, names.keys, names.key_order) if has_key else (names.numbers, names.log)
    size = history.size if history is not None else 0
    return PUBLISH.command(keys, (verb, names.channel, size, _ttl_ms(history), now_ms))


def _ttl_ms(history: History | None) -> int:
    return min(max(int(history.ttl_seconds * 1000), 1), LONGEST_TTL_MS) if history is not None else 0


def _failure(trouble: Trouble) -> str:
    if isinstance(trouble, Broken):
        return f"{trouble}; it may or may not have been published, and may be sent again under the same id or key"
    return f"{trouble}; nothing was published, and it may be sent again"
