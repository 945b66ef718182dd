"""Numbers formatted for readers, and the results as Markdown."""

from __future__ import annotations

import math

from seethink.studies.lab.results import Result, Results
from seethink.studies.lab.schema import Claim
from seethink.studies.lab.verdict import Effect

SIGNS = {"agrees": "agrees", "disagrees": "**disagrees**", "can't tell": "can't tell"}


def as_markdown(results: Results) -> str:
    """One table, below the commands and the decision rule."""
    facts = "; ".join(f"{key}: {value}" for key, value in results.facts.items())
    counts = ", ".join(f"{count} {verdict}" for verdict, count in results.counts.items())
    lines = [
        "# Lab results",
        "",
        f"`seethink lab run all`, then `seethink lab report`. {facts}.",
        "",
        f"Claims: {counts}.",
        "",
        "Effects with their interval over seeds (Student's, 90 % where not said otherwise); accuracy in points. A",
        "claim agrees where the whole interval lies on its side and the effect reaches the smallest that counts,",
        "disagrees where the whole interval falls short of that, and otherwise one can't tell.",
        "",
        "| § | claim | paper | effect here | counts from | n | verdict |",
        "|---|---|---|---:|---:|---:|---|",
    ]
    for one in results.experiments:
        lines.append(
            f"| {one.experiment.section} | **{_cell(one.experiment.title)}** (`{one.experiment.name}`) | | | | | |"
        )
        lines += [_row(result) for result in one.results]
    notes = [f"- `{e.experiment.name}`: {e.experiment.note}" for e in results.experiments if e.experiment.note]
    return "\n".join([*lines, "", *notes]).rstrip() + "\n"


def _row(result: Result) -> str:
    claim = result.claim
    cells = ["", claim.text, claim.paper, shown(claim, result.effect) or result.why, bar(claim), size(result.effect)]
    return "| " + " | ".join(_cell(cell) for cell in cells) + f" | {SIGNS[result.verdict]} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "\\<")


def shown(claim: Claim, effect: Effect | None) -> str:
    """`+3.1 [1.2, 5.0]`, `×1.4 [1.1, 1.8]`; empty without an effect."""
    if effect is None:
        return ""
    if math.isnan(effect.low):
        return number(claim, effect.value)
    return f"{number(claim, effect.value)} [{number(claim, effect.low)}, {number(claim, effect.high)}]"


def is_points(claim: Claim) -> bool:
    """Whether the effect is a difference of shares, which is shown in percentage points."""
    left = claim.left
    shares = left.eval == "accuracy" or left.regret or left.hallucination or (left.mode and left.column == "accuracy")
    return bool(shares) and not claim.ratio


def number(claim: Claim, value: float) -> str:
    if math.isnan(value):
        return "–"
    if claim.ratio:
        return f"×{value:.2f}"
    text = f"{100 * value:+.1f}" if is_points(claim) else f"{value:+.3f}"
    return text.replace("-", "\u2212")


def bar(claim: Claim) -> str:
    """The smallest effect that counts, with its direction."""
    sign = {"more": "≥ ", "less": "≤ ", "not-more": "< ", "not-less": "> ", "same": "within ± "}[claim.expect]
    down = claim.expect in ("less", "not-less")
    if claim.ratio:
        return f"{sign}×{1 / claim.least if down else claim.least:.2f}"
    value = number(claim, -claim.least if down else claim.least)
    return sign + (value.lstrip("+") if claim.expect == "same" else value)


def size(effect: Effect | None) -> str:
    if effect is None:
        return "0"
    seeds = f"{effect.seeds} seed{'s' * (effect.seeds != 1)}"
    return f"{seeds} × {effect.items:,}" if effect.items else seeds
