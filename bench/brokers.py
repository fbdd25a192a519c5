"""`python -m bench.brokers`: what the brokers do, measured apart from fan-out: publishing, keeping, resuming.

Writes results/brokers.json and brokers.md. Server and load have a core each; what is compared takes turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench.machine import described, in_a_sentence
from bench.peers.peer import HISTORY, PROGRAMS, ROOT, Place
from bench.peers.redis import redis
from bench.peers.yamabiko_site import ON_REDIS, ON_SQLITE, PEER
from bench.servers import _process, cores_of_this_machine, free_port, prepared, running
from bench.table import figure
from yamabiko.brokers.memory import MemoryBroker
from yamabiko.brokers.nobody import Nobody
from yamabiko.core.messages import History

RESULTS = Path(__file__).parent / "results"
MESSAGE = b'"' + b"x" * 98 + b'"'
KEPT = History(size=1000)
OUR_PEERS = (PEER, ON_SQLITE, ON_REDIS)
PUBLISHERS = 64
Publish = Callable[[], Awaitable[object]]


# Publishing through Redis


@asynccontextmanager
async def our_redis(url: str) -> AsyncIterator[Publish]:
    from yamabiko.brokers.redis import RedisBroker

    broker = RedisBroker.from_url(url)
    broker.start(Nobody())
    await broker.subscribe("room")
    yield lambda: broker.publish("room", MESSAGE, history=KEPT)
    await broker.close()


@asynccontextmanager
async def channel_layer(kind: str, url: str) -> AsyncIterator[Publish]:
    from channels_redis.core import RedisChannelLayer
    from channels_redis.pubsub import RedisPubSubChannelLayer

    layer_class = {"redis": RedisChannelLayer, "pubsub": RedisPubSubChannelLayer}[kind]
    layer: Any = layer_class(hosts=[url], capacity=1_000_000)
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    event = {"type": "send_message", "message": MESSAGE.decode()}
    yield lambda: layer.group_send("room", event)
    await (layer.close_pools() if kind == "redis" else layer.flush())


REDIS_WAYS: dict[str, Callable[[str], Any]] = {
    "Yamabiko, redis://": our_redis,
    "channels_redis, RedisChannelLayer": lambda url: channel_layer("redis", url),
    "channels_redis, RedisPubSubChannelLayer": lambda url: channel_layer("pubsub", url),
}


async def publishes_per_second(way: Any, seconds: float) -> float:
    """Let 64 publishers each publish, wait, and publish again; return how many they come to in a second."""
    async with way as publish:
        end = time.perf_counter() + seconds

        async def go_on() -> int:
            count = 0
            while time.perf_counter() < end:
                await publish()
                count += 1
            return count

        begin = time.perf_counter()
        counts = await asyncio.gather(*(go_on() for _ in range(PUBLISHERS)))
        return sum(counts) / (time.perf_counter() - begin)


def through_redis(runs: int, seconds: float) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in REDIS_WAYS}
    with tempfile.TemporaryDirectory() as folder:
        place = Place(port=0, helper_port=free_port(), folder=Path(folder), kind=HISTORY)
        cores = cores_of_this_machine()
        with _process(redis(place), {}, place.helper_port, cores.load, Path(folder) / "redis.log"):
            if cores.server is not None:
                os.sched_setaffinity(0, {cores.server})
            for _ in range(runs):
                for name, way in REDIS_WAYS.items():
                    url = f"redis://127.0.0.1:{place.helper_port}/0"
                    found[name].append(asyncio.run(publishes_per_second(way(url), seconds)))
    return found


# Keeping


def memory_of_history() -> dict[str, float]:
    """Return what a kept message takes in memory, in bytes, over 100 full rooms."""
    broker, rooms = MemoryBroker(), 100

    async def fill() -> None:
        for number in range(rooms * KEPT.size):
            data = b'"%0*d"' % (len(MESSAGE) - 2, number)
            await broker.publish(f"room{number % rooms}", data, history=KEPT, user="alice")

    tracemalloc.start()
    asyncio.run(fill())
    taken = tracemalloc.get_traced_memory()[0] / (rooms * KEPT.size)
    tracemalloc.stop()
    return {"message_bytes": len(MESSAGE), "bytes_each": taken, "goal_bytes": 1.5 * len(MESSAGE) + 200}


# Resuming


def resuming(clients: int, missed: int) -> dict[str, dict[str, Any]]:
    return {peer.title: resumed(peer, clients, missed) for peer in OUR_PEERS}


def resumed(peer: Any, clients: int, missed: int) -> dict[str, Any]:
    return asked(peer, "resume.py", lambda pid: ["--clients", str(clients), "--missed", str(missed)])


def acknowledged(runs: int, seconds: float) -> dict[str, list[dict[str, float]]]:
    """Let 64 clients of one room each publish and wait for the acknowledgement, on each broker in turn."""
    found: dict[str, list[dict[str, float]]] = {peer.title: [] for peer in OUR_PEERS}
    for _ in range(runs):
        for peer in OUR_PEERS:
            options = ["--clients", str(PUBLISHERS), "--seconds", str(seconds)]
            found[peer.title].append(asked(peer, "acknowledged.py", partial(with_pid, options)))
    return found


def with_pid(options: list[str], pid: int) -> list[str]:
    return ["--pid", str(pid), *options]


def asked(peer: Any, program: str, options_for: Callable[[int], list[str]]) -> dict[str, Any]:
    """Run a program of the load against a fresh server; return what it prints."""
    cores = cores_of_this_machine()
    with new_place() as place, running(peer, place, cores) as pid:
        done = subprocess.run(
            [sys.executable, str(PROGRAMS / program), "--port", str(place.port), *options_for(pid)],
            cwd=ROOT,
            preexec_fn=prepared(cores.load),
            capture_output=True,
            text=True,
            timeout=180,
            check=True,
        )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@contextmanager
def new_place() -> Any:
    with tempfile.TemporaryDirectory(prefix="bench-server-") as folder:
        yield Place(port=free_port(), helper_port=free_port(), folder=Path(folder), kind=HISTORY)


# Report


def rendered(results: dict[str, Any]) -> str:
    lines = [
        "# Brokers, measured",
        "",
        f"{in_a_sentence(results['machine'])}.",
        "Made by `python -m bench.brokers`.",
        "",
    ]
    lines += ["## Publishes per second, 64 publishers that each wait", "", "| | median | least - most | |"]
    lines += ["| --- | ---: | ---: | ---: |"]
    base = median(results["through_redis"]["Yamabiko, redis://"])
    for name, values in results["through_redis"].items():
        spread = f"{figure(min(values))} - {figure(max(values))}"
        lines.append(f"| {name} | {figure(median(values))} | {spread} | {figure(median(values) / base)} x |")
    lines += ["", "## Acknowledged publications per second: 64 clients of one room, each waiting", ""]
    lines += ["The goal is at least 60 % of the same in memory.", ""]
    lines += [
        "| broker | per second | to memory | server CPU µs | the load's own µs |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    per_second = {name: middle(runs, "per_second") for name, runs in results["acknowledged"].items()}
    for name, runs in results["acknowledged"].items():
        share = f"{per_second[name] / per_second[PEER.title]:.0%}"
        cells = [
            figure(per_second[name]),
            share,
            *(figure(middle(runs, key)) for key in ("server_cpu_us", "own_cpu_us")),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    kept = results["memory_of_history"]
    lines += ["", "## Memory of a kept message", ""]
    lines += [
        f"{figure(kept['bytes_each'])} bytes for a message of {kept['message_bytes']} bytes, with its position; "
        f"the goal is at most {figure(kept['goal_bytes'])}.",
        "",
        "## Everybody comes back at once",
        "",
        "| broker | clients | missed by each | seconds until all are live | a bystander's p99 ms | its most | before |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, found in results["resuming"].items():
        cells = [found["clients"], found["missed"], *(figure(found[key]) for key in RESUME_KEYS)]
        lines.append(f"| {name} | {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def middle(runs: list[dict[str, float]], key: str) -> float:
    return median(run[key] for run in runs)


RESUME_KEYS = ("seconds", "bystander_ms_p99", "bystander_ms_max", "bystander_quiet_ms_p99")


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.brokers", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--clients", type=int, default=5000)
    parser.add_argument("--missed", type=int, default=100)
    parser.add_argument("--output", type=Path, default=RESULTS)
    chosen = parser.parse_args(words)
    results = {
        "machine": described(cores_of_this_machine()),
        "memory_of_history": memory_of_history(),
        "acknowledged": acknowledged(chosen.runs, chosen.seconds),
        "resuming": resuming(chosen.clients, chosen.missed),
        "through_redis": through_redis(chosen.runs, chosen.seconds),
    }
    chosen.output.mkdir(parents=True, exist_ok=True)
    (chosen.output / "brokers.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (chosen.output / "brokers.md").write_text(rendered(results), encoding="utf-8")
    print(rendered(results))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
