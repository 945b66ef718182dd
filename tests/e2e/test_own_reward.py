"""A reward of one's own beside the recipe: what training takes, the commands that measure take too."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from helpers.command_line import run_command

SMALL = ("--data", "world:math", "--size", "4", "--max-new-tokens", "3")
CODE = """
def third(response, sample):
    return 1 / 3

def anything(response, sample):
    from seethink import Grade, Verdict
    return Grade(Verdict.CORRECT, response[:10], "anything goes")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module of another name for each test: Python keeps what it has imported."""
    monkeypatch.setattr("sys.path", list(sys.path))
    (tmp_path / f"reward_{tmp_path.name}.py").write_text(CODE)
    return tmp_path


def function(folder: Path, name: str) -> str:
    return f"reward.function=reward_{folder.name}:{name}"


def test_eval_grades_by_it(folder: Path) -> None:
    command = ("eval", "nano", *SMALL, "--samples", "1", "--no-greedy", "--out", "scores")
    done = run_command(*command, function(folder, "third"), cwd=folder)
    assert done.returncode == 0, done.stderr
    score = json.loads((folder / "scores" / "eval.json").read_text())["scores"][0]
    assert score["accuracy"] == pytest.approx(1 / 3)


@pytest.mark.slow
def test_modes_do_not_take_the_rules_grades_for_its_own(folder: Path) -> None:
    command = ("modes", "nano", *SMALL, "--samples", "1", "--modes", "slow", "--out", "modes.json")
    found = []
    for words in ((), (function(folder, "anything"),)):
        done = run_command(*command, *words, cwd=folder)
        assert done.returncode == 0, done.stderr
        found.append(json.loads((folder / "modes.json").read_text())["rows"][0]["accuracy"])
    assert found[0] < 1
    assert found[1] == 1


@pytest.mark.slow
def test_a_run_and_its_selection(folder: Path) -> None:
    """Training, the choice of a checkpoint without a word, and a word that says otherwise."""
    recipe = folder / "recipes" / "own.toml"
    recipe.parent.mkdir()
    (folder / f"reward_{folder.name}.py").rename(recipe.parent / f"reward_{folder.name}.py")
    recipe.write_text(
        'name = "own"\nstage = "grpo"\nout = "run"\n[data]\ntrain = "world:math"\ntrain_size = 6\n'
        "[rollout]\nprompts_per_step = 2\ngroup_size = 2\nmax_new_tokens = 3\n[algorithm]\nsteps = 2\n"
        f'[reward]\nfunction = "reward_{folder.name}:third"\n[checkpoint]\nevery = 1\nkeep = 2\n'
        "[blindness]\nevery = 0\n"
    )
    done = run_command("train", str(recipe), cwd=folder)
    assert done.returncode == 0, done.stderr
    metrics = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["reward/accuracy"] for row in metrics] == pytest.approx([1 / 3, 1 / 3])
    select = ("select", "run", "--by", "last", "--size", "4", "--samples", "1", "--max-new-tokens", "3",
              "--data", "world:math")  # fmt: skip
    for words, accuracy in (((), 1 / 3), ((function(folder, "anything"),), 1.0)):
        done = run_command(*select, *words, cwd=folder)
        assert done.returncode == 0, done.stderr
        chosen = json.loads((folder / "run" / "select.json").read_text())
        assert set(chosen["targets"]["in_domain"]["values"]) == {"checkpoints/step_000001", "checkpoints/step_000002"}
        assert all(
            value["value"] == pytest.approx(accuracy) for value in chosen["targets"]["in_domain"]["values"].values()
        )


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("reward.function=foo", "reward.function: expected module:function, e.g. myreward:grade"),
        ("reward.function=foo:bar", "reward.function='foo:bar': ModuleNotFoundError: No module named 'foo'"),
        ("reward.function=json:nope", "reward.function='json:nope': AttributeError"),
        ("reward.accuracy_weight=-1", "reward.accuracy_weight: Input should be greater than or equal to 0"),
        ("reward.acuracy_weight=1", "unknown key 'reward.acuracy_weight'; did you mean 'reward.accuracy_weight'?"),
        ("optim.lr=1", "'optim': only keys of [data] and [reward] can be given here"),
        ("reward=3", "reward: "),
    ],
)
@pytest.mark.parametrize("command", ["eval", "modes", "entropy", "hallucination", "train"])
def test_what_cannot_be_used_is_refused_before_a_model_is_loaded(
    folder: Path, command: str, word: str, said: str
) -> None:
    if command == "train":
        if word.startswith("optim"):
            return
        recipe = folder / "r.toml"
        recipe.write_text(
            'name = "x"\nstage = "grpo"\nmodel = "no-such-model"\nout = "run"\n[data]\ntrain = "world:math"\n'
        )
        done = run_command("train", str(recipe), "--dry-run", word, cwd=folder)
    else:
        done = run_command(command, "no-such-model", "--data", "world:math", word, cwd=folder)
    assert done.returncode == 2, done.stdout
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
