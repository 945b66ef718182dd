"""Whole runs with rollouts one step ahead and a scripted vLLM server: what overlaps, and that kills and ranks change
nothing."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.fork_server import ForkServer, Request
from helpers.killing import outcome, write_recipe
from helpers.nano import load_nano
from helpers.ranks import train_on_ranks
from helpers.same_run import assert_same_run, numbers
from helpers.scripted_openai import Reply
from helpers.scripted_vllm import Expands, ScriptedVllm
from seethink.core.exits import EXIT_RESUME

pytestmark = pytest.mark.slow
STEPS = 5
KEYS: dict[str, Any] = {
    "stage": "grpo",
    "data.train": "world:math",
    "data.train_size": 11,
    "rollout.engine": "vllm",
    "rollout.ahead": 1,
    "rollout.prompts_per_step": 3,
    "rollout.group_size": 4,
    "rollout.max_new_tokens": 6,
    "algorithm.steps": STEPS,
    "reward.function": "helpers.nano:likes_e",
    "blindness.every": 0,
}


class Versioned(ScriptedVllm):
    """Samples other tokens from other weights, and notes by which version each prompt was answered."""

    def __init__(self, model: Path) -> None:
        loaded = load_nano(model)
        super().__init__(loaded, self._by_version)
        self.asked: list[tuple[int, int]] = []
        """(seed, version of the weights), in the order of arrival."""
        self.expanded = Expands(loaded)  # type: ignore[assignment]

    def _by_version(self, nth: int, body: dict[str, Any]) -> Reply:
        version, sampling = int(self.version.rpartition("-")[2]), body["sampling_params"]
        self.asked.append((sampling["seed"], version))
        return self.proper(body | {"sampling_params": sampling | {"seed": sampling["seed"] + 1000 * version}})


@pytest.fixture(scope="module")
def served(random_nano: Path) -> Iterator[ScriptedVllm]:
    with Versioned(random_nano) as server:
        yield server


@pytest.fixture(scope="module")
def forks() -> Iterator[ForkServer]:
    with ForkServer() as running:
        yield running


def recipe_in(folder: Path, model: Path, served: ScriptedVllm, **more: Any) -> Path:
    return write_recipe(folder, "run", **KEYS | {"model": str(model), "vllm.urls": [served.url]} | more)


@pytest.fixture(scope="module")
def whole(
    forks: ForkServer, served: Versioned, random_nano: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[tuple[int, int]]]:
    """A run that nothing interrupted, and what the server was asked."""
    recipe = recipe_in(tmp_path_factory.mktemp("whole"), random_nano, served)
    served.asked.clear()
    ended = forks.run(Request(recipe))
    assert ended.status == 0, ended.output
    return recipe.with_suffix(""), list(served.asked)


def test_each_step_but_the_first_learns_from_weights_of_the_step_before(
    whole: tuple[Path, list[tuple[int, int]]],
) -> None:
    run, asked = whole
    assert [record["rollout/staleness"] for record in numbers(run)] == [0, 1, 1, 1, 1]
    assert [version for _, version in asked] == [0] * 6 + [1] * 3 + [2] * 3 + [3] * 3
    assert all(0 < record["mismatch_kl/weight"] <= 2 for record in numbers(run))


@pytest.mark.parametrize(
    ("at", "number"),
    [
        ("update 2", signal.SIGKILL),
        ("update 3", signal.SIGKILL),
        ("logged 4", signal.SIGKILL),
        ("update 3", signal.SIGTERM),
        ("logged 3", signal.SIGTERM),
    ],
)
def test_a_run_that_was_stopped_anywhere_goes_on_as_if_it_had_not_been(
    forks: ForkServer,
    served: Versioned,
    whole: tuple[Path, list[tuple[int, int]]],
    random_nano: Path,
    tmp_path: Path,
    at: str,
    number: int,
) -> None:
    """Checkpoints hold what was sampled ahead, by weights that are gone: tokens, log-probs and weights are equal to the
    bit, and nothing that a checkpoint holds is asked for again."""
    recipe = recipe_in(tmp_path, random_nano, served)
    ended = forks.run(Request(recipe, at=at, number=signal.Signals(number)))
    assert ended.status == (EXIT_RESUME if number == signal.SIGTERM else -signal.SIGKILL), ended.output
    assert "Traceback" not in ended.output
    served.asked.clear()
    ended = forks.run(Request(recipe, resume=True))
    assert ended.status == 0, ended.output
    run, asked = whole
    found, expected = outcome(recipe.with_suffix("")), outcome(run)
    found.pop("checkpoints"), expected.pop("checkpoints")  # a signal makes one out of turn
    assert found == expected
    assert set(served.asked) <= set(asked)


def test_a_grace_time_that_is_over_ends_what_is_sampled_ahead(
    forks: ForkServer, served: Versioned, whole: tuple[Path, list[tuple[int, int]]], random_nano: Path, tmp_path: Path
) -> None:
    """The server hangs in the background of the third step, which is left: the run goes on from the second one."""
    recipe = recipe_in(tmp_path, random_nano, served, **{"checkpoint.grace_s": 1.0})
    script, count = served.script, 0

    def hanging(nth: int, body: dict[str, Any]) -> Reply | None:
        nonlocal count
        count += 1
        return script(nth, body) if count <= 9 else lambda handler: handler.server.stopping.wait(5)  # type: ignore

    served.script = hanging
    ended = forks.run(Request(recipe, at="update 3", number=signal.SIGTERM))
    served.script = script
    assert ended.status == EXIT_RESUME, ended.output
    assert "stopped after step 2, the checkpoint of step 2 is complete" in " ".join(ended.output.split())
    ended = forks.run(Request(recipe, resume=True))
    assert ended.status == 0, ended.output
    assert_same_run(recipe.with_suffix(""), whole[0])


@pytest.mark.parametrize("shard", ["none", "zero2"])
def test_two_ranks_make_the_run_of_one(
    served: Versioned, whole: tuple[Path, list[tuple[int, int]]], random_nano: Path, tmp_path: Path, shard: str
) -> None:
    recipe = recipe_in(tmp_path, random_nano, served, **{"cluster.shard": shard})
    train_on_ranks(2, recipe)
    assert_same_run(recipe.with_suffix(""), whole[0])


def test_an_evaluation_between_the_steps_is_of_the_newest_weights(
    forks: ForkServer, served: Versioned, random_nano: Path, tmp_path: Path
) -> None:
    """It changes neither what is sampled ahead nor which weights sample it, with dynamic sampling too."""
    changed = {"algorithm.dynamic_sampling": True, "algorithm.max_resamples": 1}
    plain = recipe_in(tmp_path / "plain", random_nano, served, **changed)
    other = recipe_in(
        tmp_path / "other", random_nano, served,
        **changed | {"eval.data": "world:math", "eval.every": 2, "eval.size": 2, "eval.max_new_tokens": 6},
    )  # fmt: skip
    for recipe in (plain, other):
        ended = forks.run(Request(recipe))
        assert ended.status == 0, ended.output
    ours, theirs = numbers(other.with_suffix("")), numbers(plain.with_suffix(""))
    assert [{key: record[key] for key in their} for record, their in zip(ours, theirs, strict=True)] == theirs
    assert [record["step"] for record in ours if any(key.startswith("eval/") for key in record)] == [2, 4, 5]
    assert 0 < sum(record["rollout/staleness"] for record in ours) < STEPS - 1
