"""The loads: what is put on a server, and which number of the answer counts."""

from __future__ import annotations

from dataclasses import dataclass

from bench.peers.peer import DEFLATE, HISTORY, PLAIN, USERS, USERS_HISTORY

COPY = ("cpu_us_per_copy", "µs of server CPU per delivered copy")
PUBLICATION = ("cpu_us_per_publication", "µs of server CPU per publication")
CONNECT = ("connect_cpu_us", "µs of server CPU per connection")
MEMORY = ("resident_kib_per_connection", "KiB of resident memory per connection")
LATENCY = ("latency_ms_p99", "ms from publishing to the last copy, p99")
HELD = ("bystander_ms_max", "ms that somebody in another room waits at most")

LEADERS = ("floor", "yamabiko", "uwebsockets", "nchan", "ws")
BEST_CHANNELS = "channels-memory-uvicorn"
BRIEF = (*LEADERS, BEST_CHANNELS)
SITES = ("yamabiko", "yamabiko-in-channels", BEST_CHANNELS)
OURS = ("yamabiko",)
OTHER_BROKERS = ("yamabiko-sqlite", "yamabiko-redis")
BY_SDK = ("floor", "yamabiko", "yamabiko-sdk")
ONLY_WHERE_NAMED = {*OTHER_BROKERS, "yamabiko-sdk"}
"""Measured only where a load names them."""
ALL = ()


@dataclass(frozen=True, kw_only=True)
class Load:
    name: str
    title: str
    metric: tuple[str, str]
    options: str
    """Of the load program, without the time."""
    kind: str = PLAIN
    peers: tuple[str, ...] = ALL
    """Who is measured; empty for everybody."""
    in_brief: bool = False
    """Whether it belongs to the few minutes of `python -m bench`, with the peers of BRIEF at most."""
    seconds: float | None = None
    """How long messages are published: None for as --seconds says, 0 for not at all."""


LOADS = (
    Load(
        name="fan-out-1", title="1,000 members of one room, 1 message in flight", metric=COPY, in_brief=True,
        options="--members 1000 --in-flight 1",
    ),
    Load(
        name="fan-out-16", title="1,000 members of one room, 16 messages in flight", metric=COPY, in_brief=True,
        options="--members 1000 --in-flight 16",
    ),
    Load(
        name="rooms", title="1,000 rooms of 10 members, in turn, 16 messages in flight", metric=COPY, in_brief=True,
        options="--members 10000 --rooms 1000 --in-flight 16", peers=LEADERS,
    ),
    Load(
        name="echo", title="one connection and its own copies, 32 in flight", metric=COPY, in_brief=True,
        options="--members 1 --in-flight 32",
    ),
    Load(
        name="latency", title="1,000 members, 50 messages/s", metric=LATENCY, in_brief=True, seconds=3,
        options="--members 1000 --rate 50 --in-flight 16",
    ),
    Load(
        name="connect", title="1,000 anonymous connections, one after the other", metric=CONNECT, in_brief=True,
        options="--members 1000 --together 1", seconds=0,
    ),
    Load(
        name="connect-user", title="1,000 signed-in users from the database, one after the other", metric=CONNECT,
        options="--members 1000 --together 1", kind=USERS, peers=SITES, in_brief=True, seconds=0,
    ),
    Load(
        name="connect-users-together", title="1,000 signed-in users, 100 at once", metric=CONNECT, in_brief=True,
        options="--members 1000 --together 100", kind=USERS, peers=SITES, seconds=0,
    ),
    Load(
        name="connect-10000", title="10,000 anonymous connections, one after the other", metric=CONNECT, seconds=0,
        options="--members 10000 --together 1", peers=(*LEADERS, "yamabiko-in-channels"),
    ),
    Load(
        name="idle-1000", title="1,000 idle connections", metric=MEMORY, in_brief=True, seconds=0,
        options="--members 1000 --settle 1 --idle 1",
    ),
    Load(
        name="idle-users-10000", title="10,000 idle signed-in users in a room with history", metric=MEMORY, seconds=0,
        options="--members 10000 --settle 2 --idle 25", kind=USERS_HISTORY, peers=SITES[:2],
    ),
    Load(
        name="idle-10000", title="10,000 idle connections", metric=MEMORY, seconds=0,
        options="--members 10000 --settle 2 --idle 25", peers=LEADERS,
    ),
    Load(
        name="fan-out-10000", title="10,000 members of one room, 1 message in flight", metric=COPY,
        options="--members 10000 --in-flight 1", peers=LEADERS,
    ),
    Load(
        name="bystander", title="somebody in another room, while 10,000 get a message 5 times a second", metric=HELD,
        options="--members 10000 --rate 5 --in-flight 16 --bystander 500", peers=LEADERS, seconds=4,
    ),
    Load(
        name="steady", title="1,000 members, 100 messages/s of 4,000 bytes, all reading", metric=LATENCY, seconds=5,
        options="--members 1000 --rate 100 --in-flight 16 --size 4000", peers=LEADERS,
    ),
    Load(
        name="stalled", title="the same, 1 % of the members never read", metric=LATENCY, seconds=5,
        options="--members 1000 --rate 100 --in-flight 16 --size 4000 --stalled 1", peers=LEADERS,
    ),
    Load(
        name="fan-out-1-history", title="1,000 members of a room that keeps 1,000 messages, 1 in flight",
        metric=PUBLICATION,
        options="--members 1000 --in-flight 1", kind=HISTORY, peers=OURS,
    ),
    Load(
        name="echo-history", title="one connection and its own copies in a room with history, 32 in flight",
        metric=PUBLICATION, options="--members 1 --in-flight 32", kind=HISTORY, peers=OURS, in_brief=True,
    ),
    Load(
        name="brokers-fan-out", title="1,000 members of a room with history on each broker, 1 message in flight",
        metric=COPY, options="--members 1000 --in-flight 1", kind=HISTORY, peers=(*OURS, *OTHER_BROKERS),
    ),
    Load(
        name="sdk-fan-out-1", title="1,000 members by the SDK protocol, 1 message in flight", metric=COPY,
        options="--members 1000 --in-flight 1", peers=BY_SDK,
    ),
    Load(
        name="sdk-fan-out-16", title="1,000 members by the SDK protocol, 16 messages in flight", metric=COPY,
        options="--members 1000 --in-flight 16", peers=BY_SDK,
    ),
    Load(
        name="sdk-echo", title="one connection and its own copies by the SDK protocol, 32 in flight", metric=COPY,
        options="--members 1 --in-flight 32", peers=BY_SDK,
    ),
    Load(
        name="sdk-connect", title="1,000 anonymous connections by the SDK protocol, one after the other",
        metric=CONNECT, options="--members 1000 --together 1", peers=BY_SDK[1:], seconds=0,
    ),
    Load(
        name="sdk-idle-1000", title="1,000 idle connections by the SDK protocol", metric=MEMORY, seconds=0,
        options="--members 1000 --settle 1 --idle 1", peers=BY_SDK[1:],
    ),
    Load(
        name="plain-2000", title="1,000 members, messages of 2,000 bytes, not compressed", metric=COPY,
        options="--members 1000 --in-flight 1 --size 2000",
        peers=("yamabiko", "uwebsockets", "nchan", "ws", "websockets", "socket.io", "python-socketio"),
    ),
    Load(
        name="deflate-2000", title="the same with permessage-deflate", metric=COPY, kind=DEFLATE,
        options="--members 1000 --in-flight 1 --size 2000 --deflate",
        peers=("yamabiko", "uwebsockets", "nchan", "ws", "websockets", "socket.io", "python-socketio"),
    ),
    *(
        Load(
            name=f"members-{count}", title=f"growth: {count:,} members of one room, 1 message in flight", metric=COPY,
            options=f"--members {count} --in-flight 1", peers=LEADERS,
        )
        for count in (10, 30, 100, 300, 1000, 3000, 10000)
    ),
    *(
        Load(
            name=f"rooms-of-10-{count}", title=f"growth: {count:,} rooms of 10 members, 1 message in flight",
            metric=COPY, options=f"--members {count * 10} --rooms {count} --in-flight 1", peers=LEADERS,
        )
        for count in (1, 10, 100, 1000)
    ),
)  # fmt: skip

BY_NAME = {load.name: load for load in LOADS}


def peers_of(load: Load, everybody: list[str], *, is_brief: bool) -> list[str]:
    """Return who is measured under a load, in the order of the tables."""
    wanted = set(load.peers or everybody) - (ONLY_WHERE_NAMED - set(load.peers))
    if is_brief:
        wanted &= {*BRIEF, *load.peers}
    return [name for name in everybody if name in wanted]


USERS_NEEDED = {USERS, USERS_HISTORY}
