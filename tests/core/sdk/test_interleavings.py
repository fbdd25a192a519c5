"""The SDK protocol under random interleavings of subscribing, leaving, losses of the bus, slow and failing reads.

Whatever happens, a client gets the messages of its room in order, once, and without a hole, from the position that the
reply named; where that cannot be it is told: by recovered:false, by an error, or by an unsubscribe it can answer. A
failure prints the steps, and a line that repeats them.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.core.fakes import House, SdkPeer, run
from yamabiko.brokers.memory import MemoryBroker
from yamabiko.core import mending, orders
from yamabiko.core.errors import NotAvailable
from yamabiko.core.messages import History, Position
from yamabiko.core.sdk.limits import SdkLimits

HISTORY = History(size=8)
CLIENTS = st.integers(0, 3)
ALLOWED_ERRORS = {100, 103, 105, 112}


class Client:
    """Somebody who comes back with the last position, as the SDKs do, and checks everything that arrives."""

    def __init__(self, number: int) -> None:
        self.user = f"u{number}"
        self.peer: SdkPeer | None = None
        self.position: Position | None = None
        self.is_subscribed = False
        self.asked: int | None = None
        self._read = 0

    def come(self, house: House) -> None:
        self.peer = house.sdk_newcomer(self.user)
        self.peer.connects()
        self._read, self.is_subscribed, self.asked = 1, False, None

    def subscribe(self, *, flag: int) -> None:
        assert self.peer is not None
        since = {}
        if self.position is not None:
            since = {"recover": True, "epoch": self.position.epoch, "offset": self.position.offset}
        self.asked = self.peer.begins(subscribe={"channel": "room", "flag": flag, **since})

    def unsubscribe(self) -> None:
        assert self.peer is not None
        self.peer.begins(unsubscribe={"channel": "room"})
        self.is_subscribed, self.asked = False, None

    def leave(self, published: dict[Position, int], *, is_lost: bool) -> None:
        assert self.peer is not None
        self.take(published)
        self.peer.leaves(is_lost=is_lost)
        self.peer.cancels()
        self.peer, self.is_subscribed = None, False

    def take_closed(self, published: dict[Position, int]) -> None:
        """Notice that the server has ended the connection: only a lost place in a room may be why."""
        if self.peer is not None and self.peer.closes:
            assert self.peer.closes == [3010]
            self.leave(published, is_lost=False)

    def take(self, published: dict[Position, int]) -> None:
        """Check what has come since the last time."""
        if self.peer is None:
            return
        news, self._read = self.peer.received[self._read :], len(self.peer.received)
        for reply in news:
            if "push" in reply:
                self._take_push(reply["push"], published)
            elif reply["id"] == self.asked:
                self.asked = None
                self._take_answer(reply, published)

    def _take_push(self, push: dict[str, Any], published: dict[Position, int]) -> None:
        if "disconnect" in push:
            self.is_subscribed = False
            return
        assert push["channel"] == "room"
        if "join" in push or "leave" in push:
            return
        if "unsubscribe" in push:
            assert push["unsubscribe"]["code"] in (2000, 2500)
            self.is_subscribed = False
        elif "subscribe" in push:
            # As SDKs do: the server says where it begins, and what it says holds.
            self.position = Position(push["subscribe"]["epoch"], push["subscribe"].get("offset", 0))
            self.is_subscribed = True
        elif self.is_subscribed:
            self._check(push["pub"], published)
        else:
            raise AssertionError(f"{push} came without a subscription")

    def _take_answer(self, reply: dict[str, Any], published: dict[Position, int]) -> None:
        if "error" in reply:
            assert reply["error"]["code"] in ALLOWED_ERRORS
            if reply["error"]["code"] == 112 and not self.is_subscribed:
                self.position = None
            return
        result = reply["subscribe"]
        answered = Position(result["epoch"], result.get("offset", 0))
        if result.get("recovered"):
            assert answered == self.position
        else:
            assert "publications" not in result
        self.position, self.is_subscribed = answered, True
        for publication in result.get("publications", []):
            self._check(publication, published)

    def _check(self, publication: dict[str, Any], published: dict[Position, int]) -> None:
        assert self.position is not None
        position = Position(self.position.epoch, self.position.offset + 1)
        assert publication["offset"] == position.offset, f"{publication} after {self.position}"
        assert published[position] == publication["data"]
        self.position = position


class Interleavings(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.house = House(sdk_limits=SdkLimits(recovered=3))
        self.house.rules.history = HISTORY
        self.house.rules.presence = True
        self.clients = [Client(number) for number in range(4)]
        self.published: dict[Position, int] = {}
        self.number = 0
        for client in range(3):
            self.subscribe(client, 0)
        self.everybody_has_had_everything_in_order()

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
            assert self.house.publish(self.number) == Position(top.epoch, top.offset + 1)

    @rule(client=CLIENTS, flag=st.sampled_from([0, 1, 2]))
    def subscribe(self, client: int, flag: int) -> None:
        one = self.clients[client]
        if one.peer is None:
            one.come(self.house)
        if one.peer is not None and one.peer.is_idle and not one.is_subscribed and one.asked is None:
            one.take(self.published)
            one.subscribe(flag=flag)

    @rule(client=CLIENTS)
    def unsubscribe(self, client: int) -> None:
        one = self.clients[client]
        if one.peer is not None and one.peer.is_idle:
            one.take(self.published)
            one.unsubscribe()

    @rule(client=CLIENTS, is_lost=st.booleans())
    def leave(self, client: int, is_lost: bool) -> None:
        if self.clients[client].peer is not None:
            self.clients[client].leave(self.published, is_lost=is_lost)

    @rule(client=CLIENTS, count=st.integers(0, 5), flag=st.sampled_from([0, 2]))
    def miss_some(self, client: int, count: int, flag: int) -> None:
        if self.clients[client].is_subscribed:
            self.leave(client, True)
            self.publish(count)
            self.subscribe(client, flag)

    @rule(client=CLIENTS, is_told=st.booleans(), is_out=st.booleans())
    def order(self, client: int, is_told: bool, is_out: bool) -> None:
        user, since = f"id-of-u{client}", self.clients[client].position if is_told else None
        if is_out:
            self.house.node.heard(orders.encode(orders.UnsubscribeUser(user=user, room="room")))
        else:
            self.house.node.heard(orders.encode(orders.SubscribeUser(user=user, room="room", since=since)))

    @rule(name=st.sampled_from(["read", "subscribe"]), is_open=st.booleans())
    def let_the_broker_wait_or_go_on(self, name: str, is_open: bool) -> None:
        self.house.broker.gates[name].is_open = is_open
        self.go_on()

    @rule(fails=st.booleans())
    def let_reads_fail_or_work(self, fails: bool) -> None:
        self.house.broker.read_fails_with = NotAvailable("as asked") if fails else None

    @rule(change=st.sampled_from(["mute", "late", "lost"]))
    def mute_the_bus_or_let_it_speak(self, change: str) -> None:
        """What was muted comes late, or never."""
        if change == "mute":
            self.house.broker.is_mute = True
        elif change == "late":
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
        self.house.broker.missed()

    @rule(seconds=st.sampled_from([0.1, 1.0, mending.LONGEST_PAUSE_SECONDS]))
    def wind(self, seconds: float) -> None:
        self.house.runtime.wind(seconds)
        self.go_on()

    @rule()
    def go_on(self) -> None:
        self.house.runtime.turn()
        for client in self.clients:
            if client.peer is not None:
                client.peer.goes_on()

    @invariant()
    def everybody_has_had_everything_in_order(self) -> None:
        for client in self.clients:
            client.take_closed(self.published)
            client.take(self.published)

    def teardown(self) -> None:
        """When all is well again, whoever is subscribed is where the room is; and when all have left nothing is."""
        self.house.broker.read_fails_with = None
        for gate in self.house.broker.gates.values():
            gate.open()
        self.house.broker.lose()
        self.publish(1)
        self.house.broker.missed()
        for _ in range(10):
            self.wind(mending.LONGEST_PAUSE_SECONDS)
        top = run(MemoryBroker.read(self.house.broker, "room", HISTORY, limit=0)).top
        self.everybody_has_had_everything_in_order()
        here = [client for client in self.clients if client.peer is not None]
        assert all(client.peer.is_idle and client.asked is None for client in here)
        assert {client.position for client in here if client.is_subscribed} <= {top}
        present = {member.client for member in run(self.house.node.present("room"))}
        assert present == {client.peer.client for client in here if client.is_subscribed}
        for client in here:
            client.leave(self.published, is_lost=False)
        self.house.runtime.wind(30)
        assert self.house.is_empty
        assert len(self.house.node._presences) == 0
        self.house.torn_down()


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(
    max_examples=250,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
