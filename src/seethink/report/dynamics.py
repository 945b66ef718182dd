"""How token entropy changes during a stage, by kind of token (paper 5.1 and 6.5)."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from seethink.core.sketch import EDGES, Sketch
from seethink.report import charts
from seethink.report.axes import tick_text
from seethink.report.charts import Figure, Panel, Series, smooth, smoothing_window, thin
from seethink.report.heat import LOWEST, heat_map
from seethink.report.load import Points, Stage, number
from seethink.report.plots import Dot, Dots, scatter

COLUMNS = 72
"""The most columns of the heat map; more steps are pooled into as many columns."""
BINS = 30
"""The most rows of the heat map."""
KINDS = (("all", "all tokens", "a"), ("critical", "critical words", "b"), ("following", "after a critical word", "c"))
OUTCOMES = (("correct", "correct", "a"), ("wrong", "wrong", "b"))
QUANTILES = (("p50", "median", "c"), ("p90", "90 %", "b"), ("p99", "99 %", "e"))
DECILES = 10


def entropy_figures(stage: Stage) -> list[Figure]:
    """The figures for which entropy.jsonl has data."""
    rows = [row for row in stage.entropy if number(row.get("step")) is not None]
    drawn = (
        _curves(rows, stage, KINDS, "Entropy by criticality"),
        _tail(rows, stage),
        _curves(rows, stage, OUTCOMES, "Entropy of correct and wrong responses"),
        _histogram(rows, stage),
        _by_place(rows, stage),
    )
    return [figure for figure in drawn if figure]


def _curves(
    rows: list[dict[str, Any]], stage: Stage, kinds: Sequence[tuple[str, str, str]], title: str
) -> Figure | None:
    series, sizes = [], []
    for name, label, tone in kinds:
        points, errors = _points(rows, name, "mean"), dict(_points(rows, name, "se"))
        known = [(step, value) for step, value in points if step in errors]
        band = ([(x, max(0.0, y - errors[x])) for x, y in known], [(x, y + errors[x]) for x, y in known])
        if points:
            series.append(Series(label, points, tone, band if known else None))
            sizes.append(f"{median(value for _, value in _points(rows, name, 'count')):,.0f} {label}")
    if len(series) < 2:
        return None
    svg = charts.line_chart(series, f"{title} by step, {stage.name}", from_zero=True)
    shaded = "; shaded ± 1 standard error" if any(one.band for one in series) else ""
    note = f"Mean in nats over the vocabulary{shaded}. Tokens in the middle step: {', '.join(sizes)}."
    return Figure(title, note, svg, [(one.label, one.tone) for one in series])


def _tail(rows: list[dict[str, Any]], stage: Stage) -> Figure | None:
    """Paper 6.5: in successful training the mean falls while the tail grows."""
    means, shares = _points(rows, "all", "mean"), _points(rows, "all", "tail_share")
    thresholds = {value for row in rows if (value := number(row.get("threshold"))) is not None}
    if not means or not shares:
        return None
    panels = [
        Panel([Series("mean", means, "a")], "mean, nats"),
        Panel([Series("tail", shares, "b")], "share of tokens above the threshold", percent=True),
    ]
    svg = charts.panel_chart(panels, f"Mean entropy and tail share by step, {stage.name}")
    above = f" above {tick_text(round(thresholds.pop(), 2))} nats" if len(thresholds) == 1 else " above the threshold"
    ends = [_ends(points) for points in (means, shares)]
    said = f"Smoothed, the mean goes from {ends[0][0]:.2f} to {ends[0][1]:.2f} nats"
    said += f" and the share from {100 * ends[1][0]:.2f} to {100 * ends[1][1]:.2f} %"
    return Figure("Mean and tail", f"All tokens, and the share of them{above}. {said}.", svg)


def _ends(points: Points) -> tuple[float, float]:
    line = smooth(points, smoothing_window(len(points)))
    return line[0][1], line[-1][1]


def _histogram(rows: list[dict[str, Any]], stage: Stage) -> Figure | None:
    known = [
        (step, sketch) for row in rows if (sketch := _sketch(row)) and (step := number(row.get("step"))) is not None
    ]
    columns = _columns(known)
    if len(columns) < 2:
        return None
    shares = [sketch.counts / sketch.count for _, sketch in columns]
    edges = _row_edges(max(sketch.quantile(1 - LOWEST) for _, sketch in columns))
    cells = [[float(part) for part in _rebin(row, edges)] for row in shares]
    lines = [Series(label, thin(_quantiles(columns, name)), tone) for name, label, tone in QUANTILES]
    svg = heat_map([step for step, _ in columns], cells, edges, f"Entropy histogram by step, {stage.name}", lines)
    note = "Share of all tokens by entropy; darker is more, on a logarithmic scale. The curves are quantiles."
    return Figure("Histogram over steps", note, svg, [(label, tone) for _, label, tone in QUANTILES])


def _sketch(row: dict[str, Any]) -> Sketch | None:
    table = _group(row, "all").get("histogram")
    try:
        sketch = Sketch.from_json(table) if isinstance(table, dict) else None
    except ValueError:
        return None
    return sketch if sketch and sketch.count else None


def _columns(known: list[tuple[float, Sketch]]) -> list[tuple[float, Sketch]]:
    """Neighbouring steps pooled into at most `COLUMNS` columns."""
    size = -(-len(known) // COLUMNS) or 1
    columns = []
    for start in range(0, len(known), size):
        near = known[start : start + size]
        whole = near[0][1]
        for _, sketch in near[1:]:
            whole = whole + sketch
        columns.append((near[len(near) // 2][0], whole))
    return columns


def _row_edges(most: float) -> list[float]:
    width = next((width for width in (1 / 16, 1 / 8, 1 / 4, 1 / 2) if most / width <= BINS), 1.0)
    return [place * width for place in range(int(most / width) + 2)]


def _rebin(shares: Any, edges: list[float]) -> list[float]:
    """The sketch's fine bins summed into rows; the last row also takes every value above it."""
    rows, width = [0.0] * (len(edges) - 1), edges[1]
    for share, low in zip(shares.tolist(), EDGES[:-1].tolist(), strict=True):
        rows[min(len(rows) - 1, int(low / width + 1e-9))] += share
    return rows


def _quantiles(columns: list[tuple[float, Sketch]], name: str) -> Points:
    share = int(name[1:]) / 100
    return [(step, sketch.quantile(share)) for step, sketch in columns]


def _by_place(rows: list[dict[str, Any]], stage: Stage) -> Figure | None:
    """Mean entropy by tenth of the response, over the first and over the last quarter of the steps."""
    if len(rows) < 2:
        return None
    span = max(1, len(rows) // 4)
    groups = []
    for label, tone, some in (("first quarter", "a", rows[:span]), ("last quarter", "b", rows[-span:])):
        dots = []
        for decile in range(DECILES):
            mean = _pooled(some, f"position_{decile}")
            if mean is not None:
                dots.append(Dot(100 * (decile + 0.5) / DECILES, mean, f"{label}: {mean:.2f} nats"))
        groups.append(Dots(label, tone, dots, joined=True))
    if not all(group.dots for group in groups):
        return None
    name = f"Entropy by position in the response, {stage.name}"
    svg = scatter(groups, name, "position in the response, %", "nats", y_percent=False)
    steps = f"{span} step{'s' if span > 1 else ''}"
    note = f"Mean by tenth of the response, over the first and the last {steps}."
    return Figure("Entropy by position", note, svg, [(group.label, group.tone) for group in groups])


def _pooled(rows: list[dict[str, Any]], name: str) -> float | None:
    """The mean over all tokens of some steps."""
    pairs = [(number(_group(row, name).get("mean")), number(_group(row, name).get("count"))) for row in rows]
    known = [(mean, count) for mean, count in pairs if mean is not None and count]
    whole = sum(count for _, count in known)
    return sum(mean * count for mean, count in known) / whole if whole else None


def _points(rows: list[dict[str, Any]], name: str, key: str) -> Points:
    pairs = ((number(row.get("step")), number(_group(row, name).get(key))) for row in rows)
    return [(step, value) for step, value in pairs if step is not None and value is not None]


def _group(row: dict[str, Any], name: str) -> dict[str, Any]:
    groups = row.get("groups")
    found = groups.get(name) if isinstance(groups, dict) else None
    return found if isinstance(found, dict) else {}
