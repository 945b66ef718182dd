"""Inference modes: what is compared, what is kept, and that each mode does to the text what it says."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.nano import labels_drawn, load_nano, make_samples
from seethink.config import LogConfig, RewardConfig
from seethink.core.errors import UserError
from seethink.core.statistics import paired_bootstrap
from seethink.data.prompts import PromptList
from seethink.eval.tasks.source import SourceTask
from seethink.generate.in_process.rules import logits_rules
from seethink.generate.make import make_generator
from seethink.models.load import LoadedModel
from seethink.rewards.rewarder import Rewarder
from seethink.studies.measurement_cache import MeasurementCache
from seethink.studies.modes import compare_modes as comparing
from seethink.studies.modes.compare_modes import compare_modes
from seethink.studies.modes.inference_modes import (
    ModesConfig,
    Variant,
    check_config,
    make_config,
    mode_rules,
    without_think,
)
from seethink.studies.modes.mode_rows import ModeRow, _row, modes_table, write_modes

WORDS = ("?", "!", ";", ":", "=", "+", "(", ")")
CONFIG = ModesConfig(budgets=(4, 9), samples=3, max_new_tokens=20, answer_tokens=5, words=WORDS)


@pytest.fixture(scope="module")
def nano(random_nano: Path) -> LoadedModel:
    return load_nano(random_nano)


@pytest.fixture(scope="module")
def task() -> SourceTask:
    return SourceTask("ab", [replace(s, domain="ab"[i % 2]) for i, s in enumerate(make_samples([1, 0, 2, 1, 1, 0]))])


@pytest.fixture(scope="module")
def rewarder() -> Rewarder:
    """The random model's words count as right where they hold many an e."""
    return Rewarder(RewardConfig(function="helpers.nano:likes_e"))


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is really sampled, in order."""
    return labels_drawn(monkeypatch, comparing)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> MeasurementCache:
    return MeasurementCache(tmp_path_factory.mktemp("modes") / "modes.parts")


@pytest.fixture(scope="module")
def rows(nano: LoadedModel, task: SourceTask, rewarder: Rewarder, cache: MeasurementCache) -> Iterator[list[ModeRow]]:
    return compare_modes(nano, rewarder, task, CONFIG, cache)


def of(rows: list[ModeRow], variant: Variant, domain: str = "all") -> ModeRow:
    (found,) = [r for r in rows if Variant(r.mode, r.budget, r.forced) == variant and r.domain == domain]
    return found


def test_every_mode_and_domain_has_a_row(rows: list[ModeRow]) -> None:
    assert [(r.mode, r.budget, r.forced) for r in rows if r.domain == "all"] == [
        ("slow", None, False),
        ("budget", 4, False),
        ("budget", 9, False),
        ("nothink", None, False),
        ("nowait", None, False),
        ("budget", 4, True),
        ("budget", 9, True),
    ]
    assert [r.domain for r in rows[:3]] == ["all", "a", "b"]
    assert (rows[0].n, rows[1].n, rows[2].n) == (6, 3, 3)
    assert modes_table(rows).row_count == 7


def test_words_are_gone_without_them(rows: list[ModeRow]) -> None:
    assert of(rows, Variant("slow")).critical_mean > 0
    assert of(rows, Variant("nowait")).critical_mean == 0


def test_a_cut_response_ends_at_its_budget(rows: list[ModeRow]) -> None:
    slow, cut = of(rows, Variant("slow")), of(rows, Variant("budget", 4))
    assert cut.tokens_mean <= 4 < slow.tokens_mean
    assert cut.truncated_share >= slow.truncated_share
    closed = of(rows, Variant("budget", 4, forced=True))
    assert 4 < closed.tokens_mean <= 4 + 1 + CONFIG.answer_tokens


def test_domains_are_weighted_by_their_items(rows: list[ModeRow]) -> None:
    for row in (r for r in rows if r.domain == "all"):
        parts = [of(rows, Variant(row.mode, row.budget, row.forced), domain) for domain in "ab"]
        assert row.accuracy == pytest.approx(np.mean([p.accuracy for p in parts]))
        assert row.tokens_mean == pytest.approx(np.mean([p.tokens_mean for p in parts]))


@pytest.mark.slow
def test_a_second_call_samples_nothing_and_a_new_budget_only_itself(
    nano: LoadedModel,
    task: SourceTask,
    rewarder: Rewarder,
    cache: MeasurementCache,
    rows: list[ModeRow],
    draws: list[str],
) -> None:
    assert compare_modes(nano, rewarder, task, CONFIG, cache) == rows
    assert draws == []
    more = compare_modes(nano, rewarder, task, replace(CONFIG, budgets=(4, 6, 9)), cache)
    assert draws == ["slow", "6 closed"]
    assert [r for r in more if r.budget != 6] == rows
    compare_modes(nano, rewarder, task, replace(CONFIG, opening="The answer is"), cache)
    assert draws[2:] == ["nothink"]
    compare_modes(nano, rewarder, SourceTask("ab", task.samples[:-1]), replace(CONFIG, budgets=()), cache)
    assert draws[3:] == ["slow", "nothink", "nowait"]


@pytest.mark.slow
def test_a_killed_command_goes_on(
    nano: LoadedModel,
    task: SourceTask,
    rewarder: Rewarder,
    rows: list[ModeRow],
    draws: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def dying(*args: object, label: str, **rest: object) -> object:
        if label == "nowait":
            raise KeyboardInterrupt
        return counting(*args, label=label, **rest)

    counting = comparing.draw_graded
    monkeypatch.setattr(comparing, "draw_graded", dying)
    with pytest.raises(KeyboardInterrupt):
        compare_modes(nano, rewarder, task, CONFIG, MeasurementCache(tmp_path))
    next(iter(tmp_path.glob("*.json"))).write_text('{"key": 1, "resu')
    monkeypatch.setattr(comparing, "draw_graded", counting)
    draws.clear()
    assert compare_modes(nano, rewarder, task, CONFIG, MeasurementCache(tmp_path)) == rows
    assert draws[-3:] == ["nowait", "4 closed", "9 closed"]
    assert len(draws) == 4  # and the one whose file was damaged


def test_an_opening_is_part_of_the_response(nano: LoadedModel, task: SourceTask, rewarder: Rewarder) -> None:
    config = replace(CONFIG, opening="eeee eeee eeee eeee eeee eeee", max_new_tokens=1, budgets=())
    prompts = PromptList(task.samples, nano.chat)
    groups = comparing._draw(nano, task, make_generator(nano), prompts, rewarder, config, Variant("nothink"))
    assert all(c.text.startswith(config.opening) and c.reward_parts["accuracy"] == 1 for g in groups for c in g)
    assert all(len(c.token_ids) == 1 for g in groups for c in g)


def test_nothink_cannot_open_a_block(nano: LoadedModel, task: SourceTask) -> None:
    rules, room = mode_rules(nano, CONFIG, Variant("nothink"))
    (rule,) = logits_rules(rules, nano)
    logits = rule(torch.zeros(1, 500), torch.full((1, 3), -1), torch.zeros(1, dtype=torch.long))
    (banned,) = ((~logits.isfinite()).nonzero(as_tuple=True)[1].unique().tolist(),)
    assert nano.chat.tokenizer.convert_tokens_to_ids("<think>") in banned
    assert len(banned) == 1
    assert room == CONFIG.max_new_tokens


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<|user|>Hi<|assistant|><think>\n", "<|user|>Hi<|assistant|>"),
        ("<|assistant|>\n<think>", "<|assistant|>\n"),
        ("<|assistant|>\n", "<|assistant|>\n"),
        ("<|assistant|>\n<think>\n\n</think>\n\n", "<|assistant|>\n<think>\n\n</think>\n\n"),
    ],
)
def test_the_template_without_think(text: str, expected: str) -> None:
    assert without_think(text) == expected


def test_differences_are_paired_and_items_without_a_grade_left_out() -> None:
    slow = {"accuracy": [1.0, 0.0, None, 1.0], "tokens": [9.0, 5.0, 5.0, 5.0]}
    other = {"accuracy": [0.5, 0.0, 1.0, None], "tokens": [2.0, 2.0, 2.0, 4.0]}
    rest = {"truncated": [0.0, 1.0, 0.0, 0.0], "no_answer": [0.0] * 4, "critical": [0.0, 0.0, 3.0, 1.0]}
    values = {Variant("slow"): slow | rest, Variant("nowait"): other | rest}
    row = _row(Variant("nowait"), values, ["x"] * 4, "all", seed=0)
    assert (row.n, row.accuracy, row.tokens_mean, row.truncated_share, row.critical_mean) == (3, 0.5, 2.5, 0.25, 1.0)
    assert row.tokens_se == pytest.approx(0.5)
    expected = paired_bootstrap([0.5, 0.0], [1.0, 0.0])
    assert (row.effect, row.low, row.high) == (-0.25, expected.low, expected.high)
    alone = _row(Variant("slow"), values, ["x"] * 4, "all", seed=0)
    assert alone.effect is None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ModesConfig(modes=("fast",)), "no mode 'fast'; choose from slow, nothink, nowait"),
        (ModesConfig(budgets=(160,)), "a budget of 160 is not between 0 and the longest response, 160"),
        (ModesConfig(modes=()), "nothing to compare"),
    ],
)
def test_what_cannot_be_compared(config: ModesConfig, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_config(config)


def test_lists_of_the_command_line() -> None:
    config = make_config("slow, nowait,slow", "16,8", "", samples=2)
    assert (config.modes, config.budgets, config.samples) == (("slow", "nowait"), (8, 16), 2)
    assert config.words == LogConfig().critical_words
    with pytest.raises(UserError, match="expected numbers of tokens"):
        make_config("slow", "8,x", "")


def test_the_file_is_json_without_nan(nano: LoadedModel, rows: list[ModeRow], tmp_path: Path) -> None:
    path = tmp_path / "new" / "modes.json"
    write_modes(path, nano, "d.jsonl", CONFIG, [replace(rows[0], se=math.nan), *rows[1:]])
    table = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert table["rows"][0]["se"] is None
    assert (table["data"], table["seed"], table["budgets"]) == ("d.jsonl", 0, [4, 9])
    assert {"mode", "budget", "forced", "domain", "accuracy", "se", "n", "tokens_mean"} <= set(table["rows"][1])
