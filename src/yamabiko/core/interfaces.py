"""The plugs of the core: what it asks of a transport, a codec, a broker, an application and the loop it runs on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Protocol, Self, TypeVar

from yamabiko.core.errors import Close
from yamabiko.core.frames import Frame
from yamabiko.core.identity import Grant, Identity
from yamabiko.core.messages import (
    Command,
    Counts,
    Event,
    History,
    Member,
    Position,
    PresenceChanged,
    Publication,
    Stream,
)

LEASE_SECONDS = 45.0
"""How long a node's members in a room count as present after it last said so; it says so every 15 s."""

Deliver = Callable[[str, Publication], None]
T = TypeVar("T", contravariant=True)


class Transport(Protocol):
    """The writing end of one peer. What it has not sent yet is bounded in bytes; over the bound it closes with SLOW."""

    @property
    def kind(self) -> object:
        """Transports of the same kind can share an audience."""

    def write(self, *frames: Frame) -> None:
        """Take frames to send, in order. Returns at once, never raises, never calls back."""

    def write_soon(self, *frames: Frame) -> None:
        """Take frames as `write` does, to send before this turn of the loop ends, joined with others of its kind."""

    def close(self, close: Close) -> None:
        """Send what was written, then the close frame. Returns at once, never raises; a second call changes nothing."""

    async def drained(self) -> None:
        """Give others their turn, and wait until most of what was written is sent, or the peer is gone."""

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

    ping: Frame | None
    """What asks a peer whether it is there; None where WebSocket's own pings do."""

    tells_gaps: bool
    """Whether a gap is told by a frame, the same for all, after which a peer goes on; else each is told by itself."""

    deltas: Codec | None
    """The variant of this codec for members that take a `Delta` in place of a publication; None if there is none."""

    def decode(self, payload: str | bytes) -> Sequence[Command]:
        """Return the commands of a text or binary payload, `Invalid` ones included. Never raises."""

    def encode(self, event: Event, room: str = "") -> Frame:
        """Encode what happened, in `room` if it is a room's."""

    def whole(self, publication: Publication) -> Publication:
        """Return a publication as the replies of this codec carry it."""


class Listener(Protocol):
    """Who takes what a broker brings, on the broker's event loop. Nothing here waits or raises."""

    def deliver(self, room: str, publication: Publication) -> None:
        """Take the next publication of a room that was subscribed; each room's come in order."""

    def missed(self) -> None:
        """Take note that publications may have been missed, which `read` may still have."""

    def presence_changed(self, room: str, changed: PresenceChanged) -> None:
        """Learn who came into, and who left, a room that was subscribed, on whichever node."""

    def heard(self, message: bytes) -> None:
        """Take a message that was sent to all nodes."""


class PresenceStore(Protocol):
    """Who is in which room, on all nodes that share a broker. Raises NotAvailable if it cannot be reached.

    A node's members in a room are on a lease: if it is not renewed they are gone, and the others are told that they
    left. A client is present on one node only: when it comes to another one it has moved, and nobody is told anything.
    """

    async def come(self, room: str, members: Sequence[Member]) -> None:
        """Begin or renew this node's lease in `room` and add `members`; tell the room of those that were not there."""

    async def go(self, room: str, clients: Collection[str]) -> None:
        """Take `clients` that are present on this node out of `room`; tell the room of those that were there."""

    async def renew(self, rooms: Sequence[str], *, seconds: float = LEASE_SECONDS) -> list[str]:
        """Renew this node's leases; return the rooms where it had ended: their members must `come` again.

        Members on nodes whose lease has ended are taken out, and the room is told.
        """

    async def present(self, room: str) -> list[Member]:
        """Return who is in a room, in no particular order."""

    async def count(self, room: str) -> Counts:
        """Return how many are in a room, without looking at each."""

    async def lose(self, user: str, client: str, *, seconds: float) -> None:
        """Remember for some seconds that a client of a known user was lost, and may come back."""

    async def reclaim(self, user: str) -> str:
        """Return a lost client of `user`, the one lost last, and forget it: only one who asks gets it; or ""."""


class Broker(Protocol):
    """Numbers, keeps and carries publications, and brings them to a listener; carries messages between nodes.

    Its methods are called on one event loop.
    """

    keeps_history: bool
    """Whether rooms with history have one here; without, `read` is not called and positions are None."""

    answers_at_once: bool
    """Whether `publish` never waits: whoever awaits it has the result without giving up its turn of the loop."""

    is_shared: bool
    """Whether several processes of a site can use it at the same time."""

    presence: PresenceStore

    def start(self, listener: Listener) -> None:
        """Take who listens. Called once, before the loop runs; nothing is reached yet."""

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
        """Number, keep and carry `data`, with `user` and `extras`; return its position, None without history.

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

    async def forget(self, room: str) -> None:
        """Let go of what is kept of a room; its numbering goes on. Raises NotAvailable if it cannot be reached."""

    async def listen(self) -> None:
        """Begin to hear what is sent to all nodes, and go on with it through whatever happens. Never raises."""

    async def tell_nodes(self, message: bytes) -> None:
        """Send a message to all nodes that listen, this one included. Raises NotAvailable if it was not sent."""

    async def close(self) -> None:
        """Finish what was accepted and let go of everything; whatever is called next begins anew."""


class Rules(Protocol):
    """What an application says of one room. A user is whatever the application knows users by."""

    @property
    def history(self) -> History | None: ...
    @property
    def presence(self) -> bool: ...
    @property
    def delta(self) -> bool:
        """Whether members may have publications as what has changed since the one before."""

    @property
    def changes_messages(self) -> bool:
        """Whether `on_publish` is to be asked; if not, messages stay bytes."""

    async def can_join(self, user: object) -> bool: ...
    async def can_publish(self, user: object) -> bool: ...
    async def on_publish(self, user: object, message: object) -> object: ...
    async def on_join(self, user: object) -> None: ...
    async def on_leave(self, user: object) -> None: ...
    async def call(self, user: object, method: str, arguments: bytes) -> bytes:
        """Call a method that the room offers to its members, as `Application.call` does."""


class Application(Protocol):
    def rules(self, room: str) -> Rules:
        """Return the rules of a room. Raises UnknownRoom if nothing declares it."""

    async def identify(self, visitor: object, token: str) -> Identity:
        """Return who `visitor`, an open handshake, is: by its token or, without one, by what came with the handshake.

        Raises the Close INVALID_TOKEN, and TokenExpired.
        """

    async def grant(self, token: str, *, room: str, user_id: str, client: str) -> Grant:
        """Return what a subscription token grants.

        Raises PermissionDenied for one that cannot be trusted, the Close INVALID_TOKEN for one that was made for
        another user, room or client, and TokenExpired.
        """

    async def call(self, user: object, method: str, arguments: bytes) -> bytes:
        """Call a function that the application offers to clients, with a JSON object, and return its result as JSON.

        Raises MethodNotFound, BadRequest for arguments that do not fit, or what the function refuses.
        """


class Runtime(Protocol):
    """The loop that the core runs on: it owns every task and timer that the core asks for."""

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Run `work` to its end beside everything else."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None: ...

    def now(self) -> float:
        """Return the seconds of a clock that never goes back."""
