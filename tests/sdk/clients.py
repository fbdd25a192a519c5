"""Clients of foreign SDKs, all driven alike: what they are told to do, and what they have heard."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

PATIENCE_SECONDS = 10

Said = dict[str, Any]
"""What an event or an answer says, in the protocol's own words; payloads are values of JSON."""


Tokens = Sequence[str | None]


class SdkError(Exception):
    """How an SDK says that a command has failed: with the server's code, or with one of its own below 100."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code} {message}")
        self.code, self.message = code, message


@dataclass(frozen=True)
class ToConnect:
    """How a client connects. `tokens` are handed out when the SDK asks for one, None never comes; without them there is
    nothing to ask.
    """

    url: str
    token: str = ""
    tokens: Tokens | None = None
    headers: dict[str, str] = field(default_factory=dict)


class SdkClient(ABC):
    """A client of some SDK. Events are kept until somebody asks for them."""

    def __init__(self) -> None:
        self.client = ""
        """What the server calls this connection, once it is connected."""
        self._heard: list[tuple[str, str, Said]] = []
        self._news = asyncio.Event()

    def hear(self, name: str, room: str, said: Said) -> None:
        self._heard.append((name, room, said))
        self._news.set()

    async def event(self, name: str, room: str = "", *, where: Callable[[Said], bool] = lambda said: True) -> Said:
        """Return the next event of a name, of a room or of the client itself; others are left where they are."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                for at, (heard, of, said) in enumerate(self._heard):
                    if (heard, of) == (name, room) and where(said):
                        del self._heard[at]
                        return said
                self._news.clear()
                try:
                    await self._news.wait()
                except asyncio.CancelledError as error:
                    error.add_note(f"{self!r} waited for {name!r} of {room!r}; what else it heard: {self._heard}")
                    raise

    def has_heard(self, name: str, room: str = "") -> list[Said]:
        """Return the events of a name that nobody has asked for yet."""
        return [said for heard, of, said in self._heard if (heard, of) == (name, room)]

    def forget(self, name: str, room: str = "") -> None:
        """Let go of the events that `has_heard` returns."""
        self._heard = [each for each in self._heard if each[:2] != (name, room)]

    async def messages(self, room: str, number: int) -> list[Any]:
        """Return the next payloads published in a room."""
        return [(await self.event("publication", room))["data"] for _ in range(number)]

    async def enter(self, room: str, **options: Any) -> Said:
        """Subscribe; return what the server says of that."""
        await self.subscribe(room, **options)
        return await self.event("subscribed", room)

    async def connected(self) -> None:
        """Wait until it is connected, for the first time or again."""
        self.client = (await self.event("connected"))["client"]

    @abstractmethod
    async def connect(self) -> None:
        """Begin to connect; the event "connected" tells when that is done."""

    @abstractmethod
    async def disconnect(self) -> None: ...

    @abstractmethod
    async def subscribe(
        self,
        room: str,
        *,
        token: str = "",
        tokens: Tokens | None = None,
        join_leave: bool = False,
        has_state: bool = False,
    ) -> None:
        """Begin to subscribe; the event "subscribed" of the room tells when that is done.

        Where the application itself `has_state`, "state wanted" tells that it is to `give_state`.
        """

    @abstractmethod
    async def give_state(self, room: str, position: Said) -> None:
        """Say up to which position of a room the application has everything."""

    @abstractmethod
    async def unsubscribe(self, room: str) -> None: ...

    @abstractmethod
    async def publish(self, room: str, data: Any) -> None: ...

    @abstractmethod
    async def rpc(self, method: str, data: Any = None) -> Any: ...

    @abstractmethod
    async def history(self, room: str, *, limit: int = 0, since: Said | None = None, reverse: bool = False) -> Said:
        """Return `publications`, and the newest position as `offset` and `epoch`. `since` is a position."""

    @abstractmethod
    async def presence(self, room: str) -> dict[str, Said]:
        """Return who is there, by client."""

    @abstractmethod
    async def presence_stats(self, room: str) -> dict[str, int]:
        """Return the numbers of `clients` and `users`."""
