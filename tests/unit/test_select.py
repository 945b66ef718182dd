"""Ranking checkpoints from estimates made by hand: values, choices, correlations, regret."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from seethink.core.errors import UserError
from seethink.core.statistics import resampled_ratios, t_interval
from seethink.core.types import Completion, Sample
from seethink.entropy.meter import Estimate
from seethink.studies.selection.checkpoints import CheckpointEstimates, find_checkpoints, step_of
from seethink.studies.selection.ranking import BETTER, Selection, halves, regret, select
from seethink.studies.selection.select_run import NAME_WIDTH, _short, selection_text, trained_domains, verdict
from seethink.train.hooks.rollouts import uncertain_reward

SAMPLES = [Sample(id=str(i), question="Q?", domain="math" if i < 8 else "dice") for i in range(16)]
"""Of each domain, four items for the criteria and four to judge them."""
LEVEL = {"step_1": 0.2, "step_3": 0.9, "step_5": 0.5}
"""What every item of a checkpoint is right in, out of domain on the judging half."""


def estimate(*means: float, count: float = 2.0) -> Estimate:
    """One mean an item, of `count` tokens."""
    return Estimate(np.array(means) * count, np.full(len(means), count))


def estimates() -> list[CheckpointEstimates]:
    """Critical entropy goes up with the judged accuracy, validation accuracy goes against it."""
    made = []
    for place, (name, level) in enumerate(LEVEL.items()):
        wobble = np.linspace(-0.1, 0.1, 16)
        accuracy = np.where(halves(SAMPLES), 1 - level, level) + wobble
        critical = level + wobble
        made.append(
            CheckpointEstimates(
                name,
                int(name[-1]),
                {
                    "accuracy": estimate(*accuracy, count=1),
                    "critical": estimate(*critical, count=3),
                    "following": estimate(*critical),
                    "all": estimate(*([0.1 + place] * 16)),
                    "tail": estimate(*([0.01 * place] * 16)),
                },
            )
        )
    return made


@pytest.fixture(scope="module")
def selection() -> Selection:
    reward = {1: 0.1, 2: 0.3, 3: 0.5, 4: 0.7, 5: 0.6, 6: 9.0}
    rewards = {"reward": reward, "uncertain_reward": {step: 1 - value / 10 for step, value in reward.items()}}
    return select(estimates(), SAMPLES, ["math"], rewards, seed=1)


def test_half_of_each_domain_judges_the_other() -> None:
    assert halves(SAMPLES).tolist() == [True, False] * 8
    mixed = [Sample(id="", question="", domain=d) for d in "aabba"]
    assert halves(mixed).tolist() == [True, False, True, False, True]


def test_values_are_those_of_their_items(selection: Selection) -> None:
    own = np.linspace(-0.1, 0.1, 16)
    first = selection.criteria["critical_entropy"].values["step_1"]
    assert first.value == pytest.approx(0.2 + own[[0, 2, 4, 6]].mean())
    assert first.n == 4
    assert first.low < first.value < first.high
    assert selection.criteria["accuracy"].values["step_3"].value == pytest.approx(0.1 + own[[0, 2, 4, 6]].mean())
    assert selection.targets["in_domain"].values["step_3"].value == pytest.approx(0.9 + own[[1, 3, 5, 7]].mean())
    judged = selection.targets["out_of_domain"].values["step_5"].value
    assert judged == pytest.approx(0.5 + own[[9, 11, 13, 15]].mean())
    ood = selection.criteria["out_of_domain_accuracy"].values["step_5"].value
    assert ood == pytest.approx(0.5 + own[[8, 10, 12, 14]].mean())


def test_each_criterion_chooses_its_way(selection: Selection) -> None:
    assert {name: scored.chosen for name, scored in selection.criteria.items()} == {
        "critical_entropy": "step_3",
        "entropy_following": "step_3",
        "entropy_mean": "step_1",  # the lowest
        "tail_share": "step_5",
        "reward": "step_5",
        "uncertain_reward": "step_1",
        "accuracy": "step_1",
        "out_of_domain_accuracy": "step_1",
        "last": "step_5",
    }
    assert list(selection.criteria) == list(BETTER)
    assert selection.chosen == "step_3"
    assert selection.criteria["critical_entropy"].best_share == {"step_1": 0, "step_3": 1, "step_5": 0}
    assert "3 different choices" in verdict(selection)


def test_reward_is_that_of_the_steps_around(selection: Selection) -> None:
    """Half the distance of 2: one step each way."""
    values = {name: (v.value, v.n) for name, v in selection.criteria["reward"].values.items()}
    assert values == {
        "step_1": (pytest.approx(0.2), 2),
        "step_3": (pytest.approx(0.5), 3),
        "step_5": (pytest.approx(10.3 / 3), 3),
    }


def test_uncertain_reward_is_that_of_the_steps_since_the_checkpoint_before(selection: Selection) -> None:
    values = {name: (v.value, v.n) for name, v in selection.criteria["uncertain_reward"].values.items()}
    assert values == {
        "step_1": (pytest.approx(0.99), 1),
        "step_3": (pytest.approx(0.96), 2),
        "step_5": (pytest.approx(0.935), 2),
    }


def test_the_uncertain_tenth_is_least_likely_per_token() -> None:
    """Of twenty: a long response of likely tokens is no uncertain one."""
    made = [
        Completion([1] * n, [logprob] * n, [0.0] * n, "", truncated=False, policy_version=0, reward=reward)
        for n, logprob, reward in [(50, -0.1, 1.0), (2, -2.0, 0.25), (3, -3.0, 0.5), *[(4, -0.5, 1.0)] * 17]
    ]
    assert uncertain_reward(made) == pytest.approx(0.375)
    assert uncertain_reward(made[:9]) == 0.5
    assert math.isnan(uncertain_reward([]))


def test_correlations_with_what_is_held_out(selection: Selection) -> None:
    found = {(c.criterion, c.target): c for c in selection.correlations}
    assert len(found) == 2 * len(BETTER)
    critical = found["critical_entropy", "out_of_domain"]
    assert (critical.pearson.value, critical.spearman.value, critical.pearson.n) == (
        pytest.approx(1),
        pytest.approx(1, abs=1e-12),
        3,
    )
    assert found["accuracy", "in_domain"].pearson.value == pytest.approx(-1)
    last = found["last", "in_domain"]
    expected = stats.pearsonr([1, 3, 5], list(LEVEL.values())).statistic
    assert last.pearson.value == pytest.approx(expected)


def test_equal_checkpoints_share_and_the_later_is_taken() -> None:
    same = [CheckpointEstimates(f"step_{i}", i, estimates()[0].estimates) for i in (1, 2)]
    scored = select(same, SAMPLES, ["math"], {}).criteria["critical_entropy"]
    assert scored.chosen == "step_2"
    assert scored.best_share == {"step_1": 0, "step_2": 1}


def test_one_domain_has_nothing_out_of_domain() -> None:
    found = select(estimates(), SAMPLES, ["math", "dice"], {})
    assert set(found.criteria) == set(BETTER) - {"reward", "uncertain_reward", "out_of_domain_accuracy"}
    assert set(found.targets) == {"in_domain"}


def without_critical() -> list[CheckpointEstimates]:
    made = estimates()
    for m in made:
        m.estimates["critical"] = Estimate(np.zeros(16), np.zeros(16))
    return made


def test_a_criterion_that_was_not_measured_cannot_choose() -> None:
    found = select(without_critical(), SAMPLES, ["math"], {}, by="accuracy")
    assert found.criteria["critical_entropy"].chosen is None
    assert math.isnan(found.correlations[0].pearson.value)
    assert found.as_json()["criteria"]["critical_entropy"]["values"]["step_1"]["value"] is None
    assert set(found.criteria["critical_entropy"].best_share.values()) == {0.0}
    console = Console(width=200)
    with console.capture() as shown:
        console.print(selection_text(found))
    assert "not measured" in shown.get()


@pytest.mark.parametrize(
    ("by", "made", "message"),
    [
        ("luck", estimates(), "there is no such criterion; choose from critical_entropy, "),
        ("reward", estimates(), "no reward/mean in metrics.jsonl; choose from "),
        ("uncertain_reward", estimates(), "no reward/uncertain in metrics.jsonl; choose from "),
        ("critical_entropy", without_critical(), "no response holds a critical word; name others with --words"),
    ],
)
def test_a_criterion_that_cannot_choose_says_why(by: str, made: list[CheckpointEstimates], message: str) -> None:
    with pytest.raises(UserError, match=message):
        select(made, SAMPLES, ["math"], {}, by=by)


def test_a_word_in_one_item_alone_has_no_interval() -> None:
    made = estimates()
    made[1].estimates["critical"] = Estimate(np.array([0.4] + [0.0] * 15), np.array([1.0] + [0.0] * 15))
    found = select(made, SAMPLES, ["math"], {})
    alone = found.criteria["critical_entropy"].values["step_3"]
    assert (alone.value, alone.n) == (0.4, 1)
    assert math.isnan(alone.low)
    console = Console(width=200)
    with console.capture() as shown:
        console.print(selection_text(found))
    assert "0.400 (?)" in shown.get()
    assert shown.get().index("step_5") < shown.get().index("step_3") < shown.get().index("step_1")


def test_too_few_items_are_refused() -> None:
    few = [s if i < 8 or i > 12 else Sample(id="", question="", domain="math") for i, s in enumerate(SAMPLES)]
    with pytest.raises(UserError, match="3 held-out items out of domain are too few"):
        select(estimates(), few, ["math"], {})


def test_json_has_what_was_agreed(selection: Selection) -> None:
    table = json.loads(json.dumps(selection.as_json(), allow_nan=False))
    assert (table["by"], table["chosen"]) == ("critical_entropy", "step_3")
    assert set(table["criteria"]["last"]["values"]["step_1"]) == {"value", "low", "high", "n", "best_share"}
    assert table["criteria"]["reward"]["chosen"] == "step_5"
    assert {"criterion", "target", "pearson", "pearson_low", "spearman_high", "n"} <= set(table["correlations"][0])
    assert set(table["targets"]) == {"in_domain", "out_of_domain"}


def test_resampled_ratios_equal_a_plain_bootstrap() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 5, (1, 60)).astype(float)
    sums = rng.normal(2, 1, (1, 60)) * counts
    drawn = resampled_ratios(sums, counts, resamples=4000)[:, 0]
    places = rng.integers(0, 60, (4000, 60))
    plain = sums[0][places].sum(1) / counts[0][places].sum(1)
    assert drawn.mean() == pytest.approx(plain.mean(), abs=0.01)
    assert drawn.std() == pytest.approx(plain.std(), rel=0.06)


def run_table(values: dict[str, float], **chosen: str) -> dict[str, Any]:
    return {
        "criteria": {name: {"chosen": checkpoint} for name, checkpoint in chosen.items()},
        "targets": {"out_of_domain": {"values": {c: {"value": v} for c, v in values.items()}}},
    }


def test_regret_by_hand() -> None:
    """Best less chosen: reward loses 0.2, 0, 0.1, the last checkpoint 0.3, 0.1, 0.1, critical entropy 0, 0, 0.1."""
    tables = [
        run_table({"a": 0.3, "b": 0.6, "c": 0.4}, critical_entropy="b", reward="c", last="a"),
        run_table({"a": 0.5, "b": 0.4}, critical_entropy="a", reward="a", last="b"),
        run_table({"a": 0.2, "b": 0.3}, critical_entropy="a", reward="a", last="a"),
    ]
    found = regret(tables)
    assert [r.criterion for r in found] == ["critical_entropy", "reward", "last"]
    best, reward, last = found
    assert (best.regret.value, reward.regret.value, last.regret.value) == pytest.approx((0.1 / 3, 0.1, 0.5 / 3))
    assert reward.regret.n == 3
    expected = t_interval([0.2, 0.0, 0.1])
    assert (reward.regret.low, reward.regret.high) == pytest.approx((expected.low, expected.high))
    assert best.less_than_last.value == pytest.approx((0.3 + 0.1 + 0.0) / 3)
    assert last.less_than_last.value == 0
    with pytest.raises(UserError, match="no run has the target 'in_domain'"):
        regret(tables, "in_domain")


def checkpoint(folder: Path, *files: str) -> Path:
    folder.mkdir(parents=True)
    for file in files or ("config.json", "model.safetensors", "preprocessor_config.json"):
        (folder / file).write_text("{}")
    return folder


def test_checkpoints_are_found_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("checkpoint-100", "checkpoint-20", "step_3/actor/huggingface", ".checkpoint-5.tmp", "damaged-step_1"):
        checkpoint(tmp_path / name)
    checkpoint(tmp_path / "optimizer", "config.json")
    found = find_checkpoints(tmp_path)
    names = [folder.relative_to(tmp_path).as_posix() for folder in found]
    assert names == ["checkpoint-20", "checkpoint-100", "step_3/actor/huggingface"]
    assert [step_of(folder, tmp_path, i) for i, folder in enumerate(found)] == [20, 100, 3]


def test_folders_without_checkpoints_say_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run folder"):
        find_checkpoints(tmp_path / "nowhere")
    checkpoint(tmp_path / "checkpoint-1", "config.json", "pytorch_model.bin")
    checkpoint(tmp_path / "checkpoint-2")
    with pytest.raises(UserError, match=r"holds one checkpoint, .*pickled weights are not read"):
        find_checkpoints(tmp_path)


def test_what_was_trained_on() -> None:
    assert trained_domains(SAMPLES, ["dice"], "") == ["dice"]
    assert trained_domains(SAMPLES, [], "world:math") == ["math"]
    assert trained_domains(SAMPLES[:8], [], "mine.jsonl") == ["math"]
    with pytest.raises(UserError, match="the domains math, dice; say which the run was trained on: --in-domain math"):
        trained_domains(SAMPLES, [], "mine.jsonl")
    with pytest.raises(UserError, match="--in-domain chess: the data has only math, dice"):
        trained_domains(SAMPLES, ["math", "chess"], "")


@pytest.mark.parametrize(
    "pattern",
    ["checkpoints/step_{:06d}", "checkpoints/global_step_{:06d}/actor/model", "checkpoint-{}", "{}/x/y"],
)
def test_checkpoints_do_not_look_alike_at_80_columns(pattern: str) -> None:
    """Common folders are left out of the tables, and what remains is folded, never cut."""
    made = [replace(e, name=pattern.format(1000 * e.step)) for e in estimates()]
    found = select(made, SAMPLES, ["math"], {"reward": {1: 0.5, 3: 0.25, 5: 1.0}})
    output = io.StringIO()
    terminal = Console(file=output, width=80)
    for table in list(selection_text(found).renderables)[:2]:
        terminal.print(table)
    text = output.getvalue()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    shown = [_short(e.name, found) for e in made]
    assert len(set(shown)) == 3
    assert all(len(name) <= 18 for name in shown)
    first = text[: text.index("What each criterion")]
    for name in shown:
        folds = [(f"\n {name[:k]} ", f"\n {name[k:]} ") for k in range(NAME_WIDTH, len(name))]
        assert f"\n {name} " in first or any(upper in first and lower in first for upper, lower in folds)
