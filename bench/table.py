"""latest.md: every load as a table, then the goals, then what is missing."""

from __future__ import annotations

from collections.abc import Iterator

from bench.goals import GOALS
from bench.loads import LOADS, Load
from bench.machine import in_a_sentence
from bench.peers import PEERS
from bench.summary import Results

ALSO: dict[str, tuple[tuple[str, str], ...]] = {
    "cpu_us_per_copy": (("latency_ms_p99", "p99 ms"), ("own_cpu_us_per_copy", "the load's own µs")),
    "cpu_us_per_publication": (("latency_ms_p99", "p99 ms"),),
    "connect_cpu_us": (("connect_cpu_us_first_tenth", "first tenth"), ("connect_cpu_us_last_tenth", "last tenth")),
    "resident_kib_per_connection": (("idle_cpu_percent", "idle CPU %"), ("pings", "pings answered")),
    "latency_ms_p99": (("latency_ms_p50", "p50"), ("latency_ms_max", "max"), ("cpu_percent", "CPU %")),
    "bystander_ms_max": (
        ("bystander_ms_p50", "p50"),
        ("bystander_ms_p99", "p99"),
        ("latency_ms_p99", "p99 of the 10,000"),
    ),
}
"""Beside the number that counts: what else of a run is worth a column."""


def rendered(results: Results) -> str:
    return (
        "\n".join([*_head(results), *_loads(results), *_goals(results), *_missing(results), *_versions(results)]) + "\n"
    )


def figure(value: float | None) -> str:
    """Write a number with three digits that count."""
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.3g}"


def times(value: float | None, base: float | None) -> str:
    return f"{figure(value / base)} x" if value is not None and base is not None and base > 0 else "-"


def title_of(peer: str) -> str:
    return PEERS[peer].title if peer in PEERS else peer


def _head(results: Results) -> Iterator[str]:
    yield "# Measured"
    yield ""
    yield f"{in_a_sentence(results.machine)}."
    yield ""
    runs, seconds = results.settings["runs"], results.settings["seconds"]
    yield f"Medians of {runs} runs, {seconds} s each where a load does not say otherwise; the peers were taken in turn,"
    yield "each run on a fresh server. Every copy was counted; a run with a lost, doubled or disordered one is void."
    yield "Made by `python -m bench`."
    yield ""


def _loads(results: Results) -> Iterator[str]:
    for load in LOADS:
        if peers := results.peers_under(load.name):
            yield from _load(results, load, sorted(peers, key=list(PEERS).index))


def _load(results: Results, load: Load, peers: list[str]) -> Iterator[str]:
    number, unit = load.metric
    columns = ["", "median", "least - most", "to the floor", "to Yamabiko", *(title for _, title in ALSO[number])]
    floor, yamabiko = (results.value(load.name, peer, number) for peer in ("floor", "yamabiko"))
    yield f"## {load.title[0].upper()}{load.title[1:]}"
    yield ""
    runs = max((spread.runs for peer in peers if (spread := results.spread(load.name, peer, number))), default=0)
    yield f"`{load.name}`: {unit}" + (f"; {runs} runs" if runs not in (0, results.settings["runs"]) else "")
    yield ""
    yield _row(columns)
    yield _row(["---", *["---:"] * (len(columns) - 1)])
    for peer in peers:
        yield _row([title_of(peer), *_cells(results, load, peer, floor, yamabiko)])
    yield ""


def _cells(results: Results, load: Load, peer: str, floor: float | None, yamabiko: float | None) -> list[str]:
    number = load.metric[0]
    spread = results.spread(load.name, peer, number)
    if spread is None:
        return [f"void: {results.errors(load.name, peer)[0]}".replace("|", "/").replace("\n", " ")[:200]]
    also = [figure(results.value(load.name, peer, other)) for other, _ in ALSO[number]]
    void = len(results.errors(load.name, peer))
    spread_of = f"{figure(spread.least)} - {figure(spread.most)}" + (f", {void} void" if void else "")
    ratios = [times(spread.median, floor), times(spread.median, yamabiko)]
    return [figure(spread.median), spread_of, *ratios, *also]


def _goals(results: Results) -> Iterator[str]:
    yield "## Goals"
    yield ""
    yield _row(["load", "goal", "measured", "verdict"])
    yield _row(["---", "---", "---:", "---"])
    for goal in GOALS:
        value, verdict = goal.verdict(results)
        yield _row([goal.load, goal.goal, f"{figure(value)} {goal.unit}" if value is not None else "-", verdict])
    yield ""


def _missing(results: Results) -> Iterator[str]:
    if results.missing:
        yield "## Not installed, therefore not measured"
        yield ""
        yield from (f"- {title_of(peer)}: {hint}" for peer, hint in results.missing.items())
        yield ""
    if results.lacking:
        yield "## Nothing of this kind to measure"
        yield ""
        yield from (f"- {title_of(peer)} under `{load}`" for load, peer in results.lacking)
        yield ""


def _versions(results: Results) -> Iterator[str]:
    yield "## Versions"
    yield ""
    yield from (f"- {title_of(peer)}: {version}" for peer, version in results.versions.items())


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
