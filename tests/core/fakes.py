"""Working doubles of the core's plugs, without an event loop: whatever waits, waits for a gate that the test opens."""

from __future__ import annotations

import heapq
import json
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Coroutine, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from yamabiko.brokers.local_presence import LocalPresence
from yamabiko.brokers.memory import MemoryBroker
from yamabiko.codecs.plain import PLAIN
from yamabiko.codecs.sdk_json import SDK_JSON
from yamabiko.core import orders
from yamabiko.core.errors import Close, MethodNotFound, UnknownRoom
from yamabiko.core.frames import Frame
from yamabiko.core.identity import Grant, Identity
from yamabiko.core.interfaces import Codec, Listener
from yamabiko.core.messages import (
    Counts,
    History,
    Join,
    Member,
    Position,
    PresenceChanged,
    Publication,
    Stream,
    encode_message,
)
from yamabiko.core.node import Node
from yamabiko.core.plain.connection import PlainConnection
from yamabiko.core.sdk.connection import SdkConnection


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run `work` to its end and return its result; fail if it would have to wait."""
    walk = Walk(work)
    assert walk.is_done, f"{work.__qualname__} waits, where it was expected to end"
    return walk.result()


class Walk:
    """A coroutine walked by hand: it runs to its first wait, and each `go_on` runs it to the next."""

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self._work = work
        self._value: Any = None
        self.error: Exception | None = None
        self.is_done = False
        self.go_on()

    def go_on(self) -> None:
        assert not self.is_done
        try:
            self._work.send(None)
        except StopIteration as end:
            self.is_done, self._value = True, end.value
        except Exception as error:
            self.is_done, self.error = True, error

    def finish(self) -> None:
        """Go on to the end; nothing may be held any more."""
        for _ in range(100):
            if self.is_done:
                return
            self.go_on()
        raise AssertionError("it still waits")

    def cancel(self) -> None:
        self._work.close()
        self.is_done = True

    def result(self) -> Any:
        assert self.is_done
        if self.error is not None:
            raise self.error
        return self._value


class Gate:
    """What a coroutine waits at while it is shut."""

    def __init__(self) -> None:
        self.is_open = True

    def shut(self) -> None:
        self.is_open = False

    def open(self) -> None:
        self.is_open = True

    def __await__(self) -> Generator[Gate, None, None]:
        while not self.is_open:
            yield self


class FakeTransport:
    """Remembers what was written. While its `socket` is shut nothing is sent, and what waits is counted."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.closes: list[Close] = []
        self.socket = Gate()
        self.unsent_bytes = 0

    @property
    def kind(self) -> object:
        return FakeTransport

    def write(self, *frames: Frame) -> None:
        if self.closes:
            return
        self.frames += frames
        if not self.socket.is_open:
            self.unsent_bytes += sum(map(len, frames))

    def write_soon(self, *frames: Frame) -> None:
        self.write(*frames)

    def close(self, close: Close) -> None:
        if not self.closes:
            self.closes.append(close)

    async def drained(self) -> None:
        await self.socket
        self.unsent_bytes = 0

    def new_audience(self) -> FakeAudience:
        return FakeAudience()


class FakeAudience:
    def __init__(self) -> None:
        self._members: dict[FakeTransport, None] = {}

    def add(self, transport: FakeTransport) -> None:
        self._members[transport] = None

    def discard(self, transport: FakeTransport) -> None:
        self._members.pop(transport, None)

    def write(self, frame: Frame) -> None:
        for member in self._members:
            member.write(frame)

    def __len__(self) -> int:
        return len(self._members)


class WoundRuntime:
    """A clock that is wound by hand, and what was asked to run beside everything else."""

    def __init__(self) -> None:
        self.time = 0.0
        self.walks: list[Walk] = []
        self.failures: list[Exception] = []
        """What nobody has caught."""
        self._spawned: list[Coroutine[Any, Any, None]] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._spawned.append(work)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (self.time + seconds, next(self._numbers), callback))

    def now(self) -> float:
        return self.time

    def turn(self) -> None:
        """Run everything that does not wait for a gate."""
        while self._spawned:
            spawned, self._spawned = self._spawned, []
            self.walks += map(Walk, spawned)
        for walk in self.walks:
            if not walk.is_done:
                walk.go_on()
        self.failures += [walk.error for walk in self.walks if walk.is_done and walk.error is not None]
        self.walks = [walk for walk in self.walks if not walk.is_done]

    def wind(self, seconds: float) -> None:
        until = self.time + seconds
        while self._timers and self._timers[0][0] <= until:
            self.time, _, callback = heapq.heappop(self._timers)
            callback()
            self.turn()
        self.time = until
        self.turn()


class ScriptedBroker(MemoryBroker):
    """The memory broker with gates before and after its waits, and a bus that can be muted."""

    answers_at_once = False

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.gates: defaultdict[str, Gate] = defaultdict(Gate)
        self.subscribed: set[str] = set()
        self.is_mute = False
        self.undelivered: list[tuple[str, Publication]] = []
        self.publish_fails_with: Exception | None = None
        self.read_fails_with: Exception | None = None

    def start(self, listener: Listener) -> None:
        super().start(listener)
        self.deliver, self.missed = listener.deliver, listener.missed
        self._deliver = self._carry

    def _carry(self, room: str, publication: Publication) -> None:
        if self.is_mute:
            self.undelivered.append((room, publication))
        else:
            self.deliver(room, publication)

    async def publish(self, room: str, data: bytes, **options: Any) -> Position | None:
        if self.publish_fails_with is not None:
            raise self.publish_fails_with
        return await super().publish(room, data, **options)

    async def subscribe(self, room: str) -> None:
        await super().subscribe(room)
        self.subscribed.add(room)
        await self.gates["subscribe"]

    async def unsubscribe(self, room: str) -> None:
        await super().unsubscribe(room)
        self.subscribed.discard(room)

    async def read(self, room: str, history: History, *, since: Position | None = None, limit: int) -> Stream:
        if self.read_fails_with is not None:
            raise self.read_fails_with
        page = await super().read(room, history, since=since, limit=limit)
        await self.gates["read"]
        return page

    async def tell_nodes(self, message: bytes) -> None:
        await self.gates["tell_nodes"]
        await super().tell_nodes(message)

    def lose(self) -> None:
        """Carry again from now on; what was held back never comes."""
        self.undelivered.clear()
        self.is_mute = False

    def speak(self) -> None:
        """Deliver what was held back, and everything from now on."""
        self.is_mute = False
        undelivered, self.undelivered = self.undelivered, []
        for room, publication in undelivered:
            self.deliver(room, publication)


@dataclass
class FakeRules:
    """A room that is open unless a test says otherwise, and tells in `told` what it was told."""

    history: History | None = None
    presence: bool = False
    delta: bool = False
    is_open: bool = True
    may_publish: bool = True
    change: Callable[[Any, Any], Any] | None = None
    told: list[tuple[str, Any]] = field(default_factory=list)
    gates: defaultdict[str, Gate] = field(default_factory=lambda: defaultdict(Gate))
    hooks_fail_with: Exception | None = None
    calls: dict[str, Any] = field(default_factory=dict)

    @property
    def changes_messages(self) -> bool:
        return self.change is not None

    async def can_join(self, user: object) -> bool:
        await self.gates["can_join"]
        return self.is_open

    async def can_publish(self, user: object) -> bool:
        await self.gates["can_publish"]
        return self.may_publish

    async def on_publish(self, user: object, message: object) -> object:
        assert self.change is not None
        return self.change(user, message)

    async def on_join(self, user: object) -> None:
        await self._tell("on_join", user)

    async def on_leave(self, user: object) -> None:
        await self._tell("on_leave", user)

    async def call(self, user: object, method: str, arguments: bytes) -> bytes:
        return await called(self.calls, user, method, arguments)

    async def _tell(self, hook: str, user: object) -> None:
        await self.gates[hook]
        self.told.append((hook, user))
        if self.hooks_fail_with is not None:
            raise self.hooks_fail_with


class FakeApplication:
    """Rooms by name; a user is his own name."""

    def __init__(self, rooms: dict[str, FakeRules]) -> None:
        self.rooms = rooms
        self.tokens: dict[str, Identity | Grant | Exception] = {}
        self.calls: dict[str, Any] = {}
        self.gates: defaultdict[str, Gate] = defaultdict(Gate)

    def rules(self, room: str) -> FakeRules:
        if room not in self.rooms:
            raise UnknownRoom(f"no room {room!r}")
        return self.rooms[room]

    async def identify(self, visitor: object, token: str) -> Identity:
        await self.gates["identify"]
        if token not in self.tokens:
            return identity_of(str(visitor or ""))
        granted = self.tokens[token]
        if isinstance(granted, Exception):
            raise granted
        assert isinstance(granted, Identity)
        return granted

    async def grant(self, token: str, *, room: str, user_id: str, client: str) -> Grant:
        await self.gates["grant"]
        granted = self.tokens[token]
        if isinstance(granted, Exception):
            raise granted
        assert isinstance(granted, Grant)
        return granted

    async def call(self, user: object, method: str, arguments: bytes) -> bytes:
        return await called(self.calls, user, method, arguments)


async def called(calls: dict[str, Any], user: object, method: str, arguments: bytes) -> bytes:
    if method not in calls:
        raise MethodNotFound()
    return await calls[method](user, arguments)


def identity_of(name: str) -> Identity:
    return Identity(user=name, id=f"id-of-{name}" if name else "", name=name)


class Peer:
    """One connection, its transport, and its way from joining to live."""

    def __init__(self, connection: PlainConnection, join: Join) -> None:
        self.connection = connection
        self.transport = FakeTransport()
        self.joining = Walk(self._arrive(join))

    async def _arrive(self, join: Join) -> None:
        await self.connection.join(join)
        await self.connection.go_live(self.transport)

    def says(self, payload: str | bytes) -> None:
        run(self.connection.receive(payload))

    @property
    def received(self) -> list[dict[str, Any]]:
        return [json.loads(frame.payload) for frame in self.transport.frames]

    @property
    def messages(self) -> list[Any]:
        return [frame["payload"]["message"] for frame in self.received if "payload" in frame]

    @property
    def errors(self) -> list[int]:
        return [frame["error"]["code"] for frame in self.received if "error" in frame]

    @property
    def presence(self) -> list[dict[str, Any]]:
        return [frame["presence"] for frame in self.received if "presence" in frame]


class SdkPeer:
    """One connection of the SDK protocol, in JSON. Its frames are handled one after the other, as transports do."""

    def __init__(self, connection: SdkConnection) -> None:
        self.connection = connection
        self.transport = FakeTransport()
        self._ids = count(1)
        self._unhandled: deque[str | bytes] = deque()
        self._handling: Walk | None = None
        run(connection.go_live(self.transport))

    def says(self, *commands: dict[str, Any]) -> None:
        """Send commands in one frame."""
        self.sends("\n".join(map(json.dumps, commands)))

    def sends(self, payload: str | bytes) -> None:
        self._unhandled.append(payload)
        if self.is_idle:
            self._handling = Walk(self._handle())

    async def _handle(self) -> None:
        while self._unhandled:
            await self.connection.receive(self._unhandled.popleft())

    @property
    def is_idle(self) -> bool:
        return self._handling is None or self._handling.is_done

    def goes_on(self) -> None:
        if self._handling is not None and not self._handling.is_done:
            self._handling.go_on()

    def cancels(self) -> None:
        """Handle nothing more: the transport is gone."""
        if self._handling is not None and not self._handling.is_done:
            self._handling.cancel()

    def begins(self, **request: Any) -> int:
        """Send a command, as in begins(publish={...}), and return its id."""
        command_id = next(self._ids)
        self.says({"id": command_id, **request})
        return command_id

    def asks(self, **request: Any) -> dict[str, Any]:
        """Send a command and return the reply to it."""
        return self.reply(self.begins(**request))

    def reply(self, command_id: int) -> dict[str, Any]:
        (reply,) = (each for each in self.received if each.get("id") == command_id)
        return {name: value for name, value in reply.items() if name != "id"}

    def connects(self, token: str = "", **wishes: Any) -> dict[str, Any]:
        result: dict[str, Any] = self.asks(connect=({"token": token} if token else {}) | wishes)["connect"]
        return result

    def joins(self, room: str = "room", **wishes: Any) -> dict[str, Any]:
        result: dict[str, Any] = self.asks(subscribe={"channel": room, **wishes})["subscribe"]
        return result

    def fails(self, **request: Any) -> int:
        """Send a command and return the code of the error that answers it."""
        code: int = self.asks(**request)["error"]["code"]
        return code

    def leaves(self, *, is_lost: bool = False) -> None:
        self.connection.closed(is_lost=is_lost)

    @property
    def client(self) -> str:
        return self.connection.client

    @property
    def received(self) -> list[dict[str, Any]]:
        lines = [line for frame in self.transport.frames for line in frame.payload.split(b"\n")]
        return [json.loads(line) for line in lines]

    @property
    def pushes(self) -> list[dict[str, Any]]:
        return [reply["push"] for reply in self.received if "push" in reply]

    @property
    def messages(self) -> list[Any]:
        """The data of all publications, those in replies included, in the order in which they came."""
        return [publication["data"] for publication in self.publications]

    @property
    def publications(self) -> list[dict[str, Any]]:
        publications = []
        for reply in self.received:
            publications += reply.get("subscribe", {}).get("publications", [])
            for result in reply.get("connect", {}).get("subs", {}).values():
                publications += result.get("publications", [])
            if "pub" in reply.get("push", {}):
                publications.append(reply["push"]["pub"])
        return publications

    @property
    def closes(self) -> list[int]:
        return [close.code for close in self.transport.closes]

    def pushed(self, kind: str) -> list[Any]:
        """What was pushed of a kind, as in pushed("unsubscribe")."""
        return [push[kind] for push in self.pushes if kind in push]


class Town:
    """What the brokers of several nodes share: who is present where, and who is lost. A client is on one node only."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.nodes: list[TownPresence] = []
        self.members: defaultdict[str, dict[str, tuple[TownPresence, Member]]] = defaultdict(dict)
        self.lost = LocalPresence(clock, ())

    def tell(self, room: str, change: PresenceChanged) -> None:
        for node in self.nodes:
            if room in node.subscribed:
                node.listener.presence_changed(room, change)


class TownPresence:
    """One node's way to a `Town`, a `PresenceStore`."""

    def __init__(self, town: Town, subscribed: set[str]) -> None:
        self.town = town
        self.subscribed = subscribed
        self.listener: Any = None
        town.nodes.append(self)

    async def come(self, room: str, members: Sequence[Member]) -> None:
        here = self.town.members[room]
        new = tuple(member for member in members if member.client not in here)
        here.update({member.client: (self, member) for member in members})
        if new:
            self.town.tell(room, PresenceChanged(joined=new))

    async def go(self, room: str, clients: Collection[str]) -> None:
        here = self.town.members[room]
        left = tuple(here.pop(client)[1] for client in clients if client in here and here[client][0] is self)
        if left:
            self.town.tell(room, PresenceChanged(left=left))

    async def renew(self, rooms: Sequence[str], *, seconds: float = 0) -> list[str]:
        return []

    async def present(self, room: str) -> list[Member]:
        return [member for _, member in self.town.members[room].values()]

    async def count(self, room: str) -> Counts:
        members = await self.present(room)
        return Counts(len(members), len({member.user for member in members}))

    async def lose(self, user: str, client: str, *, seconds: float) -> None:
        await self.town.lost.lose(user, client, seconds=seconds)

    async def reclaim(self, user: str) -> str:
        return await self.town.lost.reclaim(user)


class House:
    """A node with its broker, application and runtime; `room` is kept, `passing` is not.

    Houses of one `town` know who is present in the others, and have one clock; publications do not travel.
    """

    def __init__(self, *, town: Town | None = None, runtime: WoundRuntime | None = None, **options: Any) -> None:
        self.rules = FakeRules(history=History(size=1000))
        self.passing = FakeRules()
        self.runtime = runtime or WoundRuntime()
        self.broker = ScriptedBroker(self.runtime.now)
        self.application = FakeApplication({"room": self.rules, "passing": self.passing})
        if town is not None:
            self.broker.presence = presence = TownPresence(town, self.broker.subscribed)
        self.node = Node(self.broker, self.application, self.runtime, **options)
        if town is not None:
            presence.listener = self.node
        run(self.node.begin())

    def sdk_newcomer(self, user: str = "", *, codec: Codec = SDK_JSON, pings: bool = True) -> SdkPeer:
        """Let a peer of the SDK protocol come in; it has not said anything yet."""
        return SdkPeer(self.node.connect_sdk(codec, user, pings=pings))

    def sdk_peer(self, user: str = "", *rooms: str, pings: bool = True, **wishes: Any) -> SdkPeer:
        """Let one come in, connect, and join `rooms`."""
        peer = self.sdk_newcomer(user, pings=pings)
        peer.connects()
        for room in rooms:
            peer.joins(room, **wishes)
        return peer

    def orders(self, order: orders.Order) -> None:
        """Have all nodes do something, and let them."""
        run(self.node.order(order))
        self.runtime.turn()

    def newcomer(self, room: str = "room", *, user: str = "", codec: Codec = PLAIN, **wishes: Any) -> Peer:
        """Let a peer come in, as far as it gets."""
        return Peer(self.node.connect(codec, identity_of(user)), Join(room, **wishes))

    def member(self, room: str = "room", *, user: str = "", codec: Codec = PLAIN, **wishes: Any) -> Peer:
        peer = self.newcomer(room, user=user, codec=codec, **wishes)
        peer.joining.result()
        return peer

    def publish(self, message: Any, room: str = "room", **options: Any) -> Position | None:
        position: Position | None = run(self.node.publish(room, encode_message(message), **options))
        return position

    def publish_many(self, messages: Iterator[Any] | list[Any] | range, room: str = "room") -> None:
        for message in messages:
            self.publish(message, room)

    @property
    def is_empty(self) -> bool:
        node = self.node
        return not (node.hub.rooms or node.connections or len(node.users) or self.broker.subscribed)

    def torn_down(self) -> None:
        self.runtime.turn()
        assert not self.runtime.failures
        for walk in self.runtime.walks:
            walk.cancel()
