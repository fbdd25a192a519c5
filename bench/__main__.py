"""`python -m bench`: measure, then write results/latest.json, latest.md and the plots."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from bench import plots, summary, table
from bench.build import program
from bench.failures import BenchError
from bench.install import install_peers
from bench.loads import BRIEF, BY_NAME, LOADS, Load
from bench.machine import described
from bench.measuring import Plan, Run, measured
from bench.peers import PEERS
from bench.servers import cores_of_this_machine

RESULTS = Path(__file__).parent / "results"
OVERHEAD_SECONDS = 2.5
"""Roughly what starting a server and connecting its members takes."""


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--full", action="store_true", help="every load on every peer; takes hours")
    parser.add_argument("--runs", type=int, default=5, help="how often each load is put on each peer (5)")
    parser.add_argument("--seconds", type=float, help="how long messages are published (1; with --full 3)")
    parser.add_argument("--only", action="append", metavar="PEER", help=f"repeatable: {', '.join(PEERS)}")
    parser.add_argument("--loads", metavar="A,B", help=f"of: {', '.join(BY_NAME)}")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for what is written (bench/results)")
    parser.add_argument(
        "--keep", action="store_true", help="keep what latest.json says of other loads, measured on this machine"
    )
    parser.add_argument(
        "--report", action="store_true", help="measure nothing, write table and plots anew from latest.json"
    )
    parser.add_argument("--install-peers", action="store_true", help="install the peers beside the bench, then end")
    chosen = parser.parse_args(words)
    for name in chosen.only or []:
        if name not in PEERS:
            parser.error(f"no peer is called {name}; there are {', '.join(PEERS)}")
    for name in (chosen.loads or "").split(",") if chosen.loads else []:
        if name not in BY_NAME:
            parser.error(f"no load is called {name}; there are {', '.join(BY_NAME)}")
    if chosen.runs < 1 or (chosen.seconds is not None and chosen.seconds <= 0):
        parser.error("--runs and --seconds are above zero")
    return chosen


def loads_of(chosen: argparse.Namespace) -> list[Load]:
    if chosen.loads:
        return [BY_NAME[name] for name in dict.fromkeys(chosen.loads.split(","))]
    return [load for load in LOADS if chosen.full or load.in_brief]


def peers_of(chosen: argparse.Namespace) -> tuple[list[str], dict[str, str]]:
    """Return who is measured, and who is missing with what to do about it."""
    wanted = [name for name in PEERS if name in (chosen.only or PEERS)]
    missing = {name: hint for name in wanted if (hint := PEERS[name].missing()) is not None}
    return [name for name in wanted if name not in missing], missing


def plan_of(chosen: argparse.Namespace, peers: list[str]) -> Plan:
    return Plan(
        loads=loads_of(chosen),
        peers=peers,
        runs=chosen.runs,
        seconds=chosen.seconds or (3.0 if chosen.full else 1.0),
        cores=cores_of_this_machine(),
        is_brief=not (chosen.full or chosen.only or chosen.loads),
    )


def take(plan: Plan, results: summary.Results, output: Path) -> None:
    """Measure, keep what there is after every step, and say how it goes."""
    turns = list(plan.turns())
    expected = sum(OVERHEAD_SECONDS + (plan.seconds if load.seconds is None else load.seconds) for _, load, _ in turns)
    print(f"{len(turns)} measurements, about {expected / 60:.0f} minutes or more", flush=True)
    began = time.monotonic()
    for number, run in enumerate(measured(plan), 1):
        results.runs.append(run)
        results.write(output / "latest.json")
        print(f"{number:4}/{len(turns)} {time.monotonic() - began:6.0f} s  {in_a_line(run)}", flush=True)


def in_a_line(run: Run) -> str:
    who = f"run {run['run']}  {run['load']:22} {run['peer']:24}"
    if "error" in run:
        return f"{who} void: {run['error'][:200]}"
    number, unit = BY_NAME[run["load"]].metric
    return f"{who} {table.figure(run['result'][number]):>8} {unit}"


def report(results: summary.Results, output: Path) -> None:
    (output / "latest.md").write_text(table.rendered(results), encoding="utf-8")
    files = plots.draw(results, output)
    print(f"Written: {output / 'latest.json'}, {output / 'latest.md'} and {len(files)} plots")
    for peer, hint in results.missing.items():
        print(f"Missing: {table.title_of(peer)}: {hint}")


def run_bench(chosen: argparse.Namespace) -> int:
    program("load")
    peers, missing = peers_of(chosen)
    plan = plan_of(chosen, peers)
    shown = [peer for peer in peers if not plan.is_brief or peer in BRIEF or peer.startswith("yamabiko")]
    results = summary.Results(
        machine=described(plan.cores),
        settings={"runs": plan.runs, "seconds": plan.seconds, "loads": [load.name for load in plan.loads]},
        versions={name: PEERS[name].version() for name in shown},
        missing={name: hint for name, hint in missing.items() if not plan.is_brief or name in BRIEF},
        lacking=plan.lacking(),
    )
    for peer, hint in results.missing.items():
        print(f"Missing: {table.title_of(peer)}: {hint}")
    earlier = summary.read(chosen.output / "latest.json") if chosen.keep else None
    try:
        take(plan, results, chosen.output)
    except KeyboardInterrupt:
        print("Stopped; what was measured until now is written.")
    if not results.runs:
        raise BenchError("nothing was measured")
    if earlier is not None:
        results.keep(earlier)
        results.write(chosen.output / "latest.json")
    report(results, chosen.output)
    return 0 if any("result" in run for run in results.runs) else 1


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(words: list[str]) -> int:
    signal.signal(signal.SIGTERM, _stop)  # servers are ended then, too
    chosen = arguments(words)
    try:
        if chosen.install_peers:
            return 0 if install_peers() else 1
        if chosen.report:
            report(summary.read(chosen.output / "latest.json"), chosen.output)
            return 0
        return run_bench(chosen)
    except FileNotFoundError as error:
        print(f"bench: {error.filename} is not there; measure first", file=sys.stderr)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
