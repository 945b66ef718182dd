"""The data checks: every source is read once, all that is wrong with it is said at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from seethink.config import Recipe
from seethink.core.errors import UserError
from seethink.data.advice import ADVICE
from seethink.data.mixture import entry_reading
from seethink.data.quarantine import LEFT_OUT, REASONS, Problem
from seethink.doctor.check import Report, Status, plural
from seethink.doctor.content import check_content, picture_facts
from seethink.doctor.lengths import quantiles
from seethink.doctor.mixture import check_shares, joined
from seethink.doctor.model import Model
from seethink.doctor.overlap import check_repeats
from seethink.doctor.scan import Scan, Source, scan
from seethink.doctor.show import plain
from seethink.eval.tasks.source import eval_reading
from seethink.rewards.rewarder import Rewarder
from seethink.world.make import is_world

EXAMPLES = 3
"""Bad rows shown of each reason; the JSON report has all of them."""


def check_data(report: Report, recipe: Recipe, model: Model) -> Scan | None:
    """The training source's scan, for the checks that need samples; None without a good row."""
    rewarder = _rewarder(recipe)
    scans: dict[str, Scan] = {}
    for source in sources(recipe):
        found = scan(source, model.chat, rewarder)
        scans[source.label] = found
        check_source(report, found, recipe, model)
    if recipe.data.is_mixture:
        own = [found for found in scans.values() if found.source.entry is not None]
        whole = Source("data.train", recipe.data.train, "train", None, recipe.stage != "sft", recipe.data)
        train = joined(own, whole)
    else:
        train = scans["data.train"]
    check_shares(report, recipe, train)
    check_repeats(report, recipe, {**scans, "data.train": train})
    report.facts["data"] = {label: facts(found) for label, found in scans.items()}
    return train if train.good else None


def _rewarder(recipe: Recipe) -> Rewarder | None:
    """The run's grader without the verifier, which is asked only on request."""
    try:
        return Rewarder(recipe.reward.model_copy(update={"verifier": None}))
    except UserError:  # the recipe check has said so
        return None


def sources(recipe: Recipe) -> list[Source]:
    """What the run would read, in the way it would."""
    data, sft = recipe.data, recipe.stage == "sft"
    traces = recipe.sft if sft else None
    if data.is_mixture:
        found = [
            Source(f"data.mixture {e.title}", e.source, "train", e.size, not sft, entry_reading(data, e), traces, e)
            for e in data.mixture
        ]
    else:
        found = [Source("data.train", data.train, "train", data.train_size, not sft, data, traces)]
    if data.val is not None:
        found.append(Source("data.val", data.val, "val", data.val_size, not sft, data, traces))
    elif is_world(data.train):
        size = data.val_size or max(1, (data.train_size or 0) // 20)
        found.append(Source("data.val", data.train, "val", size, not sft, data, traces))
    if recipe.eval.data is not None:
        reading = eval_reading(recipe)
        found.append(Source("eval.data", recipe.eval.data, "test", None, True, reading))
    return found


def check_source(report: Report, found: Scan, recipe: Recipe, model: Model) -> None:
    label = found.source.label
    if found.error:
        where = f" (after {plural(found.rows, 'row')})" if found.rows else ""
        report.add(label, "source", Status.FAIL, found.error + where, _source_advice(found))
    if not found.rows:
        return
    _check_rows(report, found)
    if not found.good:
        return
    check_content(report, found, recipe, model.context)


def _source_advice(found: Scan) -> str:
    said = found.error
    if "LFS" in said:
        return "run `git lfs pull` in the data's folder"
    if "cut off" in said:
        return "copy or download the file again; compare its size with the original's"
    if "missing columns" in said.lower():
        return ADVICE["missing_column"]
    if "no data at" in said:
        return f"correct {found.source.label}; paths are relative to where the command runs"
    return f"correct or replace what {found.source.label} names"


def _check_rows(report: Report, found: Scan) -> None:
    label, count = found.source.label, found.rows
    bad = [p for p in found.problems if p.reason not in LEFT_OUT]
    style = f" in {found.style.title} columns ({', '.join(found.columns)})" if found.style else ""
    limit = found.source.reading.max_bad_share
    said = f"{plural(count, 'row')}{style}: {found.good:,} good, {len(found.problems):,} left out; {_looked_at(found)}"
    if not found.good:
        report.add(label, "rows", Status.FAIL, said, "no row is left to work with: correct what is named below")
    elif len(bad) > limit * count:
        advice = "the run would stop: correct or drop the rows named below, or raise data.max_bad_share"
        found_share = f"{said}, more than data.max_bad_share = {limit:g} allows"
        report.add(label, "rows", Status.FAIL, found_share, advice)
    else:
        report.add(label, "rows", Status.WARN if bad else Status.PASS, said, _left_out_advice(bad))
    if found.unread_images:
        said = f"columns that hold images too and are not read: {', '.join(sorted(found.unread_images))}"
        report.add(label, "unread images", Status.WARN, said, "put all images of a row in the column 'images'")
    over = not found.good or len(bad) > limit * count
    by_reason = _by_reason(found.problems)
    for reason, members in by_reason.items():
        status = Status.INFO if reason in LEFT_OUT else Status.FAIL if over else Status.WARN
        shown = f"{plural(len(members), 'row')}: {_examples(members)}"
        report.add(label, REASONS[reason], status, shown, ADVICE[reason], rows=[asdict(p) for p in members])
    if by_reason:
        report.tables.append(problems_table(label, by_reason))


def _looked_at(found: Scan) -> str:
    """Which rows of the source the findings are about."""
    source, size = found.source.source, found.source.size
    if is_world(source):
        every = size is not None and size <= found.rows
        return "all of them" if every else f"of the world only the first {found.rows} are looked at"
    if found.error:
        return "no row after the error was looked at"
    if size is not None and found.good + sum(p.reason in LEFT_OUT for p in found.problems) >= size:
        return "the run takes the first ones alone, and all of these were looked at"
    return "every row was read, and every image decoded"


def _left_out_advice(bad: Sequence[Problem]) -> str:
    return "the run would leave these rows out and go on; correct them to use them" if bad else ""


def _by_reason(problems: Sequence[Problem]) -> dict[str, list[Problem]]:
    counts = Counter(p.reason for p in problems)
    return {reason: [p for p in problems if p.reason == reason] for reason, _ in counts.most_common()}


def _examples(members: Sequence[Problem], count: int = 1) -> str:
    shown = "; ".join(f"{Path(p.file).name}, row {p.row}: {p.detail}" for p in members[:count])
    others = ", ".join(str(p.row) for p in members[1:8])
    more = f" (and row{'s' * (len(members) > 2)} {others}{' ...' * (len(members) > 8)})"
    return shown + (more if len(members) > 1 else "")


def problems_table(label: str, by_reason: dict[str, list[Problem]]) -> Table:
    table = Table(title=f"Bad rows of {label}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("reason", no_wrap=True)
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("first ones", overflow="fold")
    for reason, members in by_reason.items():
        lines = [f"{Path(p.file).name}, row {p.row}: {plain(p.detail, 160)}" for p in members[:EXAMPLES]]
        if len(members) > EXAMPLES:
            lines.append(f"... and {len(members) - EXAMPLES:,} more")
        table.add_row(Text(REASONS[reason]), f"{len(members):,}", Text("\n".join(plain(line, 240) for line in lines)))
    return table


def facts(found: Scan) -> dict[str, Any]:
    """For the JSON report: every bad row."""
    return {
        "source": found.source.source,
        "style": found.style.name if found.style else None,
        "rows": found.rows,
        "good": found.good,
        "error": found.error,
        "bad_rows": [asdict(p) for p in found.problems],
        "images": picture_facts(found),
        "prompt_tokens": quantiles(found.lengths.prompts),
        "answer_kinds": dict(found.golds.kinds),
    }
