"""What Yamabiko must reach, and whether it has."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bench.peers import PEERS
from bench.summary import Results

CPU, P99 = "cpu_us_per_copy", "latency_ms_p99"
CHANNELS = [name for name in PEERS if name.startswith("channels-")]
OTHERS = [name for name in PEERS if name not in {"floor", "uwebsockets"} and not name.startswith("yamabiko")]
NCHAN_WS_SOCKET_IO = ["nchan", "ws", "socket.io"]

Measure = Callable[[Results], float | None]


@dataclass(frozen=True)
class Goal:
    load: str
    goal: str
    """Both in words."""
    measured: Measure
    most: float
    unit: str = "x"

    def verdict(self, results: Results) -> tuple[float | None, str]:
        value = self.measured(results)
        if value is None:
            return None, "not measured"
        return value, "met" if value <= self.most else "**not met**"


def ours(load: str, number: str, peer: str = "yamabiko") -> Measure:
    return lambda results: results.value(load, peer, number)


def against(load: str, number: str, peers: Iterable[str]) -> Measure:
    """Return ours as a multiple of the best of these peers."""

    def measure(results: Results) -> float | None:
        mine = results.value(load, "yamabiko", number)
        theirs = [value for peer in peers if (value := results.value(load, peer, number)) is not None]
        return mine / min(theirs) if mine is not None and theirs and min(theirs) > 0 else None

    return measure


def between(load: str, other: str, number: str) -> Measure:
    """Return our number under one load as a multiple of that under another."""

    def measure(results: Results) -> float | None:
        mine, base = results.value(load, "yamabiko", number), results.value(other, "yamabiko", number)
        return mine / base if mine is not None and base else None

    return measure


def of_peers(load: str, number: str, peer: str) -> Measure:
    """Return the number of one of our own kinds as a multiple of that in memory."""

    def measure(results: Results) -> float | None:
        mine, base = results.value(load, peer, number), results.value(load, "yamabiko", number)
        return mine / base if mine is not None and base else None

    return measure


def flatness(load: str) -> Measure:
    """Return what a connection costs when nearly all are there, as a multiple of what the first ones cost."""

    def measure(results: Results) -> float | None:
        last = results.value(load, "yamabiko", "connect_cpu_us_last_tenth")
        first = results.value(load, "yamabiko", "connect_cpu_us_first_tenth")
        return last / first if last is not None and first else None

    return measure


def deflates_once(results: Results) -> float | None:
    """Return the cost of a deflated copy as a multiple of a plain one; one deflate per member makes that 5 and more."""
    plain, deflated = results.value("plain-2000", "yamabiko", CPU), results.value("deflate-2000", "yamabiko", CPU)
    return deflated / plain if plain and deflated is not None else None


ONE, MANY = "1,000 members, 1 in flight", "1,000 members, 16 in flight"
TEN_THOUSAND = "10,000 members"
IDLE = "10,000 idle, signed-in users, one room with history"
GOALS = (
    Goal(ONE, "CPU per delivery at most 1.25 x the floor", against("fan-out-1", CPU, ["floor"]), 1.25),
    Goal(ONE, "below nchan and every peer but uWebSockets", against("fan-out-1", CPU, OTHERS), 1.0),
    Goal(MANY, "at most 1.15 x uWebSockets", against("fan-out-16", CPU, ["uwebsockets"]), 1.15),
    Goal(MANY, "at least 6 x less than nchan (at most 0.167 x)", against("fan-out-16", CPU, ["nchan"]), 1 / 6),
    Goal(
        ONE,
        "at least 60 x less than Channels at its best (at most 0.0167 x)",
        against("fan-out-1", CPU, CHANNELS),
        1 / 60,
    ),
    Goal(
        MANY,
        "at least 60 x less than Channels at its best (at most 0.0167 x)",
        against("fan-out-16", CPU, CHANNELS),
        1 / 60,
    ),
    Goal(TEN_THOUSAND, "CPU per delivery at most 1.2 x the floor", against("fan-out-10000", CPU, ["floor"]), 1.2),
    Goal(TEN_THOUSAND, "the loop is held at most 60 ms", ours("bystander", "bystander_ms_max"), 60, "ms"),
    Goal("1,000 rooms of 10, 16 in flight", "at most 2 x one room of 1,000", between("rooms", "fan-out-1", CPU), 2),
    Goal(
        "1,000 rooms of 10, 1 in flight",
        "at most 2 x one room of 1,000",
        between("rooms-of-10-1000", "fan-out-1", CPU),
        2,
    ),
    Goal(IDLE, "at most 8 KiB each", ours("idle-users-10000", "resident_kib_per_connection"), 8, "KiB"),
    Goal(IDLE, "at most 2 % of a core, pings included", ours("idle-users-10000", "idle_cpu_percent"), 2, "%"),
    Goal("connect, anonymous", "at most 450 µs of CPU", ours("connect", "connect_cpu_us"), 450, "µs"),
    Goal(
        "connect, anonymous, behind Channels' auth stack",
        "at most 450 µs of CPU",
        ours("connect", "connect_cpu_us", "yamabiko-in-channels"),
        450,
        "µs",
    ),
    Goal("connect, a signed-in user alone", "at most 1,000 µs", ours("connect-user", "connect_cpu_us"), 1000, "µs"),
    Goal("connect, 100 users together", "at most 600 µs", ours("connect-users-together", "connect_cpu_us"), 600, "µs"),
    Goal("connect, 1 to 10,000", "flat: the last 1,000 at most 1.2 x the first", flatness("connect-10000"), 1.2),
    Goal("echo, 32 in flight", "at most 12 µs per round trip", ours("echo", CPU), 12, "µs"),
    Goal("1,000 members, 50 messages/s", "p99 at most 1.6 x the floor's", against("latency", P99, ["floor"]), 1.6),
    Goal(
        "1,000 members, 50 messages/s", "p99 below nchan, ws, Socket.IO", against("latency", P99, NCHAN_WS_SOCKET_IO), 1
    ),
    Goal(
        "history of 1,000, room of 1,000",
        "at most 1.3 x a room without",
        between("fan-out-1-history", "fan-out-1", "cpu_us_per_publication"),
        1.3,
    ),
    Goal(
        "history of 1,000, one member",
        "at most 1.3 x a room without",
        between("echo-history", "echo", "cpu_us_per_publication"),
        1.3,
    ),
    Goal(
        "permessage-deflate by all 1,000",
        "one deflate per publication: at most 1.5 x not compressed",
        deflates_once,
        1.5,
    ),
    Goal(
        "1,000 members, redis://",
        "CPU per delivery at most 1.2 x in memory",
        of_peers("brokers-fan-out", CPU, "yamabiko-redis"),
        1.2,
    ),
    Goal("1 % of 1,000 do not read", "p99 of the others at most 1.5 x", between("stalled", "steady", P99), 1.5),
)
