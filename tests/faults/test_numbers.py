"""Items 34 and 35: NaN and infinity skip the step and are reported; a micro-batch that does not fit is halved."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.nano import gradients, load_nano, nano_recipe, random_episode, relative_error
from seethink.core.types import Grade, Verdict
from seethink.rl.rollout import Episode
from seethink.runs.checkpoint import Checkpoint
from seethink.train import grpo
from seethink.train.grpo import train_on
from seethink.train.hooks.bad_steps import BadNumbersError, completion_faults
from seethink.train.memory import OutOfMemory, is_out_of_memory
from seethink.train.policy import Policy
from seethink.train.ppo import Critic
from seethink.train.run import Run, prepare_folder

REWARDS = [[1.0, 0.0, 0.2], [0.0, 1.0, 1.0]]


def make_run(
    folder: Path,
    out: Path,
    *overrides: str,
    dtype: torch.dtype = torch.float32,
    stage: str = "grpo",
    checkpoint: Checkpoint | None = None,
) -> Run:
    loaded = load_nano(folder, dtype)
    recipe = nano_recipe(folder, *overrides, stage=stage, out=str(out))
    critic = Critic(recipe, loaded) if stage == "ppo" else None
    run = Run(recipe, loaded, 10, checkpoint, critic.state() if critic else {})
    run.critic = critic  # type: ignore[attr-defined]
    return run


def everything(run: Run) -> dict[str, torch.Tensor]:
    """Weights and optimizer state."""
    state = {name: p.detach().clone() for name, p in run.policy.model.named_parameters()}
    for number, optimizer in enumerate(run._optimizers()):
        for i, entry in optimizer.state_dict()["state"].items():
            state |= {f"{number}/{i}/{key}": value.clone() for key, value in entry.items()}
    if run.critic is not None:  # type: ignore[attr-defined]
        state |= {f"critic/{k}": v.clone() for k, v in run._extra["critic"].state_dict().items()}  # type: ignore[union-attr]
    return state


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def bad_loss(patch: pytest.MonkeyPatch, episode: Episode) -> None:
    loss = grpo.policy_loss

    def nan_loss(*args: Any, **kwargs: Any) -> Any:
        value, metrics = loss(*args, **kwargs)
        return value * math.nan, metrics

    patch.setattr(grpo, "policy_loss", nan_loss)


def bad_gradient(patch: pytest.MonkeyPatch, episode: Episode) -> None:
    forward_backward = Policy.forward_backward

    def with_infinity(self: Policy, *args: Any) -> Any:
        result = forward_backward(self, *args)
        gradient = next(p.grad for p in self.model.parameters() if p.grad is not None)
        gradient.view(-1)[0] = math.inf
        return result

    patch.setattr(Policy, "forward_backward", with_infinity)


def bad_reward(patch: pytest.MonkeyPatch, episode: Episode) -> None:
    episode.groups[1].completions[2].reward = math.inf


def bad_generator_logprob(patch: pytest.MonkeyPatch, episode: Episode) -> None:
    episode.groups[1].completions[2].generator_logprobs[0] = math.nan


FAULTS = {
    "loss": bad_loss,
    "gradient": bad_gradient,
    "reward": bad_reward,
    "generator log-prob": bad_generator_logprob,
}


@pytest.mark.parametrize("stage", ["grpo", "ppo"])
@pytest.mark.parametrize("fault", FAULTS)
def test_34_the_step_is_skipped_and_nothing_moves(random_nano: Path, tmp_path: Path, fault: str, stage: str) -> None:
    run = make_run(random_nano, tmp_path, stage=stage)
    critic = run.critic  # type: ignore[attr-defined]
    with run:
        train_on(run, random_episode(run.loaded, REWARDS), None, critic)
        before, steps = everything(run), run.policy.steps_done
        episode = random_episode(run.loaded, REWARDS, seed=1)
        with pytest.MonkeyPatch.context() as patch:
            FAULTS[fault](patch, episode)
            metrics = train_on(run, episode, None, critic)
        assert metrics["optim/skipped"] == 1.0
        assert same(before, everything(run)), "bit-identical"
        assert run.policy.steps_done == steps
        assert all(p.grad is None for p in run.policy.model.parameters())
        record = json.loads((tmp_path / "bad_steps" / "step_000001.json").read_text())
        assert record["not_finite"] == [fault]
        ids = [s["id"] for s in record["samples"]]
        named = fault in ("reward", "generator log-prob")
        assert ids == [episode.groups[1].prompt.sample.id] if named else len(ids) == 6
        assert record["samples"][-1]["not_finite"] == ([fault] if named else [])
        # It goes on with the next step as if nothing had been.
        assert train_on(run, random_episode(run.loaded, REWARDS, seed=2), None, critic)["optim/skipped"] == 0.0
        assert not same(before, everything(run))


def test_34_a_trainer_log_prob_names_its_sample(random_nano: Path, tmp_path: Path) -> None:
    """A weight that is NaN spoils every log-prob; the file says so of each completion."""
    run = make_run(random_nano, tmp_path)
    with run:
        next(run.policy.model.parameters()).data.view(-1)[0] = math.nan
        train_on(run, random_episode(run.loaded, REWARDS), None, None)
    record = json.loads((tmp_path / "bad_steps" / "step_000001.json").read_text())
    assert record["not_finite"] == ["loss"]
    assert record["samples"]
    assert all(sample["not_finite"] == ["log-prob"] for sample in record["samples"])


def test_34_after_k_in_a_row_the_run_stops(random_nano: Path, tmp_path: Path) -> None:
    run = make_run(random_nano, tmp_path, "optim.max_bad_steps=2", "checkpoint.every=100")
    with run, pytest.MonkeyPatch.context() as patch:
        episodes = [random_episode(run.loaded, REWARDS, seed=i) for i in range(4)]
        for number, bad in enumerate([True, False, True, True]):
            if bad:
                bad_reward(patch, episodes[number])
            run.log(train_on(run, episodes[number], None, None))
            if number < 3:
                run.save_if_due({})
        with pytest.raises(BadNumbersError, match=r"2 steps in a row.*reward not finite in step 4.*step_000004\.json"):
            run.save_if_due({})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["optim/skipped"] for line in lines] == [1, 0, 1, 1]


def test_34_a_resumed_run_counts_on(random_nano: Path, tmp_path: Path) -> None:
    """One bad step before the kill and one after it are two in a row."""
    overrides = ("optim.max_bad_steps=2", "checkpoint.every=1")
    with make_run(random_nano, tmp_path, *overrides) as run, pytest.MonkeyPatch.context() as patch:
        episode = random_episode(run.loaded, REWARDS)
        bad_reward(patch, episode)
        run.log(train_on(run, episode, None, None))
        run.save_if_due({})
    checkpoint = prepare_folder(nano_recipe(random_nano, *overrides, out=str(tmp_path)), resume=True)
    with make_run(random_nano, tmp_path, *overrides, checkpoint=checkpoint) as run:
        run.log(train_on(run, episode, None, None))
        with pytest.raises(BadNumbersError, match="2 steps in a row"):
            run.save_if_due({})


def test_34_a_masked_reward_is_no_fault(random_nano: Path) -> None:
    completion = random_episode(load_nano(random_nano), [[1.0, 0.0]]).groups[0].completions[0]
    completion.reward, completion.grade = math.nan, Grade(Verdict.ERROR, None, "grader_timeout")
    assert completion_faults(completion) == []
    completion.grade = Grade(Verdict.CORRECT, "1", "number")
    assert completion_faults(completion) == ["reward"]


# ---- 35


def out_of_memory(limit: int, error: Callable[[], BaseException]) -> tuple[Any, list[int]]:
    """A forward that fails beyond so many tokens, and the sizes that it was asked for."""
    from seethink.train import policy

    real, asked = policy.token_logprobs, []

    def limited(model: Any, batch: Any, **kwargs: Any) -> Any:
        asked.append(batch.input_ids.numel())
        if torch.is_grad_enabled() and asked[-1] > limit:
            raise error()
        return real(model, batch, **kwargs)

    return limited, asked


def gradient_of(run: Run, episode: Episode, patch: pytest.MonkeyPatch) -> torch.Tensor:
    """The gradient that reaches the optimizer in a step."""
    found: list[torch.Tensor] = []

    def record(self: Policy) -> dict[str, float]:
        found.append(gradients(self.model))
        self.optimizer.zero_grad(set_to_none=True)
        return {"optim/grad_norm": 1.0}

    patch.setattr(Policy, "optimizer_step", record)
    train_on(run, episode, None, None)
    return found[0]


ERRORS: dict[str, Callable[[], BaseException]] = {
    "cuda": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "cpu": lambda: RuntimeError(
        "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
    ),
    "python": lambda: MemoryError(),
}


@pytest.mark.parametrize("shared", ["true", "false"])
@pytest.mark.parametrize("kind", ERRORS)
def test_35_micro_batches_are_halved_until_they_fit(random_nano: Path, tmp_path: Path, kind: str, shared: str) -> None:
    run = make_run(random_nano, tmp_path, f"optim.shared_prompt={shared}", dtype=torch.float64)
    episode = random_episode(run.loaded, REWARDS)
    with run, pytest.MonkeyPatch.context() as patch:
        whole = gradient_of(run, episode, patch)
        limited, asked = out_of_memory(20 if shared == "true" else 100, ERRORS[kind])
        patch.setattr("seethink.train.policy.token_logprobs", limited)
        halved = gradient_of(run, episode, patch)
        tokens = run._budget.tokens
        assert tokens < run.recipe.optim.micro_tokens
        assert relative_error(halved, whole) < 1e-12
        asked.clear()
        again = gradient_of(run, episode, patch)
        assert max(asked) <= (20 if shared == "true" else 100), "what did not fit is not tried again"
        assert torch.equal(again, halved)


def test_35_what_cannot_be_halved_fails_with_shape_and_hint(random_nano: Path, tmp_path: Path) -> None:
    run = make_run(random_nano, tmp_path)
    limited, _ = out_of_memory(0, ERRORS["cuda"])
    with run, pytest.MonkeyPatch.context() as patch:
        patch.setattr("seethink.train.policy.token_logprobs", limited)
        before = everything(run)
        with pytest.raises(OutOfMemory, match=r"\[1, \d+\] tokens.*CUDA out of memory.*gradient_checkpointing=true"):
            train_on(run, random_episode(run.loaded, REWARDS), None, None)
        assert same(before, everything(run))


def test_35_after_an_update_the_step_is_not_repeated(random_nano: Path, tmp_path: Path) -> None:
    """With several updates a step, doing it again would apply the first ones twice."""
    run = make_run(random_nano, tmp_path, "algorithm.minibatches=2")
    with run, pytest.MonkeyPatch.context() as patch:
        step = Policy.optimizer_step

        def step_then_fail(self: Policy) -> dict[str, float]:
            result = step(self)
            patch.setattr("seethink.train.policy.token_logprobs", out_of_memory(0, ERRORS["cuda"])[0])
            return result

        patch.setattr(Policy, "optimizer_step", step_then_fail)
        with pytest.raises(OutOfMemory, match=r"after the first update of a step.*optim\.micro_tokens"):
            train_on(run, random_episode(run.loaded, REWARDS), None, None)


def test_35_other_errors_are_not_taken_for_it() -> None:
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert not is_out_of_memory(ValueError("out of memory"))
