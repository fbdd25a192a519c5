"""The bench measures in turn, and its report hides nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import plots, summary, table
from bench.build import compiler
from bench.goals import GOALS
from bench.loads import BY_NAME, LOADS, Load
from bench.measuring import Plan, measure, signed_in_users
from bench.peers import PEERS
from bench.peers.peer import USERS_HISTORY
from bench.servers import Cores, cores_of_this_machine
from tests.conftest import report_missing

ROOT = Path(__file__).parents[2]
MACHINE = {
    "when": "2026-01-01", "cpu": "a CPU", "cores": 2, "memory": "1 kB", "kernel": "Linux", "python": "CPython",
    "server_core": 0, "load_core": 1, "load_average_before": 0.1,
}  # fmt: skip


def run_of(load: str, peer: str, **result: float) -> dict[str, object]:
    return {"run": 1, "load": load, "peer": peer, "result": result}


def results_of(*runs: dict[str, object], **others: object) -> summary.Results:
    known = {"machine": MACHINE, "settings": {"runs": 5, "seconds": 1.0, "loads": []}, "versions": {}, "missing": {}}
    return summary.Results(**{**known, "runs": list(runs), **others})


def plan_of(loads: list[str], peers: list[str], runs: int = 2) -> Plan:
    return Plan([BY_NAME[name] for name in loads], peers, runs, 0.1, Cores(None, None), is_brief=False)


def test_peers_are_taken_in_turn():
    turns = [(run, peer) for run, _, peer in plan_of(["fan-out-1"], ["floor", "yamabiko"]).turns()]
    assert turns == [(1, "floor"), (1, "yamabiko"), (2, "floor"), (2, "yamabiko")]


def test_a_peer_that_failed_twice_is_not_asked_again():
    plan = plan_of(["fan-out-1"], ["floor", "yamabiko"], runs=3)
    plan.failures["fan-out-1", "floor"] = 2
    assert [peer for _, _, peer in plan.turns()] == ["yamabiko"] * 3


def test_names_of_loads_and_of_their_peers_are_known():
    assert len(BY_NAME) == len(LOADS)
    assert {peer for load in LOADS for peer in load.peers} <= set(PEERS)


def test_the_table_shows_the_median_and_its_ratios():
    costs = {"floor": [2, 2, 8], "yamabiko": [5, 1, 4]}
    runs = [run_of("fan-out-1", peer, cpu_us_per_copy=cost) for peer, values in costs.items() for cost in values]
    rendered = table.rendered(results_of(*runs))
    assert "| Yamabiko | 4.00 | 1.00 - 5.00 | 2.00 x | 1.00 x |" in rendered
    assert "| CPU per delivery at most 1.25 x the floor | 2.00 x | **not met** |" in rendered


def test_what_is_void_missing_or_lacking_is_named():
    void = {"run": 1, "load": "fan-out-1", "peer": "ws", "error": "of 12 copies: 1 lost"}
    rendered = table.rendered(
        results_of(void, missing={"nchan": "apt install it"}, lacking=[("deflate-2000", "yamabiko")])
    )
    assert "void: of 12 copies: 1 lost" in rendered
    assert "nchan (C, in nginx): apt install it" in rendered
    assert "Yamabiko under `deflate-2000`" in rendered


def test_a_goal_without_numbers_is_not_called_met():
    assert {goal.verdict(results_of())[1] for goal in GOALS} == {"not measured"}


def test_plots_are_svg_with_every_peer_in_them(tmp_path):
    runs = [run_of("fan-out-1", peer, cpu_us_per_copy=index + 1) for index, peer in enumerate(PEERS)]
    runs += [
        run_of(f"members-{count}", peer, cpu_us_per_copy=count**0.1)
        for count in (10, 100)
        for peer in ("floor", "nchan")
    ]
    files = plots.draw(results_of(*runs), tmp_path)
    assert [file.name for file in files] == ["fan-out-1.svg", "growth-members.svg"]
    for file in files:
        ElementTree.parse(file)
    bars = files[0].read_text(encoding="utf-8")
    assert all(peer.title.replace("'", "&#x27;") in bars for peer in PEERS.values())
    assert "prefers-color-scheme: dark" in bars


@pytest.mark.server
def test_the_command_measures_and_writes_json_table_and_plots(tmp_path):
    needs_compiler()
    options = ["--only", "floor", "--loads", "echo,connect", "--runs", "1", "--seconds", "0.1"]
    run = subprocess.run(
        [sys.executable, "-m", "bench", *options, "--output", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert run.returncode == 0, run.stderr
    assert summary.read(tmp_path / "latest.json").value("echo", "floor", "cpu_us_per_copy")
    assert "One connection and its own copies" in (tmp_path / "latest.md").read_text(encoding="utf-8")
    assert (tmp_path / "connect.svg").exists()


@pytest.mark.server
def test_signed_in_users_are_let_into_the_benchs_own_site(tmp_path):
    needs_compiler()
    metric = ("connect_cpu_us", "µs")
    load = Load(name="few", title="few", metric=metric, options="--members 20", kind=USERS_HISTORY, seconds=0.1)
    plan = Plan([load], ["yamabiko"], 1, 0.1, cores_of_this_machine(), is_brief=False)
    result = measure(PEERS["yamabiko"], load, plan, signed_in_users(tmp_path, 20))
    assert result["copies"] == result["published"] * 20 > 0


def needs_compiler() -> None:
    if compiler() is None:
        report_missing("needs a C compiler: apt install gcc libc6-dev zlib1g-dev")


def test_what_was_measured_earlier_is_kept_unless_it_was_measured_again():
    earlier = results_of(run_of("fan-out-1", "floor", cpu_us_per_copy=9), run_of("echo", "floor", cpu_us_per_copy=3))
    earlier.versions = {"floor": "old"}
    newer = results_of(run_of("fan-out-1", "floor", cpu_us_per_copy=2))
    newer.versions = {"floor": "new"}
    newer.keep(earlier)
    assert newer.value("fan-out-1", "floor", "cpu_us_per_copy") == 2
    assert newer.value("echo", "floor", "cpu_us_per_copy") == 3
    assert newer.versions == {"floor": "new"}


def test_a_load_that_was_put_on_less_often_says_so():
    results = results_of(run_of("fan-out-1", "floor", cpu_us_per_copy=9))
    assert "; 1 runs" in table.rendered(results)
