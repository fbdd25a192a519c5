"""One measurement after the other, the peers taken in turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.build import can_inflate, program
from bench.failures import BenchError, LoadFailed
from bench.loads import USERS_NEEDED, Load, peers_of
from bench.peers import PEERS
from bench.peers.peer import DEFLATE, ROOT, Peer, Place
from bench.servers import Cores, free_port, prepared, running

MOST_USERS = 10_000
MOST_FAILURES = 2
"""A peer that fails this often under a load is not asked again under this load."""
LOAD_SECONDS = 180.0
"""Beyond what a load is told to take, for handshakes and last copies."""
NO_USERS = Path(os.devnull)

Run = dict[str, Any]
"""run, load, peer, and either `result` (the load program's JSON) or `error`."""


@dataclass
class Plan:
    loads: list[Load]
    peers: list[str]
    runs: int
    seconds: float
    cores: Cores
    is_brief: bool
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)

    def turns(self) -> Iterator[tuple[int, Load, str]]:
        """Yield run, load and peer: run 1 of every peer before run 2 of any, under each load."""
        for run in range(1, self.runs + 1):
            for load in self.loads:
                for peer in peers_of(load, self.peers, is_brief=self.is_brief):
                    if load.kind in PEERS[peer].says and self.failures[load.name, peer] < MOST_FAILURES:
                        yield run, load, peer

    def lacking(self) -> list[tuple[str, str]]:
        """Return the loads that a peer is meant to carry but has no kind of room for."""
        return [
            (load.name, peer)
            for load in self.loads
            for peer in peers_of(load, self.peers, is_brief=self.is_brief)
            if load.kind not in PEERS[peer].says
        ]


def measured(plan: Plan) -> Iterator[Run]:
    """Take all measurements of a plan. What is void is a Run with its `error`."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        needs_users = any(load.kind in USERS_NEEDED for load in plan.loads)
        cookies = signed_in_users(folder, MOST_USERS) if needs_users else NO_USERS
        for run, load, peer in plan.turns():
            outcome: Run = {"run": run, "load": load.name, "peer": peer}
            try:
                outcome["result"] = measure(PEERS[peer], load, plan, cookies)
            except LoadFailed as error:
                plan.failures[load.name, peer] += 1
                outcome["error"] = str(error)
            yield outcome


def signed_in_users(folder: Path, count: int) -> Path:
    """Make a database of signed-in users; return the file of their cookies, which lies beside it."""
    cookies = folder / "cookies"
    environment = {**os.environ, "BENCH_DATABASE": str(database_beside(cookies))}
    command = [sys.executable, "-m", "bench.site.sign_in", str(count), str(cookies)]
    made = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    if made.returncode:
        raise BenchError(f"the bench's users cannot be made:\n{made.stderr[-2000:]}")
    return cookies


def database_beside(cookies: Path) -> Path:
    return cookies.with_name("bench.sqlite3")


def measure(peer: Peer, load: Load, plan: Plan, cookies: Path) -> dict[str, Any]:
    """Run one load on a fresh server. Raises LoadFailed."""
    if load.kind == DEFLATE and not can_inflate():
        raise LoadFailed("the load was built without zlib (Debian: apt install zlib1g-dev)")
    with _place(load, cookies) as place, running(peer, place, plan.cores) as pid:
        command = [str(program("load")), "--port", str(place.port), "--pid", str(pid)]
        command += [*load.options.split(), *peer.says[load.kind]]
        if load.kind in USERS_NEEDED:
            command += ["--cookies", str(cookies)]
        seconds = plan.seconds if load.seconds is None else load.seconds
        result = answer_of([*command, "--seconds", str(seconds)], plan.cores.load, LOAD_SECONDS + seconds)
    if load.kind == DEFLATE and result["deflated_share"] < 0.9:
        raise LoadFailed("it does not compress: permessage-deflate was offered and not used")
    return result


@contextmanager
def _place(load: Load, cookies: Path) -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="bench-server-") as name:
        yield Place(
            port=free_port(),
            helper_port=free_port(),
            folder=Path(name),
            kind=load.kind,
            database=None if cookies == NO_USERS else database_beside(cookies),
        )


def answer_of(command: list[str], core: int | None, patience_seconds: float) -> dict[str, Any]:
    """Run the load program; return what it says. Raises LoadFailed, also for lost or doubled copies."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepared(core),
        start_new_session=True,
    )
    try:
        output, complaint = process.communicate(timeout=patience_seconds)
    except subprocess.TimeoutExpired as error:
        raise LoadFailed(f"the load was not done after {patience_seconds:.0f} s") from error
    finally:
        process.kill()
        process.wait()
    if process.returncode == 3:
        raise LoadFailed(_what_went_wrong(json.loads(output)))
    if process.returncode:
        raise LoadFailed(complaint.strip()[-500:] or f"the load ended with {process.returncode}")
    answer: dict[str, Any] = json.loads(output)
    return answer


def _what_went_wrong(answer: dict[str, Any]) -> str:
    faults = [f"{answer[fault]} {fault}" for fault in ("lost", "doubled", "disordered", "misrouted") if answer[fault]]
    if answer["closed"]:
        faults.append(f"{answer['closed']} members closed with {answer['close_code']}")
    return f"of {answer.get('copies', 0):.0f} copies: {', '.join(faults)}"
