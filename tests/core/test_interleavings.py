"""Rooms under random interleavings of joins, breaks, losses of the bus, slow reads and restarts.

Whatever happens, a client gets each epoch's messages in order, once, and without a hole that no gap frame told of; and
what was acknowledged is in history. A failure prints the steps, and a line that repeats them.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.core.fakes import House, Peer, run
from yamabiko.brokers.memory import MemoryBroker
from yamabiko.core import mending
from yamabiko.core.errors import NotAvailable
from yamabiko.core.messages import History, Position

HISTORY = History(size=8)
CLIENTS = st.integers(0, 3)


class Client:
    """Somebody who comes back with the last position, and checks everything that arrives."""

    def __init__(self) -> None:
        self.peer: Peer | None = None
        self.position: Position | None = None
        self._read = 0

    def join(self, house: House, history: int) -> None:
        self.peer = house.newcomer(since=self.position, history=0 if self.position else history)
        self._read = 0

    def leave(self, published: dict[Position, int]) -> None:
        assert self.peer is not None
        self.take(published)
        self.peer.connection.closed()
        if not self.peer.joining.is_done:
            self.peer.joining.cancel()
        self.peer = None

    def take(self, published: dict[Position, int]) -> None:
        """Check the frames that have come since the last time."""
        if self.peer is None:
            return
        for frame in self.peer.received[self._read :]:
            self._read += 1
            if "gap" in frame:
                told = Position(frame["gap"]["epoch"], frame["gap"]["offset"])
                assert self.position is None or not _goes_back(self.position, told), (self.position, told)
                self.position = told
            else:
                self._check(frame["payload"], published)

    def _check(self, payload: dict[str, Any], published: dict[Position, int]) -> None:
        position = Position(payload["epoch"], payload["offset"])
        had = self.position
        if had is not None:
            assert position == Position(had.epoch, had.offset + 1), f"{position} after {had}"
        assert published[position] == payload["message"]
        self.position = position


def _goes_back(position: Position, other: Position) -> bool:
    return other.epoch == position.epoch and other.offset < position.offset


class Interleavings(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.house = House()
        self.house.rules.history = HISTORY
        self.clients = [Client() for _ in range(4)]
        self.published: dict[Position, int] = {}
        self.acknowledged: list[Position] = []
        self.number = 0

    @property
    def read_gate(self) -> Any:
        return self.house.broker.gates["read"]

    @rule(count=st.integers(1, 4))
    def publish(self, count: int) -> None:
        for _ in range(count):
            self.number += 1
            # What is delivered before publish returns must be known, as the members check it at once.
            top = run(MemoryBroker.read(self.house.broker, "room", HISTORY, limit=0)).top
            self.published[Position(top.epoch, top.offset + 1)] = self.number
            position = self.house.publish(self.number)
            assert position == Position(top.epoch, top.offset + 1)
            self.acknowledged.append(position)

    @rule(client=CLIENTS, history=st.integers(0, 10))
    def join(self, client: int, history: int) -> None:
        if self.clients[client].peer is None:
            self.clients[client].join(self.house, history)

    @rule(client=CLIENTS)
    def leave(self, client: int) -> None:
        if self.clients[client].peer is not None:
            self.clients[client].leave(self.published)

    @rule()
    def let_reads_wait(self) -> None:
        self.read_gate.shut()

    @rule()
    def let_reads_end(self) -> None:
        self.read_gate.open()
        self.go_on()

    @rule()
    def let_reads_fail(self) -> None:
        self.house.broker.read_fails_with = NotAvailable("as asked")

    @rule()
    def let_reads_work(self) -> None:
        self.house.broker.read_fails_with = None

    @rule()
    def mute_the_bus(self) -> None:
        self.house.broker.is_mute = True

    @rule(late=st.booleans())
    def let_the_bus_speak(self, late: bool) -> None:
        """Carry again; what was muted comes late, or never."""
        if late:
            self.house.broker.speak()
        else:
            self.house.broker.lose()

    @precondition(lambda self: self.house.broker.undelivered)
    @rule(data=st.data())
    def carry_one_out_of_order(self, data: st.DataObject) -> None:
        undelivered = self.house.broker.undelivered
        room, publication = undelivered.pop(data.draw(st.integers(0, len(undelivered) - 1)))
        self.house.broker.deliver(room, publication)

    @rule()
    def restart_the_broker_with_nothing(self) -> None:
        self.house.broker._streams.clear()
        self.acknowledged.clear()
        self.house.broker.missed()

    @rule()
    def suspect_a_loss(self) -> None:
        self.house.broker.missed()

    @rule(seconds=st.sampled_from([0.1, 1.0, mending.LONGEST_PAUSE_SECONDS]))
    def wind(self, seconds: float) -> None:
        self.house.runtime.wind(seconds)
        self.go_on()

    @rule()
    def go_on(self) -> None:
        self.house.runtime.turn()
        for client in self.clients:
            if client.peer is not None and not client.peer.joining.is_done:
                client.peer.joining.go_on()
                self._notice_refusal(client)

    def _notice_refusal(self, client: Client) -> None:
        peer = client.peer
        if peer is not None and peer.joining.is_done and not peer.connection.is_open:
            client.leave(self.published)
        elif peer is not None and peer.joining.error is not None:
            assert isinstance(peer.joining.error, NotAvailable)
            peer.connection.closed()
            client.peer = None

    @invariant()
    def everybody_has_had_everything_in_order(self) -> None:
        for client in self.clients:
            self._notice_refusal(client)
            client.take(self.published)

    @invariant()
    def what_was_acknowledged_is_in_history(self) -> None:
        page = run(MemoryBroker.read(self.house.broker, "room", HISTORY, limit=HISTORY.size))
        kept = [publication.position for publication in page.publications]
        assert kept == self.acknowledged[-HISTORY.size :]

    def teardown(self) -> None:
        """When all is well again, everybody is where the room is."""
        self.house.broker.read_fails_with = None
        self.read_gate.open()
        self.house.broker.lose()
        self.publish(1)
        self.house.broker.missed()
        for _ in range(10):
            self.wind(mending.LONGEST_PAUSE_SECONDS)
        top = run(MemoryBroker.read(self.house.broker, "room", HISTORY, limit=0)).top
        for client in self.clients:
            client.take(self.published)
            if client.peer is not None and client.peer.connection.is_open:
                assert client.peer.joining.is_done
                assert client.position in (top, None)
        self.house.torn_down()


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
