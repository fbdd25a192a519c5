"""The plugs of the core: what it asks of a transport, a codec, a broker, an application and the loop it runs on."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Protocol, Self, TypeVar

from yamabiko.core.errors import Close
from yamabiko.core.frames import Frame
from yamabiko.core.messages import Command, Event, History, Position, Publication, Stream

Deliver = Callable[[str, Publication], None]
T = TypeVar("T", contravariant=True)


class Transport(Protocol):
    """The writing end of one peer. What it has not sent yet is bounded in bytes; over the bound it closes with SLOW."""

    @property
    def kind(self) -> object:
        """Transports of the same kind can share an audience."""

    def write(self, *frames: Frame) -> None:
        """Take frames to send, in order. Returns at once, never raises, never calls back."""

    def close(self, close: Close) -> None:
        """Send what was written, then the close frame. Returns at once, never raises; a second call changes nothing."""

    async def drained(self) -> None:
        """Wait until most of what was written is sent, or the peer is gone."""

    def new_audience(self) -> Audience[Self]:
        """Return an empty audience for transports of this kind."""


class Audience(Protocol[T]):
    """The live members of one room whose transports and codecs are alike: one call writes to them all."""

    def add(self, transport: T) -> None:
        """Let `transport` have all frames written from now on, and none from before."""

    def discard(self, transport: T) -> None: ...

    def write(self, frame: Frame) -> None:
        """Write to every member, in order, within this turn of the loop and few more; never raises."""

    def __len__(self) -> int: ...


class Codec(Protocol):
    """One wire protocol, both directions. Pure: codecs of one class are interchangeable and hashable."""

    def decode(self, payload: str | bytes) -> Iterable[Command]:
        """Return the commands of a text or binary payload, `Invalid` ones included. Never raises."""

    def encode(self, event: Event) -> Frame: ...


class Broker(Protocol):
    """Numbers, keeps and carries publications; hands them to the `deliver` of `start`, each room's in order.

    Its methods are called on one event loop.
    """

    keeps_history: bool
    """Whether rooms with history have one here; without, `read` is not called and positions are None."""

    answers_at_once: bool
    """Whether `publish` never waits: whoever awaits it has the result without giving up its turn of the loop."""

    is_shared: bool
    """Whether several processes of a site can use it at the same time."""

    def start(self, deliver: Deliver, missed: Callable[[], None]) -> None:
        """Take where to deliver, and whom to tell that publications may have been missed, which `read` may still have.

        Called once, before the loop runs; nothing is reached yet.
        """

    async def publish(
        self, room: str, data: bytes, *, history: History | None, user: str = "", key: str = ""
    ) -> Position | None:
        """Number, keep and carry `data`; return its position, None without history.

        A `key` that was published into this room before, not longer ago than its history reaches and at least five
        minutes, publishes nothing and returns the first position. Raises PublishFailed if nothing was accepted; the
        broker itself tells the log why, once in a while.
        """

    async def subscribe(self, room: str) -> None:
        """Have publications of `room` delivered here. Calls for one room may overlap; the last one begun decides.

        Raises NotAvailable if the broker cannot be reached.
        """

    async def unsubscribe(self, room: str) -> None: ...

    async def read(self, room: str, history: History, *, since: Position | None = None, limit: int) -> Stream:
        """Return at most `limit` kept publications: the first after `since`, or without it the newest.

        Raises NotAvailable if the broker cannot be reached.
        """

    async def close(self) -> None:
        """Finish what was accepted and let go of everything; whatever is called next begins anew."""


class Rules(Protocol):
    """What an application says of one room. A user is whatever the application knows users by."""

    @property
    def history(self) -> History | None: ...
    @property
    def presence(self) -> bool: ...
    @property
    def changes_messages(self) -> bool:
        """Whether `on_publish` is to be asked; if not, messages stay bytes."""

    async def can_join(self, user: object) -> bool: ...
    async def can_publish(self, user: object) -> bool: ...
    async def on_publish(self, user: object, message: object) -> object: ...
    async def on_join(self, user: object) -> None: ...
    async def on_leave(self, user: object) -> None: ...


class Application(Protocol):
    def rules(self, room: str) -> Rules:
        """Return the rules of a room. Raises UnknownRoom if nothing declares it."""

    def name_of(self, user: object) -> str:
        """Return the name others see, empty for someone unknown."""


class Runtime(Protocol):
    """The loop that the core runs on: it owns every task and timer that the core asks for."""

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Run `work` to its end beside everything else."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None: ...
