"""The page of a cold start: the funnel with all reasons, and the traces themselves. One self-contained HTML file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from seethink.coldstart import funnel
from seethink.coldstart.questions import Questions
from seethink.coldstart.select import Outcome, Trace
from seethink.coldstart.store import Store
from seethink.core.files import claim_file, write_text
from seethink.core.redact import redact, visible
from seethink.core.types import Verdict
from seethink.report.charts import Figure, Series, line_chart
from seethink.report.html import asset, embed, environment, policy
from seethink.report.images import Album
from seethink.report.page import SCRIPTS, STYLES
from seethink.report.svg import WIDTH, canvas, num, tag

FILE = "report.html"
MARK = "seethink cold start</title>"
DECIDED = 20
"""Questions with a trace that the verifier called right, which stand first in the viewer."""
PER_REASON = 40
"""Questions of each outcome in the viewer."""
MOST_BYTES = 12_000_000
BINS = 14
ROW, LABEL = 30, 118
"""Pixels: the height of a bar with its gap, and the width of its name."""


def write_page(
    folder: Path, store: Store, questions: Questions, outcomes: Sequence[Outcome], about: dict[str, Any]
) -> Path:
    """Write report.html; the same bytes for the same selection. Raises UserError where the file is another's."""
    target = folder / FILE
    claim_file(
        target, lambda file: MARK.encode() in file.read_bytes()[: 1 << 16], "a page of `seethink coldstart`", "-o"
    )
    write_text(target, render(folder, store, questions, outcomes, about))
    return target


def render(folder: Path, store: Store, questions: Questions, outcomes: Sequence[Outcome], about: dict[str, Any]) -> str:
    """The page's text."""
    counts = funnel.funnel(questions, outcomes)
    groups, album = viewer_groups(folder, store, outcomes)
    data = {"images": album.uris, "groups": groups, "scale": 1, "spans": False, "shaded": False}
    style, script = asset(*STYLES), asset(*(f"viewer/{name}.js" for name in SCRIPTS))
    return (
        environment()
        .get_template("coldstart.html.j2")
        .render(
            policy=policy(style, script),
            style=Markup(style),
            script=Markup(script),
            data=Markup(embed(data)),
            title=Path(str(questions.about["identity"]["source"])).name,
            facts=_facts(questions, about, counts),
            counts=counts,
            bars=funnel_figure(counts),
            reasons=[
                (funnel.words_of(r), n, n / counts.read) for r, n in funnel.first_reasons(questions, outcomes).items()
            ],
            samples=[(funnel.words_of(r), first, every) for r, first, every in funnel.trace_reasons(outcomes)],
            sample_count=sum(len(outcome.traces) for outcome in outcomes),
            parts=funnel.parts(outcomes),
            lengths=length_figure(outcomes, about["tokens"]),
            deciders=funnel.by_decider(outcomes),
            costs=costs(store, outcomes, about["settings"]["coldstart"]),
            groups=groups,
            question_count=len(outcomes),
            settings=json.dumps(redact(about["settings"]), indent=2, ensure_ascii=False),
        )
    )


def _facts(questions: Questions, about: dict[str, Any], counts: funnel.Funnel) -> list[tuple[str, str]]:
    against = questions.about["identity"]["against"]
    rows = questions.about.get("benchmark_rows", 0)
    return [
        ("Teacher", about["teacher"]),
        ("Graded by", about["grader"]),
        ("Reward model", about["reward_model"]),
        ("Judged by", about["judge"]),
        ("Benchmarks", f"{rows:,} rows kept out of {counts.read:,}" if against else "not checked"),
        ("Licence", about["settings"]["coldstart"]["license"] or "not stated"),
    ]


# ---- figures


def funnel_figure(counts: funnel.Funnel) -> Figure:
    """One bar per stage, as wide as its share of the rows that were read."""
    steps, body = counts.steps(), Markup("")
    room = WIDTH - LABEL - 92
    for place, (name, count) in enumerate(steps):
        y, share = place * ROW, count / max(1, counts.read)
        body += tag('<text class="label" x="{}" y="{}" text-anchor="end">{}</text>', LABEL - 10, y + 15, name)
        body += tag('<rect class="bar {}" x="{}" y="{}" width="{}" height="20" rx="2"><title>{}</title></rect>',
                    "a" if place == len(steps) - 1 else "f", LABEL, y, num(max(1.0, room * share)), name)  # fmt: skip
        body += tag('<text class="value" x="{}" y="{}">{}</text>',
                    num(LABEL + max(1.0, room * share) + 8), y + 15, f"{count:,} · {100 * share:.0f} %")  # fmt: skip
    note = f"Questions, and their share of the {counts.read:,} rows that were read."
    return Figure("From questions to data", note, canvas("Questions by stage", body, len(steps) * ROW - 8))


def length_figure(outcomes: Sequence[Outcome], unit: str) -> Figure | None:
    """The lengths of all whole traces and of those selected; None below two lengths."""
    every, chosen = (funnel.lengths(outcomes, chosen=chosen) for chosen in (False, True))
    low, high = min(every, default=0), max(every, default=0)
    if low == high:
        return None
    width = (high - low) / BINS
    series = []
    for label, values, tone in (("all traces", every, "f"), ("selected", chosen, "a")):
        bins = [0] * BINS
        for value in values:
            bins[min(BINS - 1, int((value - low) / width))] += 1
        series.append(Series(label, [(low + (i + 0.5) * width, float(n)) for i, n in enumerate(bins)], tone))
    svg = line_chart(series, "Traces by length", from_zero=True)
    return Figure("Lengths", f"Traces by length, in {unit}.", svg, [(one.label, one.tone) for one in series])


@dataclass(frozen=True, slots=True)
class Costs:
    samples: int
    tokens_in: int
    tokens_out: int
    per_trace: float | None
    """Completion tokens that were paid for per selected trace."""
    price: float | None


def costs(store: Store, outcomes: Sequence[Outcome], config: dict[str, Any]) -> Costs | None:
    """Tokens as the teacher counted them; None where it did not."""
    heads = [store.traces.summaries[trace.key] for outcome in outcomes for trace in outcome.traces]
    tokens_in, tokens_out = sum(head.tokens_in or 0 for head in heads), sum(head.tokens_out or 0 for head in heads)
    selected = sum(len(outcome.chosen) for outcome in outcomes)
    if not tokens_out:
        return None
    price = (tokens_in * config["price_in"] + tokens_out * config["price_out"]) / 1e6
    return Costs(len(heads), tokens_in, tokens_out, tokens_out / selected if selected else None, price or None)


# ---- the viewer


def viewer_groups(folder: Path, store: Store, outcomes: Sequence[Outcome]) -> tuple[list[dict[str, Any]], Album]:
    """The questions that the viewer shows: those that the verifier decided, then some of every outcome."""
    album, groups, used = Album(), list[dict[str, Any]](), 0
    for outcome, source in _shown(outcomes):
        known = len(album.uris)
        group = _group(folder, store, album, outcome, source)
        size = len(embed(group)) + sum(len(uri) for uri in album.uris[known:])
        if used + size > MOST_BYTES:
            album.forget(known)
            continue
        used += size
        groups.append(group)
    return groups, album


def _shown(outcomes: Sequence[Outcome]) -> Iterator[tuple[Outcome, str]]:
    asked = [outcome for outcome in outcomes if outcome.traces]
    by_verifier = [o for o in asked if any(_is_verifiers(trace) for trace in o.traces)][:DECIDED]
    yield from ((outcome, "decided by the verifier") for outcome in by_verifier)
    counts: dict[str, int] = {}
    for outcome in asked:
        counts[outcome.reason] = counts.get(outcome.reason, 0) + 1
        if counts[outcome.reason] <= PER_REASON and outcome not in by_verifier:
            yield outcome, funnel.words_of(outcome.reason)


def _is_verifiers(trace: Trace) -> bool:
    return trace.verdict is Verdict.CORRECT and trace.decided == "verifier"


def _group(folder: Path, store: Store, album: Album, outcome: Outcome, source: str) -> dict[str, Any]:
    q = outcome.question
    return {
        "source": source,
        "step": None,
        "id": visible(q.id),
        "domain": visible(q.domain),
        "difficulty": visible(q.difficulty),
        "question": visible(q.question),
        "answer": visible(q.answer),
        "choices": [visible(choice) for choice in q.choices],
        "images": [album.add(folder, name) for name in q.images],
        "completions": [_completion(store, outcome, trace) for trace in outcome.traces],
    }


def _completion(store: Store, outcome: Outcome, trace: Trace) -> dict[str, Any]:
    record = store.traces[trace.key]
    grade = store.grades.get(trace.key)
    against = [funnel.words_of(reason) for reason in outcome.against[trace.key]]
    mark = "✓ selected" if trace.key in outcome.chosen else "; ".join(against) or "right, not needed"
    return {
        "tokens": [visible(record.get("text") or record.get("error") or "")],
        "entropies": None,
        "critical": [],
        "reward": None,
        "parts": {},
        "advantage": None,
        "verdict": str(trace.verdict or Verdict.ERROR),
        "mark": visible(mark),
        "size": _size(trace),
        "extracted": None if grade.get("extracted") is None else visible(str(grade["extracted"])),
        "truncated": trace.state == "truncated",
        "hallucinated": None,
    }


def _size(trace: Trace) -> str:
    """What was measured of a trace, in words."""
    scores = trace.scores
    if scores is None:
        return ""
    parts = [f"{scores.tokens:,} tokens", f"{100 * scores.worst_repetition:.0f} % repeated at worst"]
    parts.append(f"compression {scores.compression:.1f}")
    parts += [f"perplexity {trace.perplexity:.1f}"] if trace.perplexity is not None else []
    parts += [f"reward {trace.reward:.3g}"] if trace.reward is not None else []
    return ", ".join(parts)
