"""What `soak.py` saw, as Markdown and SVG: slopes after warm-up with their intervals, and a verdict on each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seethink.report.charts import HEIGHT, WIDTH, Series, line_chart

WARM_UP = 0.1
"""Share of the time, and of the steps, that is left out: caches fill, the allocator finds its size. Caches that rarely
meet something new fill for longer, so memory's second half is told apart."""
MB = 1e6
MEMORY_LIMIT = 1.0
"""MB an hour."""
TIME_LIMIT = 5.0
"""Percent an hour."""
CYCLE = 50
"""Steps of a window: each has as many checkpoints, stored rollouts and checks of the guard as any other."""
LEAST = 8
"""Fewer values give no slope."""
STYLE = (
    "text{font:11px sans-serif;fill:#444}.rule{stroke:#ddd}.axis{stroke:#888}path{fill:none}"
    ".a{stroke:#2166ac}.raw{stroke-opacity:.35}.line{stroke-width:1.6}.title{font-size:12px;fill:#111}"
)


@dataclass(frozen=True)
class Slope:
    """Of a least-squares line through y(hours), with the 95% interval of a moving-block bootstrap."""

    value: float
    low: float
    high: float
    level: float
    """The median of y."""

    def verdict(self, limit: float) -> str:
        if np.isnan(self.value):
            return "too short to tell"
        if self.high < limit:
            return "flat"
        return "GROWS" if self.low > limit else "not settled: the interval takes in the limit"


def slope(hours: np.ndarray, y: np.ndarray, *, blocks: int = 20, draws: int = 2000) -> Slope:
    """`hours` and `y` are [N]; residuals are drawn in blocks, since neighbours resemble each other."""
    if len(y) < LEAST:
        return Slope(np.nan, np.nan, np.nan, np.nan)
    rng = np.random.default_rng(0)
    value, offset = np.polyfit(hours, y, 1)
    residuals, size = y - value * hours - offset, max(1, len(y) // blocks)
    starts = rng.integers(0, len(y) - size + 1, (draws, -(-len(y) // size)))
    places = (starts[:, :, None] + np.arange(size)).reshape(draws, -1)[:, : len(y)]
    drawn = residuals[places]
    centred = hours - hours.mean()
    spread = (drawn - drawn.mean(axis=1, keepdims=True)) @ centred / (centred @ centred)
    low, high = value + np.quantile(spread, [0.025, 0.975])
    return Slope(float(value), float(low), float(high), float(np.median(y)))


def write_report(found: dict[str, Any], out: Path) -> str:
    """OUT and OUT with .svg; returns the Markdown."""
    steps, samples = columns(found["steps"]), columns(found["samples"])
    begin, end = steps["t"][0], steps["t"][-1]
    for seen in (steps, samples):
        seen["hours"] = (seen["t"] - begin) / 3600
    first = max(begin + WARM_UP * (end - begin), steps["t"][int(WARM_UP * len(steps["t"]))])
    warm = {key: values[steps["t"] >= first] for key, values in steps.items()}
    outside = {key: values[samples["t"] >= first] for key, values in samples.items()}
    cycles = windows(warm)
    picture = out.with_suffix(".svg")
    picture.write_text(draw(steps, samples, cycles), encoding="utf-8")
    body = [*table(warm, cycles), *counts(outside), *tail(found, steps["hours"][-1], outside, picture.name)]
    text = "\n".join([*head(found, steps), *body]) + "\n"
    out.write_text(text, encoding="utf-8")
    return text


def columns(rows: list[dict[str, float]]) -> dict[str, np.ndarray]:
    return {key: np.array([row[key] for row in rows], float) for key in rows[0]}


def windows(steps: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """By window of CYCLE steps, each [W]: hours, CPU seconds per step, median seconds of a step, tokens of a response,
    lowest resident memory."""
    count = (len(steps["t"]) - 1) // CYCLE
    cut = {key: values[1 : count * CYCLE + 1].reshape(count, CYCLE) for key, values in steps.items()}
    cpu = np.diff(steps["cpu"][: count * CYCLE + 1 : CYCLE]) / CYCLE
    seconds, tokens = np.median(cut["seconds"], axis=1), cut["tokens"].mean(axis=1)
    middle, lowest = cut["hours"].mean(axis=1), cut["rss"].min(axis=1)
    return {"hours": middle, "cpu": cpu, "wall": seconds, "tokens": tokens, "lowest": lowest}


def head(found: dict[str, Any], steps: dict[str, np.ndarray]) -> list[str]:
    about = found["about"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    words = ", ".join(f"`{word}`" for word in about["overrides"])
    return [
        f"# Soak: {60 * steps['hours'][-1]:.0f} minutes of GRPO steps on the nano model",
        "",
        f"{about['date']}, {about['machine']}, OMP_NUM_THREADS {about['threads']}, {versions}. "
        f"{len(steps['t']):,} steps; the first {WARM_UP:.0%} of the time and of the steps is warm-up and left out. "
        f"`nano-grpo.toml` with {words}.",
        "",
    ]


def table(steps: dict[str, np.ndarray], cycles: dict[str, np.ndarray]) -> list[str]:
    lines = ["| | median | slope an hour (95% interval) | limit | verdict |", "|---|---:|---:|---:|---|"]
    for period, since in (("", 0.0), (", second half", 0.5)):
        late = {key: values[steps["t"] >= steps["t"][0] + since * np.ptp(steps["t"])] for key, values in steps.items()}
        for name, hours, values in memories(late):
            found = slope(hours, values / MB)
            lines.append(row(f"{name}, MB{period}", found, MEMORY_LIMIT, "{:.2f}", f"{found.level:.1f}"))
    for key, name in (
        ("cpu", "CPU seconds of a step, %"),
        ("wall", "seconds of a step, %"),
        ("tokens", "tokens of a response, %"),
    ):
        level = float(np.median(cycles[key])) if len(cycles[key]) else np.nan
        lines.append(row(name, slope(cycles["hours"], 100 * cycles[key] / level), TIME_LIMIT, "{:.1f}", f"{level:.3g}"))
    return lines


def memories(steps: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(name, hours, bytes) of what is measured of the process's memory."""
    cycles = windows(steps)
    yield f"lowest resident (RSS) memory of {CYCLE} steps", cycles["hours"], cycles["lowest"]
    for key, name in (("rss", "resident (RSS)"), ("pss", "proportional (PSS)"), ("uss", "unshared (USS)")):
        yield f"{name} memory after each step", steps["hours"], steps[key]


def counts(samples: dict[str, np.ndarray]) -> list[str]:
    """Flat where the medians of the first and the last tenth are equal."""
    lines = ["", "| seen from outside | median | lowest to highest | verdict |", "|---|---:|---:|---|"]
    for key, name in (("handles", "open file handles"), ("threads", "threads"), ("children", "child processes")):
        values = samples[key]
        first, *_, last = (np.median(part) for part in np.array_split(values, 10))
        verdict = "flat" if first == last else f"MOVED from {first:g} to {last:g}"
        lines.append(f"| {name} | {np.median(values):g} | {values.min():g} to {values.max():g} | {verdict} |")
    tenths = [part.max() / MB for part in np.array_split(samples["rss"], 10)]
    spread = f"{min(tenths):.0f} to {max(tenths):.0f} | first {tenths[0]:.0f}, last {tenths[-1]:.0f} |"
    return [*lines, f"| highest RSS within a step, by tenth of the time, MB | {np.median(tenths):.0f} | {spread}"]


def row(name: str, found: Slope, limit: float, form: str, level: str) -> str:
    value, low, high = (form.format(x) for x in (found.value, found.low, found.high))
    return f"| {name} | {level} | {value} ({low} to {high}) | {limit:g} | {found.verdict(limit)} |"


def tail(found: dict[str, Any], hours: float, samples: dict[str, np.ndarray], picture: str) -> list[str]:
    rates = {name: size / MB / hours for name, size in found.get("disk", {}).items() if name != "checkpoints"}
    grown = ", ".join(f"`{name}` {rate:.1f}" for name, rate in rates.items() if rate >= 0.1)
    return [
        "",
        "Slopes are least-squares lines; intervals are moving-block bootstraps of their residuals (2,000 draws, blocks "
        f"of a twentieth of the time). Times and tokens are those of windows of {CYCLE} steps. The machine is shared, "
        "so the CPU seconds, of all threads, are the fair measure of a step's time. From outside "
        f"{len(samples['t']):,} samples were taken after warm-up.",
        "",
        "After a step the allocator still has freed memory, some megabytes more or less as lengths come; once in "
        f"{CYCLE} steps, when the guard's check has freed a large piece, it gives most of it back. The lowest value of "
        "a window is therefore the nearest to what the process holds.",
        "",
        f"What grows on disk, by design, in megabytes an hour: {grown}. Checkpoints do not: retention drops the old.",
        "",
        f"![curves]({picture})",
    ]


def draw(steps: dict[str, np.ndarray], samples: dict[str, np.ndarray], cycles: dict[str, np.ndarray]) -> str:
    """Four curves over minutes, one above the other."""
    charts = [
        ("resident memory after each step, MB", steps["hours"], steps["rss"] / MB),
        ("resident memory at any moment, MB", samples["hours"], samples["rss"] / MB),
        ("open file handles", samples["hours"], samples["handles"]),
        ("CPU seconds of a step", cycles["hours"], cycles["cpu"]),
    ]
    parts, room = [], HEIGHT + 24
    for place, (name, hours, values) in enumerate(charts):
        chart = line_chart([Series(name, list(zip((60 * hours).tolist(), values.tolist(), strict=True)), "a")], name)
        sized = str(chart).replace("<svg ", f'<svg width="{WIDTH}" height="{HEIGHT}" ')
        parts.append(f'<text class="title" x="46" y="{place * room + 16}">{name}, over minutes</text>')
        parts.append(f'<g transform="translate(0 {place * room + 20})">{sized}</g>')
    size = f'width="{2 * WIDTH}" viewBox="0 0 {WIDTH} {len(charts) * room}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style>{"".join(parts)}</svg>\n'
