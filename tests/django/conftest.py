"""Every test has its own service; rooms that a test registers go with it."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from tests.django.peers import PATIENCE_SECONDS, Peer, socket_scope
from tests.site.asgi import application
from yamabiko.django.rooms import Registry, registry
from yamabiko.django.service import forget_service

T = TypeVar("T")

# Lines are files on POSIX alone.
collect_ignore = ["test_local_line.py"] if sys.platform == "win32" else []


@pytest.fixture(autouse=True)
def _new_service() -> Iterator[None]:
    forget_service(setting="YAMABIKO")
    yield
    forget_service(setting="YAMABIKO")


@pytest.fixture
def only_new_rooms(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Empty the registry for one test."""
    monkeypatch.setattr(registry, "entries", [])
    return registry


class LiveSite:
    """The site on an event loop of its own, in a thread of its own, as a server has it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)

    def start(self) -> None:
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the site's loop and return what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE_SECONDS)

    def member(self, room: str) -> Peer:
        """Return a peer that is in `room`."""
        return self.run(self._join(room))

    async def _join(self, room: str) -> Peer:
        return await Peer(application, socket_scope(f"/rooms/{room}/")).join()

    def hear(self, member: Peer) -> Any:
        return self.run(member.hear_message())

    def stop(self) -> None:
        self.run(self._finish())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE_SECONDS)
        self.loop.close()

    async def _finish(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self.loop.shutdown_default_executor()


@pytest.fixture
def live_site() -> Iterator[LiveSite]:
    site = LiveSite()
    site.start()
    yield site
    site.stop()
