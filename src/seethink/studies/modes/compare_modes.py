"""Compares modes: all of them answer the same items with the same random numbers, so that differences are paired."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from seethink.config import EvalConfig, make_reading, make_reward
from seethink.core.files import claim_file, json_with
from seethink.core.types import Completion, Verdict
from seethink.data.prompts import PromptList
from seethink.entropy.critical import word_spans
from seethink.eval.runner import draw_graded, grade_responses
from seethink.eval.score import item_accuracy
from seethink.eval.task import Task
from seethink.eval.tasks.source import load_source_task
from seethink.generate.make import make_generator
from seethink.generate.protocol import Generator, Sampling
from seethink.models.load import LoadedModel, load_model
from seethink.rewards.rewarder import Rewarder, command_rewarder
from seethink.studies.measurement_cache import MeasurementCache, measured_on
from seethink.studies.modes.inference_modes import (
    ModesConfig,
    Variant,
    check_config,
    mode_rules,
    planned_draws,
    without_think,
)
from seethink.studies.modes.mode_rows import ModeRow, Values, mode_rows, write_modes


def compare_modes(
    loaded: LoadedModel, rewarder: Rewarder, task: Task, config: ModesConfig, cache: MeasurementCache
) -> list[ModeRow]:
    """Rows of every mode on the same items. Rows in `cache` are not sampled again. Raises UserError."""
    check_config(config)
    prompts, generator = PromptList(task.samples, loaded.chat), make_generator(loaded)
    about = measured_on(loaded, task.samples) | rewarder.identity
    values: dict[Variant, Values] = {}
    for sampled, derived in planned_draws(config):
        keys = {variant: _key(about, config, variant) for variant in derived}
        known = {variant: found for variant in derived if (found := cache.get(keys[variant])) is not None}
        if len(known) < len(derived):
            groups = _draw(loaded, task, generator, prompts, rewarder, config, sampled)
        for variant in derived:
            if variant not in known:
                known[variant] = _values(_cut(loaded, rewarder, task, groups, variant), config.words)
                cache.put(keys[variant], known[variant])
            values[variant] = known[variant]
    return [
        row for variant in values for row in mode_rows(variant, values, [s.domain for s in task.samples], config.seed)
    ]


def compare_file(model: str, data: str, size: int, words: list[str], config: ModesConfig, out: Path) -> list[ModeRow]:
    """`seethink modes`: `size` items per domain of a data file or of the world; writes `out`. Raises UserError.

    `words` are `data.KEY=VALUE` and `reward.KEY=VALUE`.
    """
    check_config(config)
    claim_file(out, json_with("model", "rows"), "a result of `seethink modes`")
    read, reward = make_reading(words), make_reward(words)
    with command_rewarder(reward) as rewarder:
        loaded = load_model(model)
        loaded.chat.limit_images(read)
        task = load_source_task(EvalConfig(data=data, size=size), config.seed, chat=loaded.chat, reading=read)
        rows = compare_modes(loaded, rewarder, task, config, MeasurementCache(out.with_suffix(".parts")))
    write_modes(out, loaded, data, config, rows)
    return rows


def _key(about: dict[str, Any], config: ModesConfig, variant: Variant) -> dict[str, Any]:
    """Everything that a row depends on, without the settings of other modes."""
    unused = {"modes", "budgets"}
    unused |= set() if variant.mode == "nothink" else {"opening"}
    unused |= set() if variant.forced else {"answer_tokens"}
    settings = {key: value for key, value in asdict(config).items() if key not in unused}
    return {"measure": "modes", **about, "settings": settings, "variant": asdict(variant)}


def _draw(
    loaded: LoadedModel,
    task: Task,
    generator: Generator,
    prompts: PromptList,
    rewarder: Rewarder,
    config: ModesConfig,
    variant: Variant,
) -> list[list[Completion]]:
    """[N][G] graded completions of a mode that needs its own sampling."""
    rules, room = mode_rules(loaded, config, variant)
    opening = config.opening if variant.mode == "nothink" else ""
    if variant.mode == "nothink":
        prompts = PromptList(prompts.samples, loaded.chat.edited(lambda text: without_think(text) + opening))
    sampling = Sampling(room, config.temperature, rules=rules)
    return draw_graded(
        task, generator, prompts, rewarder, config.samples, sampling, config.seed, label=variant.label, opening=opening
    )


def _cut(
    loaded: LoadedModel,
    rewarder: Rewarder,
    task: Task,
    groups: list[list[Completion]],
    variant: Variant,
) -> list[list[Completion]]:
    """The responses as they are, or their first `budget` tokens, graded again."""
    if variant.budget is None or variant.forced:
        return groups
    budget = variant.budget

    def first(c: Completion) -> Completion:
        kept = c.token_ids[:budget]
        return replace(c, token_ids=kept, text=loaded.chat.decode(kept), truncated=True)

    cut = [[first(c) if len(c.token_ids) > budget else replace(c) for c in group] for group in groups]
    grade_responses(task, cut, rewarder)
    return cut


def _values(groups: list[list[Completion]], words: tuple[str, ...]) -> Values:
    """The quantities that are kept of a mode's completions [N][G]."""

    def means(quantity: Callable[[Completion], float]) -> list[float | None]:
        return [float(np.mean([quantity(c) for c in group])) for group in groups]

    return {
        "accuracy": [item_accuracy(group) for group in groups],
        "tokens": means(lambda c: len(c.token_ids)),
        "truncated": means(lambda c: c.truncated),
        "no_answer": means(lambda c: c.grade is not None and c.grade.verdict is Verdict.NO_ANSWER),
        "critical": means(lambda c: len(list(word_spans(c.text, words)))),
    }
