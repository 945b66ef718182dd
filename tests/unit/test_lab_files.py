"""The packaged experiments: what their files may say, and that all of them resolve to recipes."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from seethink.studies.lab.scales import load_scales
from seethink.studies.lab.schema import Arm, Check, Claim, LabError, Term, _experiment, load_experiments

ROWS = {
    "entropy-selection", "vision-frozen", "connector-frozen", "curriculum", "learning-rate", "dynamic-sampling",
    "clip-higher", "post-rl-tuning", "rl-against-sft", "inference-modes", "thinking-budgets", "hallucination",
    "entropy-tail", "rl-zero", "other-connector", "other-architecture", "weak-base",
    "own-traces", "decodings", "methods", "parts", "random-rewards", "selection", "causal-entropy", "reflection",
}  # fmt: skip
GOOD = """
name = "mine"
title = "Mine"
section = "5.2"
[arms.frozen]
parent = "cold"
stage = "rl"
[[claims]]
text = "less"
paper = "none"
left = { arm = "frozen", metric = "reward/mean" }
right = { arm = "rl", metric = "reward/mean" }
expect = "less"
least = 0.05
"""
CHECK = '[checks.mine]\ntext = "t"\nvalue = { arm = "rl", metric = "x" }\nat_least = 1\n'
SHARED = "[arms.base]\nmodel = 'base'\n[arms.cold]\nparent = 'base'\nstage = 'coldstart'\n"
SHARED += "[arms.rl]\nparent = 'cold'\nstage = 'rl'\n" + CHECK.replace("mine", "learns")


def load(tmp_path: Path, text: str) -> None:
    from seethink.studies.lab.schema import Shared

    (tmp_path / "mine.toml").write_text(text)
    _experiment(tmp_path / "mine.toml", Shared.model_validate(tomllib.loads(SHARED)))


def test_there_is_one_for_each_row_of_the_paper_and_each_open_question() -> None:
    experiments = load_experiments()
    assert set(experiments) == ROWS
    assert [e.section for e in experiments.values()] == sorted(e.section for e in experiments.values())
    assert all(claim.paper for e in experiments.values() for claim in e.claims)


def test_every_arm_of_a_file_is_asked_about_or_a_parent_of_one_that_is() -> None:
    for experiment in load_experiments().values():
        asked = {name for claim in experiment.claims for term in claim.terms for name in term.arms}
        parents = {experiment.arms[name].parent for name in experiment.arms}
        for name in experiment.arms.keys() - {"base", "cold", "rl"}:
            assert name in asked | parents, f"{experiment.name}: {name}"


def test_rl_is_judged_by_its_last_three_checkpoints_unless_another_arm_starts_from_the_last() -> None:
    for experiment in load_experiments().values():
        arms = experiment.arms

        def starts_from(name: str, origin: str, arms: dict[str, Arm] = arms) -> bool:
            parent = arms[name].parent
            return parent is not None and (parent == origin or starts_from(parent, origin))

        for claim in experiment.claims:
            others = [name for term in claim.terms for name in term.arms]
            for term in claim.terms:
                if term.eval and arms[term.arm].stage == "rl":
                    is_start = any(starts_from(name, term.arm) for name in others)
                    assert term.newest == (1 if is_start else 3), f"{experiment.name}: {claim.text}"


def test_a_good_file_is_read(tmp_path: Path) -> None:
    load(tmp_path, GOOD)
    load(tmp_path, GOOD + 'checks = ["learns", "mine"]\n' + CHECK)


def test_a_check_has_a_bound_on_one_side() -> None:
    value = Term(arm="rl", metric="x")
    least, most = Check(text="t", value=value, at_least=2), Check(text="t", value=value, at_most=0)
    assert [least.holds(x) for x in (1.9, 2.0)] == [False, True]
    assert [most.holds(x) for x in (0.0, 0.1)] == [True, False]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('title = "Mine"', 'title = "Mine"\nheadline = "x"', "unknown key 'headline'"),
        ('stage = "rl"', 'stage = "rl"\nsteps = 5', "unknown key 'arms.frozen.steps'"),
        ('stage = "rl"', 'stage = "dpo"', "arms.frozen.stage"),
        ('stage = "rl"', 'stage = "tune"\ndifficulty = ["hard"]', "difficulty is of arms of stage rl"),
        ('stage = "rl"', 'stage = "rl"\ndifficulty = ["level 3"]', "arms.frozen.difficulty"),
        ('stage = "rl"', 'stage = "rl"\ndenials = 0.2', "denials is of arms of stage coldstart"),
        ('parent = "cold"', 'parent = "warm"', "no arm 'warm'; there are base, cold, rl, frozen"),
        ('parent = "cold"', 'parent = "frozen"', "arm 'frozen' is its own ancestor"),
        ('parent = "cold"', 'parent = "cold"\nmodel = "nano"', "give either parent or model"),
        ('name = "mine"', 'name = "yours"', "name = 'yours' is not the file's name"),
        ("[arms.frozen]", "[arms.rl]", "arm 'rl' is in shared.toml already"),
        ('arm = "rl", metric', 'arm = "rk", metric', "no arm 'rk'"),
        ('arm = "rl", metric', 'arm = "rl", newest = 3, metric', "newest is of eval"),
        ('arm = "rl", metric = "reward/mean"', 'arm = "rl", newest = 2, eval = "accuracy"', "newest"),
        (
            'arm = "rl", metric = "reward/mean"',
            'arm = "cold", newest = 3, eval = "tokens"',
            "is of RL arms, and 'cold'",
        ),
        ('arm = "rl", metric', 'arm = "rl", eval = "accuracy", metric', "give exactly one of"),
        ('{ arm = "rl", metric = "reward/mean" }', '{ arm = "rl" }', "give exactly one of"),
        ('"reward/mean" }\nexpect', '"reward/mean", span = [0.9, 0.5] }\nexpect', "span [0.9, 0.5]"),
        ('"reward/mean" }\nexpect', '"reward/mean", stat = "sum" }\nexpect', "stat"),
        ('{ arm = "rl", metric = "reward/mean" }', '{ arm = "rl", regret = "reward" }', "of domain 'in' or 'out'"),
        ('expect = "less"', 'expect = "fewer"', "expect"),
        ("least = 0.05", "least = 0.05\nratio = true", "a ratio needs right, and a least of 1 or more"),
        ("least = 0.05", "least = -1", "least"),
        ("least = 0.05", 'least = 0.05\nchecks = ["width"]', "no check 'width'; there are learns"),
        (
            "[arms.frozen]",
            CHECK.replace("mine", "learns") + "[arms.frozen]",
            "check 'learns' is in shared.toml already",
        ),
        ("[arms.frozen]", CHECK + "at_most = 1\n[arms.frozen]", "give either at_least or at_most"),
        ("least = 0.05", 'least = 0.05\nchecks = ["mine"]\n' + CHECK.replace('"rl"', '"ra"'), "no arm 'ra'"),
        ("least = 0.05", "least = ", "not a readable TOML file"),
        ('stage = "rl"', 'stage = "rl"\nundo = ["vision"]', "undo is of an arm with a parent, and without a stage"),
        ('stage = "rl"', 'undo = ["eyes"]', "arms.frozen.undo"),
        ('parent = "cold"\nstage = "rl"', 'parent = "base"\nundo = ["vision"]', "its parent 'base' is not trained"),
        (
            "[arms.frozen]",
            '[arms.half]\nparent = "cold"\nundo = ["vision"]\n[arms.on]\nparent = "half"\nstage = "rl"\n[arms.frozen]',
            "arm 'on' trains on from 'half', which has no recipe",
        ),
    ],
)
def test_what_a_file_may_not_say(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert GOOD.count(old) == 1
    with pytest.raises(LabError) as error:
        load(tmp_path, GOOD.replace(old, new))
    assert said in str(error.value)
    assert "mine.toml" in str(error.value)


def test_a_budget_is_for_the_mode_budget() -> None:
    for wrong in ({"mode": "budget"}, {"mode": "slow", "budget": 0.5}):
        with pytest.raises(ValueError, match="go together"):
            Term(arm="rl", **wrong)  # type: ignore[arg-type]


def test_the_budgets_asked_about_are_budgets_of_every_scale() -> None:
    shares = {t.budget for e in load_experiments().values() for c in e.claims for t in c.terms if t.budget}
    assert len(shares) >= 3
    for scale in load_scales().values():
        assert {share * max(scale.budgets) for share in shares} <= set(scale.budgets)
        assert max(scale.budgets) < scale.eval.max_new_tokens


def test_a_ratio_is_told_as_a_factor() -> None:
    ratios = [c for e in load_experiments().values() for c in e.claims if c.ratio]
    assert ratios
    assert all(isinstance(c, Claim) and c.least >= 1 and (c.paper_effect or 1) > 0 for c in ratios)


def test_twelve_claims_of_the_paper_are_primary() -> None:
    """Its main statements, named before anything runs: to change the list after a run would be to choose results."""
    primary = [(e.name, c.text) for e in load_experiments().values() for c in e.claims if c.primary]
    assert primary == [
        ("entropy-selection", "Critical-token entropy goes with accuracy"),
        ("connector-frozen", "The reward drops sharply"),
        ("vision-frozen", "The reward curve is much the same"),
        ("curriculum", "No gain in generalisation over mixed problems"),
        ("learning-rate", "Later its policy destabilises"),
        ("clip-higher", "Training collapses"),
        ("post-rl-tuning", "Connector alone: accuracy rises"),
        ("post-rl-tuning", "All parts: accuracy falls"),
        ("rl-against-sft", "RL generalises better than SFT"),
        ("rl-against-sft", "SFT loses out-of-domain accuracy"),
        ("rl-against-sft", "RL gains out-of-domain accuracy"),
        ("rl-zero", "Training collapses late"),
    ]
