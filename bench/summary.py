"""Every single run, kept as it was, and what they come to: medians and spreads."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench.measuring import Run


@dataclass(frozen=True)
class Spread:
    """One number of one load on one peer, over all runs."""

    median: float
    least: float
    most: float
    runs: int


@dataclass
class Results:
    """What latest.json holds."""

    machine: dict[str, Any]
    settings: dict[str, Any]
    versions: dict[str, str]
    missing: dict[str, str]
    """Peers that are not installed, and how to install them."""
    lacking: list[tuple[str, str]] = field(default_factory=list)
    """Loads and peers that have nothing of the kind."""
    runs: list[Run] = field(default_factory=list)

    def spread(self, load: str, peer: str, number: str) -> Spread | None:
        """Return median and range of one number, None if no run was good."""
        values = [
            run["result"][number]
            for run in self.runs
            if run["load"] == load and run["peer"] == peer and number in run.get("result", {})
        ]
        return Spread(median(values), min(values), max(values), len(values)) if values else None

    def value(self, load: str, peer: str, number: str) -> float | None:
        spread = self.spread(load, peer, number)
        return spread.median if spread else None

    def errors(self, load: str, peer: str) -> list[str]:
        return [run["error"] for run in self.runs if run["load"] == load and run["peer"] == peer and "error" in run]

    def peers_under(self, load: str) -> list[str]:
        return list(dict.fromkeys(run["peer"] for run in self.runs if run["load"] == load))

    def keep(self, earlier: Results) -> None:
        """Take over what was measured earlier under other loads."""
        mine = {run["load"] for run in self.runs}
        self.runs = [run for run in earlier.runs if run["load"] not in mine] + self.runs
        self.lacking = [tuple(pair) for pair in earlier.lacking if pair[0] not in mine] + self.lacking
        self.versions = earlier.versions | self.versions
        self.missing = {
            name: hint for name, hint in earlier.missing.items() if name not in self.versions
        } | self.missing
        self.settings["loads"] = list(dict.fromkeys([*earlier.settings["loads"], *self.settings["loads"]]))

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(vars(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read(path: Path) -> Results:
    return Results(**json.loads(path.read_text(encoding="utf-8")))
