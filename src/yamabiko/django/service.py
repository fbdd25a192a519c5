"""The node of this process: made from the settings when it is first needed, and again when tests change them."""

from __future__ import annotations

import asyncio
import logging
import threading
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from django.core import mail
from django.core.signals import setting_changed
from django.dispatch import receiver

from yamabiko.brokers.memory import MemoryBroker
from yamabiko.core.errors import ConfigurationError, PublishFailed
from yamabiko.core.interfaces import Broker, Rules
from yamabiko.core.messages import Position
from yamabiko.core.node import Node
from yamabiko.django import local_line, settings
from yamabiko.django.auth import Visitors
from yamabiko.django.rooms import registry
from yamabiko.transports.runtime import AsyncioRuntime

logger = logging.getLogger("yamabiko")

FINISH_SECONDS = 2.0
"""How long what is under way may take when the server stops; the server has waited for its own tasks before."""


class DjangoApplication:
    """The core's `Application`: Room classes and Django users."""

    def rules(self, room: str) -> Rules:
        return registry.room(room)

    def name_of(self, user: Any) -> str:
        return str(user.get_username()) if getattr(user, "is_authenticated", False) else ""


class Service:
    """One node and the loop it lives on."""

    def __init__(self) -> None:
        self._runtime = AsyncioRuntime()
        self.node = Node(make_broker(settings.broker_url()), DjangoApplication(), self._runtime)
        self.limits = settings.limits()
        self.visitors = Visitors(self._runtime)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._line: local_line.LocalLine | None = None

    def serve(self) -> None:
        """Take the running loop for the one where members are. A second call changes nothing."""
        if self._loop is asyncio.get_running_loop():
            return
        self._loop = asyncio.get_running_loop()
        if self._is_in_memory and self._line is None and local_line.is_possible():
            self._line = local_line.LocalLine(self.node.publish)
            self._runtime.spawn(self._line.open())

    async def close(self) -> None:
        """Finish what is under way and let go of the broker."""
        await self._runtime.finished(within_seconds=FINISH_SECONDS)
        if self._line is not None:
            await self._line.close()
            self._line = None
        await self.node.broker.close()

    async def publish(self, room: str, data: bytes) -> Position | None:
        """Publish where the room's members are: on this loop, on another one, or in a server on this machine.

        Raises UnknownRoom or PublishFailed, also for a message too large for members to keep up with.
        """
        if len(data) > self.limits.backlog_bytes // 2:
            raise PublishFailed(f"a message of {len(data)} bytes is larger than half of MAX_BACKLOG_BYTES")
        if self._loop is not None and self._loop.is_running():
            if self._loop is asyncio.get_running_loop():
                return await self.node.publish(room, data)
            future = asyncio.run_coroutine_threadsafe(self.node.publish(room, data), self._loop)
            return await asyncio.wrap_future(future)
        if self._is_in_memory:
            positions = await asyncio.to_thread(local_line.publish_to_servers, room, data)
            if positions:
                return positions[-1]
            _warn_that_nobody_hears(room)
        return await self.node.publish(room, data)

    @property
    def _is_in_memory(self) -> bool:
        return isinstance(self.node.broker, MemoryBroker)


def _warn_that_nobody_hears(room: str) -> None:
    if not hasattr(mail, "outbox"):  # as Django's test environment has it
        logger.warning(
            "published in %r, but nobody hears it: with BROKER memory:// rooms are in the server's memory, and no "
            "server of this site runs on this machine",
            room,
        )


def make_broker(url: str) -> Broker:
    """Return the broker that a URL names. Raises ConfigurationError."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigurationError("YAMABIKO['BROKER'] is memory:// or channels://default, and this is no URL") from error
    if parts.scheme == "memory":
        return MemoryBroker()
    if parts.scheme == "channels":
        if find_spec("channels") is None:
            raise ConfigurationError(f"BROKER {url!r} needs Channels: pip install 'yamabiko[channels]'")
        return _channels_broker(parts.netloc or "default")
    raise ConfigurationError(f"YAMABIKO['BROKER'] is memory:// or channels://default, not {parts.scheme}://...")


def _channels_broker(alias: str) -> Broker:
    from channels.exceptions import InvalidChannelLayerError
    from channels.layers import get_channel_layer

    from yamabiko.brokers.channels import ChannelsBroker

    try:
        layer = get_channel_layer(alias)
    except (InvalidChannelLayerError, TypeError, ValueError) as error:
        raise ConfigurationError(f"BROKER channels://{alias}: {error}") from error
    if layer is None:
        raise ConfigurationError(f"BROKER channels://{alias} needs a layer {alias!r} in CHANNEL_LAYERS")
    return ChannelsBroker(layer, lambda room: registry.room(room).group)


_service: Service | None = None
_making = threading.Lock()


def service() -> Service:
    """Return this process's service. Raises ConfigurationError if the settings are wrong."""
    global _service
    if _service is None:
        with _making:
            if _service is None:
                _service = Service()
    return _service


@receiver(setting_changed)
def forget_service(*, setting: str, **_: object) -> None:
    if setting in ("YAMABIKO", "CHANNEL_LAYERS"):
        global _service
        _service = None
