"""Numbers formatted for readers, and the results as Markdown and for a terminal."""

from __future__ import annotations

import math

from rich.table import Table
from rich.text import Text

from seethink.core.redact import visible
from seethink.studies.lab.looks import LOOKS
from seethink.studies.lab.results import Result, Results
from seethink.studies.lab.schema import MARK, Claim
from seethink.studies.lab.verdict import UNTESTABLE, Effect, Verdict

MEANINGS: dict[Verdict, str] = {
    "agrees": "the whole interval lies on the claim's side of no effect, and the effect reaches what counts",
    "too small": "there is an effect as claimed, and one that counts is ruled out",
    "absent": "there may be no effect at all, and one that counts is ruled out",
    "reversed": "the whole interval lies on the other side of no effect",
    "can't tell": "the interval is too wide for any of these, or there is none",
    "untestable": "the setting could not have shown the claim: a check of it failed",
}
INTERVALS = (
    "Effects with their interval over seeds (Student's with moderated variances, 90 % where not said otherwise); "
    "accuracy in points. q: among the claims with a q as small as this one's, this share is expected to have no effect "
    "in either direction (Benjamini-Hochberg over the testable claims; those marked among themselves)."
)
USUAL = 0.9
PRIMARY = (
    f"{MARK} marks the claims that were named as the primary ones before anything ran. They are judged after "
    f"{', '.join(map(str, LOOKS[:-1]))} and {LOOKS[-1]} seeds, with intervals so wide that all looks together err no "
    "more often than a single one would."
)
NO_EFFECT = (
    "A claim that there is no effect agrees where the whole interval falls short of what counts, and is reversed where "
    "there is one that counts."
)
DISAGREE = ("too small", "absent", "reversed")


def as_markdown(results: Results) -> str:
    """One table, below the commands and the decision rule."""
    facts = "; ".join(f"{key}: {value}" for key, value in results.facts.items())
    counts = ", ".join(f"{count} {verdict}" for verdict, count in results.counts.items())
    lines = [
        "# Lab results",
        "",
        f"{_commands(results)}, then `seethink lab report`. {facts}.",
        "",
        f"Claims: {counts}.",
        "",
        INTERVALS,
        "",
        PRIMARY,
        "",
        *(f"- {verdict}: {meaning}." for verdict, meaning in MEANINGS.items()),
        "",
        NO_EFFECT,
        "",
        "| § | claim | paper | effect here | counts from | n | q | verdict |",
        "|---|---|---|---:|---:|---:|---:|---|",
    ]
    for one in results.experiments:
        lines.append(
            f"| {one.experiment.section} | **{_cell(one.experiment.title)}** (`{one.experiment.name}`) | | | | | | |"
        )
        lines += [_row(result) for result in one.results]
    notes = [f"- `{e.experiment.name}`: {e.experiment.note}" for e in results.experiments if e.experiment.note]
    return "\n".join([*lines, "", *_untestable(results), *notes]).rstrip() + "\n"


def _commands(results: Results) -> str:
    """The runs that these results are of, those with most seeds first."""
    names: dict[tuple[int, int], list[str]] = {}
    for one in results.experiments:
        seeds = max((result.effect.seeds for result in one.results if result.effect), default=0)
        names.setdefault((-seeds, one.first_seed), []).append(one.experiment.name)
    return ", ".join(
        f"`seethink lab run {' '.join(names[ran])} --seeds {-ran[0]}{f' --first-seed {ran[1]}' * bool(ran[1])}`"
        for ran in sorted(names)
        if ran[0]
    )


def _untestable(results: Results) -> list[str]:
    """A line for each failed check, once for all the claims that name it."""
    failed = [(e.experiment.name, r.why) for e in results.experiments for r in e.results if r.verdict == UNTESTABLE]
    return [f"- `{name}`, untestable: {why}." for name, why in dict.fromkeys(failed)]


def _row(result: Result) -> str:
    claim = result.claim
    cells = ["", claim.marked, claim.paper, shown(claim, result.effect) or result.why, bar(claim)]
    cells += [size(result.effect), share(result.q)]
    verdict = f"**{result.verdict}**" if result.verdict in DISAGREE else result.verdict
    return "| " + " | ".join(_cell(cell) for cell in cells) + f" | {verdict} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "\\<")


def shown(claim: Claim, effect: Effect | None) -> str:
    """`+3.1 [1.2, 5.0]`, `×1.4 [1.1, 1.8] 97.5 %`; empty without an effect."""
    if effect is None:
        return ""
    if math.isnan(effect.low):
        return number(claim, effect.value)
    level = "" if effect.level == USUAL else f" {100 * effect.level:.3g} %"
    return f"{number(claim, effect.value)} [{number(claim, effect.low)}, {number(claim, effect.high)}]{level}"


def number(claim: Claim, value: float) -> str:
    if math.isnan(value):
        return "–"
    if claim.ratio:
        return f"×{value:.2f}"
    text = f"{100 * value:+.1f}" if claim.scale == "points" else f"{value:+.3f}"
    return text.replace("-", "\u2212")


def share(q: float) -> str:
    """`0.03`, `<0.001`; empty where it is not known."""
    return "" if math.isnan(q) else "<0.001" if q < 0.001 else f"{q:.3f}" if q < 0.1 else f"{q:.2f}"


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


def verdict_table(results: Results) -> Table:
    """Every claim with its effect and verdict; the caption counts the verdicts."""
    table = Table("experiment", "claim", title="Verdicts")
    for heading in ("effect", "counts from", "seeds", "q"):
        table.add_column(heading, justify="right")
    table.add_column("verdict", no_wrap=True)
    for one in results.experiments:
        for row in one.results:
            seeds = str(row.effect.seeds if row.effect else 0)
            cells = (shown(row.claim, row.effect) or "\u2013", bar(row.claim), seeds, share(row.q), row.verdict)
            table.add_row(one.experiment.name, *map(Text, (visible(row.claim.marked), *cells)))
        table.add_section()
    table.caption = ", ".join(f"{count} {verdict}" for verdict, count in results.counts.items())
    return table
