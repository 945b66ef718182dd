"""Accuracy of a model with its standard error, by domain and difficulty, graded as the reward is graded."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from seethink.config import EvalConfig, LogConfig, ReadConfig, Recipe
from seethink.core.console import progress_bar
from seethink.core.files import write_text
from seethink.core.statistics import mean_se
from seethink.core.types import Completion, RolloutGroup, Sample, Verdict
from seethink.data.chat import Chat
from seethink.data.lengths import load_fitting
from seethink.data.prompts import PromptList
from seethink.data.quarantine import Quarantine
from seethink.entropy.meter import EntropyMeter
from seethink.generate.in_process.generator import InProcessGenerator
from seethink.generate.protocol import Sampling
from seethink.models.load import LoadedModel
from seethink.rewards.format import has_think_format
from seethink.rewards.rewarder import Rewarder
from seethink.runs.rollouts import store_rollouts
from seethink.world.make import is_world, one_domain, parse_source

ITEMS = "items.jsonl"
"""In the folder `eval`: one line an item and mode, so that models can be compared item by item."""
STORED_GROUPS = 24
"""Prompt groups kept for the report's viewer."""


@dataclass(frozen=True, slots=True)
class Score:
    """Accuracy over `n` items. `stderr` is that of the mean over items, each item the mean of its k samples."""

    domain: str
    difficulty: str
    mode: str
    """`avg@k` at temperature 1, or `greedy`."""
    n: int
    accuracy: float
    stderr: float
    mean_tokens: float
    no_answer_rate: float
    format_rate: float
    unscored: int
    """Completions whose grade is an error: left out, not counted wrong."""


def eval_samples(
    config: EvalConfig,
    seed: int,
    *,
    chat: Chat | None = None,
    reading: ReadConfig | None = None,
    quarantine: Quarantine | None = None,
) -> list[Sample]:
    """`size` test items per domain; bad rows, and with `chat` prompts that the model cannot take, are left out."""
    assert config.data is not None

    def load(source: str, size: int | None) -> list[Sample]:
        kept = quarantine or Quarantine()
        return load_fitting(source, "test", size, seed, chat, reading or ReadConfig(), kept, graded=True)

    if not is_world(config.data):
        by_domain: dict[str, list[Sample]] = {}
        for sample in load(config.data, None):
            by_domain.setdefault(sample.domain, []).append(sample)
        return [s for members in by_domain.values() for s in members[: config.size]]
    domains, _ = parse_source(config.data)
    return [s for d in domains for s in load(one_domain(config.data, d), config.size)]


def eval_reading(recipe: Recipe) -> ReadConfig:
    """Evaluation reads as training does; columns and image folder belong to the training data alone."""
    same = recipe.eval.data == recipe.data.train
    return recipe.data if same else recipe.data.model_copy(update={"style": "auto", "image_root": None})


def evaluate(
    loaded: LoadedModel,
    rewarder: Rewarder,
    prompts: PromptList,
    config: EvalConfig,
    seed: int,
    *,
    label: str,
    out: Path | None = None,
) -> list[Score]:
    """avg@k and greedy accuracy over the prompts; writes eval.json, each item's accuracy and some rollouts to `out`."""
    scores: list[Score] = []
    items: list[dict[str, Any]] = []
    stored: list[RolloutGroup] = []
    for mode, group_size, temperature in _modes(config):
        sampling = Sampling(config.max_new_tokens, temperature)
        groups = draw_graded(loaded, rewarder, prompts, group_size, sampling, seed, label=f"eval {label} {mode}")
        scores += summarise(prompts.samples, groups, mode)
        items += [item_record(s, group, mode) for s, group in zip(prompts.samples, groups, strict=True)]
        stored = stored or [RolloutGroup(prompts[i], groups[i]) for i in _spread(len(prompts), STORED_GROUPS)]
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        record = {"label": label, "model": loaded.source, "seed": seed, "scores": [asdict(s) for s in scores]}
        meter = EntropyMeter(loaded.chat, LogConfig().critical_words, LogConfig().critical_window)
        store_rollouts(out / "eval" / "rollouts.jsonl", out, stored, 0, meter)
        write_text(out / "eval" / ITEMS, "".join(json.dumps(item) + "\n" for item in items))
        (out / "eval.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return scores


def draw_graded(
    loaded: LoadedModel,
    rewarder: Rewarder,
    prompts: PromptList,
    group_size: int,
    sampling: Sampling,
    seed: int,
    *,
    label: str,
    opening: str = "",
) -> list[list[Completion]]:
    """`group_size` graded completions of each prompt, [P][G]. `opening` is what the prompt wrote of the response.

    What is random in one of them is a function of (seed, place of the prompt, number) alone: the same call with other
    rules or other weights is paired with this one.
    """
    with progress_bar(label, len(prompts)) as advance:
        groups = InProcessGenerator(loaded).generate(
            prompts, group_size, sampling, (seed, 10**6), lambda n: advance(n, "")
        )
    for completion in (c for group in groups for c in group):
        completion.text = opening + completion.text
    rewarder.score([(s, c) for s, group in zip(prompts.samples, groups, strict=True) for c in group])
    return groups


def _modes(config: EvalConfig) -> Iterable[tuple[str, int, float]]:
    if config.samples:
        yield f"avg@{config.samples}", config.samples, 1.0
    if config.greedy:
        yield "greedy", 1, 0.0


def _spread(total: int, count: int) -> list[int]:
    """`count` indices evenly over `total`, so that every domain is seen."""
    return sorted({int(i) for i in np.linspace(0, total - 1, min(count, total))})


def summarise(samples: Sequence[Sample], groups: list[list[Completion]], mode: str) -> list[Score]:
    """One score per domain over all difficulties, and one per domain and difficulty."""
    keys = {(s.domain, d) for s in samples for d in ("all", s.difficulty)}
    pairs = list(zip(samples, groups, strict=True))
    return [
        _score(domain, difficulty, mode, [g for s, g in pairs if _matches(s, domain, difficulty)])
        for domain, difficulty in sorted(keys)
    ]


def _matches(sample: Sample, domain: str, difficulty: str) -> bool:
    return sample.domain == domain and difficulty in ("all", sample.difficulty)


def _score(domain: str, difficulty: str, mode: str, groups: list[list[Completion]]) -> Score:
    completions = [c for group in groups for c in group]
    item_means = [mean for group in groups if (mean := item_accuracy(group)) is not None]
    accuracy, stderr = mean_se(item_means)
    verdicts = [c.grade.verdict for c in completions if c.grade is not None]
    return Score(
        domain=domain,
        difficulty=difficulty,
        mode=mode,
        n=len(item_means),
        accuracy=accuracy,
        stderr=stderr,
        mean_tokens=float(np.mean([len(c.token_ids) for c in completions])),
        no_answer_rate=verdicts.count(Verdict.NO_ANSWER) / len(completions),
        format_rate=float(np.mean([has_think_format(c.text) for c in completions])),
        unscored=verdicts.count(Verdict.ERROR),
    )


def item_accuracy(group: Sequence[Completion]) -> float | None:
    """Accuracy over an item's graded completions; None where there is none."""
    graded = [c.reward_parts["accuracy"] for c in group if math.isfinite(c.reward_parts["accuracy"])]
    return float(np.mean(graded)) if graded else None


def item_record(sample: Sample, group: Sequence[Completion], mode: str) -> dict[str, Any]:
    """One line of items.jsonl; an accuracy of None means that no completion could be graded."""
    return {
        "id": sample.id,
        "domain": sample.domain,
        "difficulty": sample.difficulty,
        "mode": mode,
        "accuracy": item_accuracy(group),
        "tokens": float(np.mean([len(c.token_ids) for c in group])),
    }


def score_table(scores: list[Score]) -> Table:
    """Scores over all difficulties, for the terminal; domains are named by the data and shown as they stand."""
    from seethink.core.redact import visible

    table = Table("domain", "mode", title="Accuracy ± standard error")
    for heading in ("accuracy", "n", "mean tokens", "no answer", "format"):
        table.add_column(heading, justify="right")
    for s in scores:
        if s.difficulty == "all":
            accuracy = f"{100 * s.accuracy:.1f} ± {100 * s.stderr:.1f}"
            rates = (f"{100 * s.no_answer_rate:.1f}%", f"{100 * s.format_rate:.1f}%")
            table.add_row(escape(visible(s.domain)), s.mode, accuracy, str(s.n), f"{s.mean_tokens:.1f}", *rates)
    return table
