"""Verified traces for SFT: read, graded, filtered, and divided into training and validation."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from seethink.coldstart.filters import FilterReport, verify_traces
from seethink.config import Recipe
from seethink.core.console import console
from seethink.core.files import write_json
from seethink.core.types import Sample
from seethink.data.chat import Chat
from seethink.data.lengths import load_fitting
from seethink.data.order import refuse_changed_data
from seethink.data.quarantine import DataError, Quarantine
from seethink.rewards.golds import read_gold
from seethink.rewards.rewarder import Rewarder
from seethink.train.sft import Traces


def load_traces(
    recipe: Recipe, chat: Chat, rewarder: Rewarder, quarantine: Quarantine, *, same_data: bool
) -> tuple[Traces, Traces, list[Sample]]:
    """(training traces, validation traces, the samples of the latter); data.json says what was dropped.

    With `same_data`, data that are not those which the run began with are refused. Raises DataError where no trace is
    left.
    """
    data, seed, folder = recipe.data, recipe.seed, Path(recipe.out)
    train = load_fitting(data.train, "train", data.train_size, seed, chat, data, quarantine, golds=read_gold)
    source, size = data.val or data.train, data.val_size or max(1, len(train) // 20)
    if data.val is None and not source.startswith("world:"):
        train, val = train[size:], train[:size]
    else:
        val = load_fitting(source, "val", size, seed, chat, data, quarantine, golds=read_gold)
    refuse_changed_data(folder, [*train, *val], resuming=same_data)
    kept, report = verify_traces(train, recipe.sft, rewarder.grade, chat.response_ids)
    kept_val, _ = verify_traces(val, recipe.sft, rewarder.grade, chat.response_ids)
    traces, val_traces = (Traces(samples, chat, recipe.sft.max_length) for samples in (kept, kept_val))
    if len(traces) < len(kept):
        report.dropped["prompt_too_long"] = len(kept) - len(traces)
    _report(folder, report)
    if not (len(traces) and len(val_traces)):
        raise DataError(f"no trace of {data.train!r} is left after verification: {report.dropped}")
    return traces, val_traces, kept_val


def _report(folder: Path, report: FilterReport) -> None:
    write_json(folder / "data.json", asdict(report))
    reasons = ", ".join(f"{reason} {count}" for reason, count in report.dropped.items())
    console.print(f"traces: {report.kept} of {report.read} kept" + (f"; dropped: {reasons}" if reasons else ""))
