"""Plots as SVG, drawn here: bars beside the floor, and lines of how cost grows. Readable in light and in dark."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

from bench.loads import BY_NAME, LOADS
from bench.peers import PEERS
from bench.summary import Results
from bench.table import figure, times, title_of

BARS = (
    "fan-out-1", "fan-out-16", "rooms", "latency", "connect", "connect-user", "idle-1000", "fan-out-10000", "bystander",
    "stalled", "deflate-2000",
)  # fmt: skip
GROWTH = {
    "growth-members": ("members-", "members of one room"),
    "growth-rooms": ("rooms-of-10-", "rooms of 10 members"),
}
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.paper { fill: #ffffff }
.faint { fill: #59636e }
.title { font-weight: 600; font-size: 15px }
.grid { stroke: #d1d9e0 }
.line { stroke-width: 2 }
.other { fill: #8c959f; stroke: #8c959f }
.ours { fill: #0969da; stroke: #0969da }
.floor { fill: #1a7f37; stroke: #1a7f37 }
text.other, text.ours, text.floor { stroke: none }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .paper { fill: #0d1117 }
  .faint { fill: #9198a1 }
  .grid { stroke: #3d444d }
  .other { fill: #9198a1; stroke: #9198a1 }
  .ours { fill: #4493f8; stroke: #4493f8 }
  .floor { fill: #3fb950; stroke: #3fb950 }
}
"""
WIDTH, LABELS, ROW, TOP = 860, 290, 26, 62
RIGHT = 170
"""Room for the figures beside the longest bar."""
DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 4")

Series = Mapping[str, list[tuple[float, float]]]


def draw(results: Results, folder: Path) -> list[Path]:
    """Write a plot for everything of which there is something to show; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {f"{name}.svg": bars_of(results, name) for name in BARS if _values(results, name)}
    for name, (prefix, axis) in GROWTH.items():
        if series := _series(results, prefix):
            drawn[f"{name}.svg"] = lines(f"How cost grows with {axis}, 1 message in flight", axis, series)
    for name, svg in drawn.items():
        (folder / name).write_text(svg, encoding="utf-8")
    return [folder / name for name in drawn]


def bars_of(results: Results, load_name: str) -> str:
    load = BY_NAME[load_name]
    return bars(load.title, load.metric[1], _values(results, load_name))


def bars(title: str, unit: str, values: Mapping[str, float]) -> str:
    """Draw one bar per peer, shortest first, with its ratio to the floor; the scale is logarithmic if it must be."""
    floor = values.get("floor")
    positive = [value for value in values.values() if value > 0] or [1.0]
    is_wide = max(positive) > 30 * min(positive)
    scale = "logarithmic scale" if is_wide else "linear scale"
    rows = [_title(title, f"{unit}; less is better; {scale}")]
    for index, (peer, value) in enumerate(sorted(values.items(), key=lambda pair: pair[1])):
        share = _share(value, min(positive), max(positive)) if is_wide else value / max(positive)
        y, width = TOP + index * ROW, max(2.0, share * (WIDTH - LABELS - RIGHT))
        ratio = f" ({times(value, floor)} the floor)" if floor and peer != "floor" else ""
        rows.append(f'<text x="{LABELS - 10}" y="{y + 14}" text-anchor="end">{escape(title_of(peer))}</text>')
        rows.append(f'<rect class="{_class(peer)}" x="{LABELS}" y="{y + 2}" width="{width:.1f}" height="16" rx="2"/>')
        rows.append(f'<text x="{LABELS + width + 8:.1f}" y="{y + 14}">{figure(value)}{ratio}</text>')
    return _svg(TOP + len(values) * ROW + 12, rows)


def lines(title: str, axis: str, series: Series) -> str:
    """Draw one line per peer on two logarithmic axes: µs of CPU per delivered copy over how many there are."""
    height, left, right, bottom = 420, 60, WIDTH - 220, 370
    points = [point for line in series.values() for point in line]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    low, high = _below(min(ys)), _above(max(ys))

    def place(x: float, y: float) -> tuple[float, float]:
        return left + _place(x, min(xs), max(xs)) * (right - left), bottom - _place(y, low, high) * (bottom - TOP)

    rows = [_title(title, "µs of server CPU per delivered copy; less is better; both axes are logarithmic")]
    for y in _ticks(low, high):
        at = place(min(xs), y)[1]
        rows.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
        rows.append(f'<text class="faint" x="{left - 8}" y="{at + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in sorted(set(xs)):
        at = place(x, low)[0]
        rows.append(f'<text class="faint" x="{at:.1f}" y="{bottom + 20}" text-anchor="middle">{x:,.0f}</text>')
    rows.append(f'<text class="faint" x="{(left + right) / 2}" y="{bottom + 40}" text-anchor="middle">{axis}</text>')
    ends = _apart({peer: place(*line[-1])[1] for peer, line in series.items()})
    for index, (peer, line) in enumerate(series.items()):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in line))
        kind, dash = _class(peer), DASHES[index % len(DASHES)]
        rows.append(f'<polyline class="{kind} line" style="fill: none" stroke-dasharray="{dash}" points="{path}"/>')
        label = f"{title_of(peer).split(' (')[0].split(':')[0]}, {figure(line[-1][1])}"
        rows.append(f'<text class="{kind}" x="{right + 10}" y="{ends[peer] + 4:.1f}">{escape(label)}</text>')
    return _svg(height, rows)


def _values(results: Results, load: str) -> dict[str, float]:
    number = BY_NAME[load].metric[0]
    found = {peer: results.value(load, peer, number) for peer in results.peers_under(load)}
    return {peer: value for peer, value in found.items() if value is not None}


def _series(results: Results, prefix: str) -> dict[str, list[tuple[float, float]]]:
    """Return each peer's cost per copy over the number that ends the loads' names; two points make a line."""
    names = [load.name for load in LOADS if load.name.startswith(prefix) and load.name[len(prefix) :].isdigit()]
    series = {
        peer: [
            (float(name[len(prefix) :]), value)
            for name in names
            if (value := results.value(name, peer, "cpu_us_per_copy")) is not None
        ]
        for peer in PEERS
    }
    return {peer: line for peer, line in series.items() if len(line) > 1}


def _share(value: float, least: float, most: float) -> float:
    """Return the length of a bar on a logarithmic scale that begins at a third of the least."""
    return math.log(max(value, least) / (least / 3)) / math.log(most / (least / 3))


def _place(value: float, low: float, high: float) -> float:
    return math.log(value / low) / math.log(high / low) if high > low else 0.5


def _below(value: float) -> float:
    return next(tick for tick in reversed(list(_all_ticks())) if tick <= value)


def _above(value: float) -> float:
    return next(tick for tick in _all_ticks() if tick > value)


def _ticks(low: float, high: float) -> list[float]:
    return [tick for tick in _all_ticks() if low <= tick <= high]


def _all_ticks() -> Iterator[float]:
    for power in range(-4, 7):
        yield from (float(f"{step}e{power}") for step in (1, 2, 5))


def _apart(heights: dict[str, float], least: float = 17) -> dict[str, float]:
    """Move labels down until none covers another."""
    placed: dict[str, float] = {}
    lowest = -math.inf
    for name, height in sorted(heights.items(), key=lambda pair: pair[1]):
        lowest = max(height, lowest + least)
        placed[name] = lowest
    return placed


def _class(peer: str) -> str:
    return "floor" if peer == "floor" else "ours" if peer.startswith("yamabiko") else "other"


def _title(title: str, explanation: str) -> str:
    first = f'<text class="title" x="16" y="26">{escape(title[0].upper() + title[1:])}</text>'
    return f'{first}<text class="faint" x="16" y="46">{escape(explanation)}</text>'


def _svg(height: float, rows: list[str]) -> str:
    size = f'viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}"'
    body = "\n".join(['<rect class="paper" width="100%" height="100%" rx="6"/>', *rows])
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n<style>{STYLE}</style>\n{body}\n</svg>\n'
