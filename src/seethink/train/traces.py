"""Verified traces for SFT: read, graded, filtered, and divided into training and validation."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from seethink.coldstart.filters import FilterReport, verify_traces
from seethink.config import Recipe, SftConfig
from seethink.core.console import say
from seethink.core.files import write_json
from seethink.core.redact import visible
from seethink.core.types import Sample
from seethink.data.chat import Chat
from seethink.data.lengths import load_fitting
from seethink.data.mixture import load_training
from seethink.data.order import held_out, question_key, refuse_changed_data
from seethink.data.quarantine import DataError, Quarantine
from seethink.environments.calls import turns_of
from seethink.rewards.golds import read_gold
from seethink.rewards.rewarder import Rewarder
from seethink.train.sft import Traces
from seethink.world.make import is_world


def load_traces(
    recipe: Recipe, chat: Chat, rewarder: Rewarder, quarantine: Quarantine, *, same_data: bool
) -> tuple[Traces, Traces, list[Sample]]:
    """(training traces, validation traces, the samples of the latter); data.json says what was dropped.

    With `same_data`, data that are not those which the run began with are refused. Raises DataError where no trace is
    left.
    """
    data, seed, folder = recipe.data, recipe.seed, Path(recipe.out)
    train = load_training(data, seed, chat, quarantine, golds=read_gold)
    source, twentieth = data.val or data.train, max(1, len(train) // 20)
    if data.val is None and not is_world(source):
        train, val = _divided(train, data.val_size or twentieth, source)
    else:
        # A file that is given for validation is read whole.
        size = data.val_size or (twentieth if is_world(source) else None)
        val = load_fitting(source, "val", size, seed, chat, data, quarantine, golds=read_gold)
    refuse_changed_data(folder, [*train, *val], resuming=same_data, domains=bool(data.domain_weights))
    kept, report = _verified(train, recipe.sft, rewarder, chat)
    kept_val, _ = _verified(val, recipe.sft, rewarder, chat)
    traces, val_traces = (
        Traces(samples, chat, recipe.sft.max_length, recipe.sft.environment, kept_bytes=room)
        for samples, room in ((kept, data.processed_bytes), (kept_val, data.encoded_bytes))
    )
    if len(traces) < len(kept):
        report.dropped["prompt_too_long"] = len(kept) - len(traces)
    _report(folder, report)
    if not (len(traces) and len(val_traces)):
        raise DataError(f"no trace of {data.train!r} is left after verification: {report.dropped}")
    return traces, val_traces, kept_val


def _verified(
    samples: list[Sample], sft: SftConfig, rewarder: Rewarder, chat: Chat
) -> tuple[list[Sample], FilterReport]:
    """`verify_traces`; with an environment each by its final turn, which is what a reward sees."""
    if sft.environment is None:
        return verify_traces(samples, sft, rewarder.grade, chat.response_ids)
    finals = [replace(sample, response=turns_of(sample.response or "")[-1]) for sample in samples]
    kept, report = verify_traces(finals, sft, rewarder.grade, chat.response_ids)
    places = {id(sample) for sample in kept}
    return [sample for sample, final in zip(samples, finals, strict=True) if id(final) in places], report


def _divided(samples: list[Sample], size: int, source: str) -> tuple[list[Sample], list[Sample]]:
    """(training samples, the first `size` samples and all others of their questions). Raises DataError."""
    places = set(held_out([question_key(sample) for sample in samples], size))
    train, val = ([s for i, s in enumerate(samples) if (i in places) is held] for held in (False, True))
    if not train:
        said = "all rows have the questions of the first ones, which are held out for validation"
        raise DataError(f"{source}: {said}; give other ones in data.val")
    say(
        visible(
            f"{source}: {len(val):,} of {len(samples):,} rows are held out for validation (data.val_size, data.val)"
        )
    )
    return train, val


def _report(folder: Path, report: FilterReport) -> None:
    write_json(folder / "data.json", asdict(report))
    reasons = ", ".join(f"{reason} {count}" for reason, count in report.dropped.items())
    say(f"traces: {report.kept} of {report.read} kept" + (f"; dropped: {reasons}" if reasons else ""))
