"""The node of this process: made from the settings when it is first needed, and again when tests change them.

It lives on one loop: the server's, or, in a process that serves nobody, one of its own in a thread.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import socket
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec
from django.core.signals import setting_changed
from django.dispatch import receiver

from yamabiko.brokers.memory import MemoryBroker
from yamabiko.brokers.sqlite import SqliteBroker
from yamabiko.core.errors import PublishFailed
from yamabiko.core.messages import Position, Stream
from yamabiko.core.node import Node
from yamabiko.django import local_line, settings
from yamabiko.django.application import DjangoApplication
from yamabiko.django.auth import Visitors
from yamabiko.django.brokers import is_testing, make_broker
from yamabiko.django.wishes import AskRooms, Publish, Read, Statuses, Wish
from yamabiko.transports.loop_thread import LoopThread
from yamabiko.transports.runtime import AsyncioRuntime

logger = logging.getLogger("yamabiko")
T = TypeVar("T")

HEAR_SECONDS = 0.5
"""How long a process that serves nobody waits, once, for the other nodes to say that they are there."""
FINISH_SECONDS = 2.0
"""How long what is under way may take when the server stops; the server has waited for its own tasks before."""


class Service:
    """One node and the loop it lives on."""

    def __init__(self) -> None:
        settings.check_all()
        self._runtime = AsyncioRuntime()
        self.limits = settings.limits()
        self.visitors = Visitors(self._runtime)
        self.node = Node(
            make_broker(),
            DjangoApplication(self.visitors),
            self._runtime,
            name=f"{socket.gethostname()}_{os.getpid()}",
            sdk_limits=settings.sdk_limits(),
            linger_seconds=settings.presence_linger_seconds(),
            position_check_seconds=settings.position_check_seconds(),
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._own_loop: LoopThread | None = None
        self._beginning = threading.Lock()
        self._line: local_line.LocalLine | None = None
        self._relay: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Serve, and take what only one process can have. Raises ConfigurationError if another one has it."""
        self.serve()
        if isinstance(self.node.broker, SqliteBroker):
            await self.node.broker.open()

    def serve(self) -> None:
        """Take the running loop for the one where members are. A second call changes nothing."""
        if self._loop is asyncio.get_running_loop():
            return
        self.stop_own_loop()
        self._loop = asyncio.get_running_loop()
        if not is_testing():  # what a test has not committed is nobody else's
            from yamabiko.django.outbox import Relay

            self._relay = self._loop.create_task(Relay(self._send).run())
        self._runtime.spawn(self.node.begin())
        if not self.node.broker.is_shared and self._line is None and local_line.is_possible():
            self._line = local_line.LocalLine(self.node)
            self._runtime.spawn(self._line.open())

    async def _send(self, room: str, data: bytes, key: str) -> Position | None:
        return await self.publish(room, data, key=key)

    async def close(self) -> None:
        """Finish what is under way and let go of the broker."""
        if self._relay is not None:
            self._relay.cancel()
            await asyncio.wait([self._relay])
            self._relay = None
        await self.node.end()
        await self._runtime.finished(within_seconds=FINISH_SECONDS)
        if self._line is not None:
            await self._line.close()
            self._line = None
        await self.node.broker.close()

    async def ask(self, wish: Wish[T]) -> T:
        """Have a wish fulfilled where the rooms are: on this loop, on another one, or in a server on this machine.

        Raises UnknownRoom, NotAvailable, another Refusal or PublishFailed.
        """
        if self._is_elsewhere:
            answers = await asyncio.to_thread(local_line.ask_servers, wish)
            if answers:
                return answers[-1]
            self._warn_if_nobody_hears(wish)
        return await self._at_home(self._fulfil(wish))

    async def _fulfil(self, wish: Wish[T]) -> T:
        if isinstance(wish, AskRooms | Statuses) and not self._is_serving and await self.node.observe():
            await asyncio.sleep(HEAR_SECONDS)  # who the other nodes are is not known yet
        return await wish.fulfil(self.node)

    async def publish(
        self, room: str, data: bytes, *, key: str = "", extras: bytes = b"", is_kept: bool = True
    ) -> Position | None:
        """Publish where the room's members are.

        Raises UnknownRoom or PublishFailed, also for a message too large for members to keep up with.
        """
        self.refuse_too_large(data)
        return await self.ask(Publish(room=room, data=msgspec.Raw(data), key=key, extras=extras, is_kept=is_kept))

    def refuse_too_large(self, data: bytes) -> None:
        """Raise PublishFailed for a message that no member could keep up with."""
        if len(data) > self.limits.backlog_bytes // 2:
            raise PublishFailed(f"a message of {len(data)} bytes is larger than half of MAX_BACKLOG_BYTES")

    async def read(self, room: str, *, since: Position | None, limit: int, reverse: bool) -> Stream:
        """Return a page of a room's history. Raises UnknownRoom or NotAvailable."""
        return await self.ask(Read(room=room, since=since, limit=limit, reverse=reverse))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` from a thread without a loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._home_loop()).result()

    def publish_now(self, room: str, data: bytes, *, key: str = "") -> Position | None:
        """Do what `publish` does, from a thread without a loop."""
        return self.run(self.publish(room, data, key=key))

    def stop_own_loop(self) -> None:
        if self._own_loop is not None:
            self._own_loop.stop(self.node.broker.close())
            self._own_loop = None

    @property
    def _is_serving(self) -> bool:
        return self._loop is not None and self._loop.is_running()

    @property
    def _is_elsewhere(self) -> bool:
        """Whether another process of this machine may have the rooms."""
        return not self._is_serving and not self.node.broker.is_shared

    def _home_loop(self) -> asyncio.AbstractEventLoop:
        if self._is_serving:
            assert self._loop is not None
            return self._loop
        with self._beginning:  # several threads may be the first
            if self._own_loop is None:
                self._own_loop = LoopThread()
            return self._own_loop.loop

    async def _at_home(self, work: Coroutine[Any, Any, T]) -> T:
        if not self._is_serving and isinstance(self.node.broker, SqliteBroker):
            work = self._with_file(work)
        home = self._home_loop()
        if home is asyncio.get_running_loop():
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, home))

    async def _with_file(self, work: Coroutine[Any, Any, T]) -> T:
        """Let go of the file again, so that a server can have it."""
        try:
            return await work
        finally:
            await self.node.broker.close()

    def _warn_if_nobody_hears(self, wish: Wish[Any]) -> None:
        if isinstance(wish, Publish) and isinstance(self.node.broker, MemoryBroker) and not is_testing():
            logger.warning(
                "published in %r, but nobody hears it: with BROKER memory:// rooms are in the server's memory, and no "
                "server of this site runs on this machine",
                wish.room,
            )


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
        _forget()


@atexit.register
def _forget() -> None:
    global _service
    service, _service = _service, None
    if service is not None:
        service.stop_own_loop()


def _forget_in_child() -> None:
    """A forked process has none of the threads and connections of its parent."""
    global _service, _making
    _service, _making = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
