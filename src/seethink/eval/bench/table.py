"""Benchmark scores and differences for the terminal, in the order of the paper's table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from seethink.eval.bench.statistics import BenchScore, Difference


def score_tables(scores: Sequence[BenchScore], label: str) -> tuple[Table, Table]:
    """(the scores beside the paper's, what the answers were like), a line a benchmark, in percent."""
    k = {score.runs for score in scores}
    shown = f"avg@{k.pop()}" if len(k) == 1 else "avg@k"
    first = _table(f"{label}: {shown} ± standard error, in percent", "n", "score", "paper", "chance", "pass@k", "maj@k")
    heads = ("run\nsd", "no\nanswer", "cut\noff", "refused", "tokens", "by\nverifier", "un-\nscored")
    second = _table("Standard deviation between runs, and shares of the answers, in percent", *heads)
    for s in scores:
        title = s.title + ("" if s.whole else " (sample)")
        figures = (_percent(s.chance), _percent(s.pass_at_k), _percent(s.majority_at_k))
        first.add_row(title, f"{s.n:,}", spread(s.score, s.stderr), _number(s.paper, 1), *figures)
        shares = map(_percent, (s.run_sd, s.no_answer, s.truncated, s.refused))
        second.add_row(s.name, *shares, _number(s.mean_tokens, 0), _percent(s.by_verifier), f"{s.unscored:,}")
    return first, second


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("benchmark", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def part_lines(scores: Sequence[BenchScore]) -> list[str]:
    """The composites' parts, one line a benchmark that has them beside its categories."""
    wanted = ("aAcc", "fAcc", "qAcc", "loose", "CM strict", "IG strict", "IK strict", "RM strict", "standard 10",
              "vision", "standard 4", "plain accuracy")  # fmt: skip
    lines = []
    for score in scores:
        found = [name for name in score.figures if name in wanted]
        if found:
            parts = (f"{name} {100 * sum(score.figures[name]) / len(score.figures[name]):.1f}" for name in found)
            lines.append(f"{score.title}: {', '.join(parts)}")
    return lines


def chance_line(score: BenchScore) -> str:
    """What a score that random options reach as well, or surpass, says of the model; "" for a better one."""
    if not score.chance > 0 or not score.score < score.chance + 2 * score.stderr:
        return ""
    below = score.score < score.chance - 2 * score.stderr
    said = "is below chance: answers often name no option" if below else "cannot be told from chance"
    return f"{spread(score.score, score.stderr)} {said} ({_percent(score.chance)} by random options)"


def difference_table(differences: Sequence[Difference], a: str, b: str) -> Table:
    """Paired differences, A less B."""
    title = f"A = {a}, B = {b}; in percent, on the same items"
    table = _table(title, "n", "A", "B", "A - B", "95% interval", "p", "verdict")
    for d in differences:
        interval = f"{100 * d.low:+.1f} to {100 * d.high:+.1f}"
        values = (_percent(d.a), _percent(d.b), f"{100 * d.value:+.1f}")
        table.add_row(d.name, f"{d.n:,}", *values, interval, f"{d.p:.3f}", d.verdict)
    return table


def spread(value: float, stderr: float) -> str:
    """`41.2 ± 1.1`, in percent."""
    return _percent(value) + ("" if math.isnan(stderr) else f" ± {100 * stderr:.1f}")


def _percent(value: float) -> str:
    return _number(100 * value, 1)


def _number(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"
