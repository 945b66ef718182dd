"""One self-contained HTML page of benchmark scores, of one model or of two side by side.

Text from models and data is untrusted: the template escapes it, and the one script of the page is known by its hash.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from seethink.core.files import write_text
from seethink.eval.bench.results import Results, read_results
from seethink.eval.bench.statistics import BenchScore, Difference
from seethink.eval.bench.table import chance_line, spread
from seethink.eval.tasks.registry import BENCHMARKS
from seethink.report.benchmarks.answers import shown_items, wrong_lines
from seethink.report.benchmarks.whiskers import Line, Whisker, whisker_chart
from seethink.report.html import asset, environment, policy

STYLES = ("report.css", "charts.css", "bench.css")
TONES = ("a", "b")
COLUMNS = {
    "scores": (("n", "runs", "score", "paper", "chance", "pass@k", "maj@k"), "scores"),
    "answers": (("between runs", "no answer", "cut off", "refused", "tokens", "by verifier", "unscored"), "answers"),
}
"""(headings, the key of a row's cells) of both tables."""
_TITLE = b"seethink eval</title>"


def is_bench_page(file: Path) -> bool:
    """Whether a file is a page that this module wrote."""
    with file.open("rb") as opened:
        return _TITLE in opened.read(1 << 16)


def write_bench_page(folders: Sequence[Path], out: Path, differences: Sequence[Difference] = ()) -> Path:
    """Write the page of one folder's results, or of two folders' with their paired differences. Raises UserError."""
    results = [read_results(folder) for folder in folders]
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, render(results, differences))
    return out


def render(results: Sequence[Results], differences: Sequence[Difference] = ()) -> str:
    """The page's text."""
    labels = [one.label for one in results]
    if len(set(labels)) < len(labels):
        labels = [str(one.folder) for one in results]
    shared = {name for name in results[0].scores if all(name in one.scores for one in results)}
    names = [name for name in BENCHMARKS if name in shared]
    wrong = {name: wrong_lines(results, name) for name in names}
    items, uris = shown_items(results, wrong)
    style, script = asset(*STYLES), asset("bench.js")
    return environment().get_template("bench.html.j2").render(
        policy=policy(style, script),
        style=Markup(style),
        script=Markup(script),
        labels=labels,
        tones=TONES,
        columns=COLUMNS,
        facts=_all_facts(results),
        chart=whisker_chart([_line(results, name) for name in names], "Scores with 95 % intervals"),
        rows=[_row(one.scores[name], one.records[name], label) for name in names
              for one, label in zip(results, labels, strict=True)],
        chances=[f"{one.scores[name].title}, {label}: {said}" for name in names
                 for one, label in zip(results, labels, strict=True) if (said := chance_line(one.scores[name]))],
        published=_published(results[0], names),
        parts=[part for name in names for part in _parts(results[0].scores[name])],
        differences=[_difference(one) for one in differences],
        benches=[(name, results[0].scores[name].title) for name in names],
        abouts=[(results[0].scores[name].title, results[0].records[name]["about"]) for name in names],
        items=items,
        wrong=f"{sum(map(len, wrong.values())):,}",
        uris=uris,
    )  # fmt: skip


def _line(results: Sequence[Results], name: str) -> Line:
    first = results[0]
    whiskers = [
        Whisker(100 * s.score, 100 * s.low, 100 * s.high, tone)
        for tone, s in zip(TONES, (one.scores[name] for one in results), strict=False)
        if not math.isnan(s.score)
    ]
    score, about = first.scores[name], first.records[name]["about"]
    return Line(score.title, whiskers, score.paper, score.chance, about.get("peers", {}))


def _published(first: Results, names: Sequence[str]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """(the other models, each benchmark's figures of theirs)."""
    peers = {name: first.records[name]["about"].get("peers", {}) for name in names}
    models = list(dict.fromkeys(model for own in peers.values() for model in own))
    return models, [
        (first.scores[name].title, [f"{own[model]:.1f}" if model in own else "–" for model in models])
        for name, own in peers.items()
        if own
    ]


def _row(score: BenchScore, record: dict[str, Any], label: str) -> dict[str, Any]:
    return {
        "title": score.title,
        "model": label,
        "sample": not score.whole,
        "scores": [
            f"{score.n:,}",
            str(score.runs),
            spread(score.score, score.stderr),
            "–" if math.isnan(score.paper) else f"{score.paper:.1f}",
            *map(_percent, (score.chance, score.pass_at_k, score.majority_at_k)),
        ],
        "answers": [
            *map(_percent, (score.run_sd, score.no_answer, score.truncated, score.refused)),
            "–" if math.isnan(score.mean_tokens) else f"{score.mean_tokens:,.0f}",
            _percent(score.by_verifier),
            f"{score.unscored:,}",
        ],
    }


def _parts(score: BenchScore) -> list[tuple[str, str, str]]:
    """(benchmark, part, its mean over runs)."""
    means = {name: sum(values) / max(1, len(values)) for name, values in score.figures.items()}
    return [(score.title, name, _percent(value)) for name, value in means.items()]


def _difference(one: Difference) -> dict[str, str]:
    interval = "–" if math.isnan(one.low) else f"{100 * one.low:+.1f} to {100 * one.high:+.1f}"
    p = "–" if math.isnan(one.p) else f"{one.p:.3f}"
    return {"title": one.title, "n": f"{one.n:,}", "value": f"{100 * one.value:+.1f}", "interval": interval, "p": p,
            "verdict": one.verdict}  # fmt: skip


def _all_facts(results: Sequence[Results]) -> list[tuple[str, str]]:
    """The settings; of several models those that differ side by side."""
    tables = [dict(_facts(one)) for one in results]
    names = dict.fromkeys(name for table in tables for name in table)
    found = [(name, [table.get(name, "–") for table in tables]) for name in names]
    return [(name, values[0] if len(set(values)) == 1 else " | ".join(values)) for name, values in found]


def _facts(one: Results) -> list[tuple[str, str]]:
    settings = one.about.get("settings") or {}
    pairs = [
        ("Model", one.about.get("label")),
        ("Protocol", settings.get("protocol")),
        ("Temperature", settings.get("temperature")),
        ("Runs", settings.get("runs")),
        ("Longest answer", f"{settings.get('max_new_tokens', 0):,} tokens"),
        ("Verifier", one.about.get("verifier") or "none: rules alone"),
        ("Seed", settings.get("seed")),
    ]
    return [(name, str(value)) for name, value in pairs if value is not None]


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f}"
