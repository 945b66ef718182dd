"""A model's evaluation as files and as a table: eval.json, eval/items.jsonl, eval/rollouts.jsonl."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from seethink.config import EvalConfig, LogConfig, ToolConfig
from seethink.core.errors import UserError
from seethink.core.files import claim_file, json_with, write_json, write_json_lines
from seethink.core.redact import visible
from seethink.core.types import Completion, RolloutGroup, Sample
from seethink.data.prompts import PromptList
from seethink.entropy.meter import EntropyMeter
from seethink.eval.score import ALL, Score, TaskScore, item_accuracy
from seethink.eval.task import Task
from seethink.runs.reading import lines_with
from seethink.runs.rollouts import store_rollouts

ITEMS = "items.jsonl"
"""In the folder `eval`: one line per item and mode, so that models can be compared item by item."""
STORED_GROUPS = 60
"""Prompt groups kept for the report's viewer."""


def write_evaluation(
    out: Path,
    task: Task,
    prompts: PromptList,
    scores: Sequence[TaskScore],
    *,
    label: str,
    model: str,
    seed: int,
    tools: ToolConfig | None = None,
    settings: EvalConfig | None = None,
) -> None:
    """Write the scores of one task, in one mode or several, into the folder `out`.

    Some of the first mode's responses to `prompts` [N] are stored for the report's viewer. `tools` is recorded where it
    names an environment, and `settings` where they are given.
    """
    (out / "eval").mkdir(parents=True, exist_ok=True)
    places = spread(len(prompts), STORED_GROUPS) if scores else []
    stored = [RolloutGroup(prompts[i], list(scores[0].responses[i])) for i in places]
    meter = EntropyMeter(prompts.chat, LogConfig().critical_words, LogConfig().critical_window)
    store_rollouts(out / "eval" / "rollouts.jsonl", out, stored, 0, meter)
    write_json_lines(
        out / "eval" / ITEMS,
        [
            item_record(sample, group, score.total.mode)
            for score in scores
            for sample, group in zip(task.samples, score.responses, strict=True)
        ],
    )
    parts = [asdict(part) for score in scores for part in score.parts]
    asked = tools.record if tools is not None else {}
    asked |= {"settings": settings.model_dump()} if settings is not None else {}
    write_json(out / "eval.json", {"label": label, "model": model, "seed": seed, **asked, "scores": parts})


def claim_evaluation(out: Path) -> None:
    """Raises UserError where an evaluation cannot be written to `out`, or would replace something else there.

    For the beginning: an evaluation must not take hours and then be lost.
    """
    owned = {
        out / "eval.json": json_with("label", "scores"),
        out / "eval" / ITEMS: lines_with("id", "accuracy"),
        out / "eval" / "rollouts.jsonl": lines_with("completions"),
        out / "eval" / "quarantine.jsonl": lines_with("row", "reason"),
    }
    for folder in (out, out / "eval", out / "images"):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"--out: {folder} is a file, where a folder is needed; choose another folder")
    for path, is_ours in owned.items():
        claim_file(path, is_ours, "of an evaluation")


def spread(total: int, count: int) -> list[int]:
    """`count` places evenly over `total`, so that every domain is seen."""
    return sorted({int(i) for i in np.linspace(0, total - 1, min(count, total))})


def item_record(sample: Sample, responses: Sequence[Completion], mode: str) -> dict[str, Any]:
    """One line of items.jsonl; an accuracy of None means that no response could be graded."""
    return {
        "id": sample.id,
        "domain": sample.domain,
        "difficulty": sample.difficulty,
        "mode": mode,
        "accuracy": item_accuracy(responses),
        "tokens": float(np.mean([len(c.token_ids) for c in responses])),
    }


def score_table(scores: Iterable[Score]) -> Table:
    """Scores by domain, for the terminal; domains are named by the data and shown as they stand."""
    table = Table("domain", "mode", title="Accuracy ± standard error")
    for heading in ("accuracy", "n", "mean tokens", "no answer", "format"):
        table.add_column(heading, justify="right")
    for s in (score for score in scores if score.difficulty == ALL):
        accuracy = f"{100 * s.accuracy:.1f} ± {100 * s.stderr:.1f}"
        rates = (f"{100 * s.no_answer_rate:.1f}%", f"{100 * s.format_rate:.1f}%")
        table.add_row(escape(visible(s.domain)), s.mode, accuracy, str(s.n), f"{s.mean_tokens:.1f}", *rates)
    return table
