"""Items 34 and 35: NaN and infinity skip the step and are reported; a micro-batch that does not fit is halved."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.nano import gradients, load_nano, make_samples, nano_recipe, random_episode, relative_error
from helpers.training import batcher_of, make_critic, make_policy
from seethink.core.types import Grade, Verdict
from seethink.generate.make import make_generator
from seethink.rewards.rewarder import Rewarder
from seethink.rl import surrogates
from seethink.rl.rollout import Episode, PromptSource, Rollouts
from seethink.runs.checkpoint import Checkpoint
from seethink.runs.folder import prepare_folder
from seethink.train.entropies import EntropyProbe
from seethink.train.faults import completion_faults
from seethink.train.grpo import Grpo
from seethink.train.hooks.bad_steps import BadNumbersError, BadSteps
from seethink.train.hooks.checkpoints import Checkpoints
from seethink.train.hooks.metrics import MetricsLog
from seethink.train.memory import OutOfMemory, TokenBudget
from seethink.train.policy import Policy, is_out_of_memory
from seethink.train.step import StepResult

REWARDS = [[1.0, 0.0, 0.2], [0.0, 1.0, 1.0]]


class Steps:
    """A GRPO or PPO run taken step by step: `learn` from an episode, `write` its metrics, `end` the step."""

    def __init__(
        self,
        folder: Path,
        out: Path,
        *overrides: str,
        dtype: torch.dtype = torch.float32,
        stage: str = "grpo",
        checkpoint: Checkpoint | None = None,
    ) -> None:
        out.mkdir(exist_ok=True)
        self.loaded = load_nano(folder, dtype)
        self.recipe = recipe = nano_recipe(folder, *overrides, stage=stage, out=str(out))
        self.critic = make_critic(recipe, self.loaded) if stage == "ppo" else None
        self.policy = make_policy(self.loaded, recipe, 10)
        others = self.critic.state() if self.critic else {}
        self.checkpoints = Checkpoints(out, recipe.checkpoint, self.policy, others, origin="nano", stage=stage)
        state = checkpoint.state if checkpoint else {}
        if checkpoint is not None:
            self.checkpoints.restore(checkpoint)
        self.step = checkpoint.step if checkpoint else 0
        self.budget = TokenBudget(batcher_of(recipe, self.loaded), self.policy)
        self._bad_steps = BadSteps(out, recipe.optim.max_bad_steps, state.get("bad_steps", 0))
        self._log = MetricsLog(out, recipe, step=self.step)
        rewarder = Rewarder(recipe.reward)
        source = PromptSource(make_samples([1]), self.loaded.chat, 0)
        rollouts = Rollouts(
            source, make_generator(self.loaded), rewarder, recipe.rollout, recipe.algorithm, recipe.seed
        )
        probe = EntropyProbe(self.policy, ("Wait",), 8)
        self._stage = Grpo(self.policy, rollouts, self.budget, probe, critic=self.critic)

    def learn(self, episode: Episode) -> dict[str, float]:
        result = self._stage.learn(episode)
        return result.metrics | self._bad_steps.measure(self.step + 1, result)

    def write(self, metrics: dict[str, float]) -> None:
        self.step += 1
        self._log.measure(self.step, StepResult(metrics, None))

    def end(self) -> None:
        self.checkpoints.end_step(self.step, {}, self._bad_steps.state())
        if self.checkpoints.is_due(self.step):
            self.checkpoints.save(self._log.sync)
        self._bad_steps.after_step(self.step, last=False)


def everything(run: Steps) -> dict[str, torch.Tensor]:
    """Weights and optimizer state."""
    state = {name: p.detach().clone() for name, p in run.policy.model.named_parameters()}
    optimizers = [run.policy.optimizer, *([run.critic.optimizer] if run.critic else [])]
    for number, optimizer in enumerate(optimizers):
        for i, entry in optimizer.state_dict()["state"].items():
            state |= {f"{number}/{i}/{key}": value.clone() for key, value in entry.items()}
    if run.critic is not None:
        state |= {f"critic/{k}": v.clone() for k, v in run.critic.head.state_dict().items()}
    return state


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def bad_loss(patch: pytest.MonkeyPatch, episode: Episode) -> None:
    loss = surrogates.policy_loss

    def nan_loss(*args: Any, **kwargs: Any) -> Any:
        value, metrics = loss(*args, **kwargs)
        return value * math.nan, metrics

    patch.setattr(surrogates, "policy_loss", nan_loss)


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
    run = Steps(random_nano, tmp_path, stage=stage)
    run.learn(random_episode(run.loaded, REWARDS))
    before, steps = everything(run), run.policy.steps_done
    episode = random_episode(run.loaded, REWARDS, seed=1)
    with pytest.MonkeyPatch.context() as patch:
        FAULTS[fault](patch, episode)
        metrics = run.learn(episode)
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
    assert run.learn(random_episode(run.loaded, REWARDS, seed=2))["optim/skipped"] == 0.0
    assert not same(before, everything(run))


def test_34_a_trainer_log_prob_names_its_sample(random_nano: Path, tmp_path: Path) -> None:
    """A weight that is NaN spoils every log-prob; the file says so of each completion."""
    run = Steps(random_nano, tmp_path)
    next(run.policy.model.parameters()).data.view(-1)[0] = math.nan
    run.learn(random_episode(run.loaded, REWARDS))
    record = json.loads((tmp_path / "bad_steps" / "step_000001.json").read_text())
    assert record["not_finite"] == ["loss"]
    assert record["samples"]
    assert all(sample["not_finite"] == ["log-prob"] for sample in record["samples"])


def test_34_after_k_in_a_row_the_run_stops(random_nano: Path, tmp_path: Path) -> None:
    run = Steps(random_nano, tmp_path, "optim.max_bad_steps=2", "checkpoint.every=100")
    with pytest.MonkeyPatch.context() as patch:
        episodes = [random_episode(run.loaded, REWARDS, seed=i) for i in range(4)]
        for number, bad in enumerate([True, False, True, True]):
            if bad:
                bad_reward(patch, episodes[number])
            run.write(run.learn(episodes[number]))
            if number < 3:
                run.end()
        with pytest.raises(BadNumbersError, match=r"2 steps in a row.*reward not finite in step 4.*step_000004\.json"):
            run.end()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["optim/skipped"] for line in lines] == [1, 0, 1, 1]


def test_34_a_resumed_run_counts_on(random_nano: Path, tmp_path: Path) -> None:
    """One bad step before the kill and one after it are two in a row."""
    overrides = ("optim.max_bad_steps=2", "checkpoint.every=1")
    run = Steps(random_nano, tmp_path, *overrides)
    with pytest.MonkeyPatch.context() as patch:
        episode = random_episode(run.loaded, REWARDS)
        bad_reward(patch, episode)
        run.write(run.learn(episode))
        run.end()
    checkpoint = prepare_folder(nano_recipe(random_nano, *overrides, out=str(tmp_path)), resume=True)
    run = Steps(random_nano, tmp_path, *overrides, checkpoint=checkpoint)
    run.write(run.learn(episode))
    with pytest.raises(BadNumbersError, match="2 steps in a row"):
        run.end()


def test_34_a_masked_reward_is_no_fault(random_nano: Path) -> None:
    completion = random_episode(load_nano(random_nano), [[1.0, 0.0]]).groups[0].completions[0]
    completion.reward, completion.grade = math.nan, Grade(Verdict.ERROR, None, "grader_timeout")
    assert completion_faults(completion) == []
    completion.grade = Grade(Verdict.CORRECT, "1", "number")
    assert completion_faults(completion) == ["reward"]


# ---- 35


def out_of_memory(limit: int, error: Callable[[], BaseException]) -> tuple[Any, list[int]]:
    """A forward that fails beyond so many tokens, and the sizes that it was asked for."""
    from seethink.models import scorer

    real, asked = scorer.token_logprobs, []

    def limited(model: Any, batch: Any, **kwargs: Any) -> Any:
        asked.append(batch.input_ids.numel())
        if torch.is_grad_enabled() and asked[-1] > limit:
            raise error()
        return real(model, batch, **kwargs)

    return limited, asked


def gradient_of(run: Steps, episode: Episode, patch: pytest.MonkeyPatch) -> torch.Tensor:
    """The gradient that reaches the optimizer in a step."""
    found: list[torch.Tensor] = []

    def record(self: Policy) -> tuple[dict[str, float], None]:
        found.append(gradients(self.model))
        self.optimizer.zero_grad(set_to_none=True)
        return {"optim/grad_norm": 1.0}, None

    patch.setattr(Policy, "optimizer_step", record)
    run.learn(episode)
    return found[0]


ERRORS: dict[str, Callable[[], BaseException]] = {
    "cuda": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "cpu": lambda: RuntimeError(
        "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
    ),
    "python": lambda: MemoryError(),
}


@pytest.mark.parametrize(("shared", "kind"), [("true", "cpu"), ("false", "cuda")])
def test_35_micro_batches_are_halved_until_they_fit(random_nano: Path, tmp_path: Path, kind: str, shared: str) -> None:
    few = (f"optim.shared_prompt={shared}", "optim.micro_tokens=320")
    run = Steps(random_nano, tmp_path, *few, dtype=torch.float64)
    episode = random_episode(run.loaded, REWARDS)
    with pytest.MonkeyPatch.context() as patch:
        whole = gradient_of(run, episode, patch)
        limited, asked = out_of_memory(20 if shared == "true" else 100, ERRORS[kind])
        patch.setattr("seethink.models.scorer.token_logprobs", limited)
        halved = gradient_of(run, episode, patch)
        tokens = run.budget.tokens
        assert tokens < run.recipe.optim.micro_tokens
        assert relative_error(halved, whole) < 1e-12
        asked.clear()
        again = gradient_of(run, episode, patch)
        assert max(asked) <= (20 if shared == "true" else 100), "what did not fit is not tried again"
        assert torch.equal(again, halved)


@pytest.mark.slow
def test_35_what_cannot_be_halved_fails_with_shape_and_hint(random_nano: Path, tmp_path: Path) -> None:
    run = Steps(random_nano, tmp_path, "optim.micro_tokens=320")
    limited, _ = out_of_memory(0, ERRORS["cuda"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seethink.models.scorer.token_logprobs", limited)
        before = everything(run)
        with pytest.raises(OutOfMemory, match=r"\[1, \d+\] tokens.*CUDA out of memory.*gradient_checkpointing=true"):
            run.learn(random_episode(run.loaded, REWARDS))
        assert same(before, everything(run))


def test_35_after_an_update_the_step_is_not_repeated(random_nano: Path, tmp_path: Path) -> None:
    """With several updates a step, doing it again would apply the first ones twice."""
    run = Steps(random_nano, tmp_path, "algorithm.minibatches=2")
    with pytest.MonkeyPatch.context() as patch:
        step = Policy.optimizer_step

        def step_then_fail(self: Policy) -> tuple[dict[str, float], str | None]:
            result = step(self)
            patch.setattr("seethink.models.scorer.token_logprobs", out_of_memory(0, ERRORS["cuda"])[0])
            return result

        patch.setattr(Policy, "optimizer_step", step_then_fail)
        with pytest.raises(OutOfMemory, match=r"after the first update of a step.*optim\.micro_tokens"):
            run.learn(random_episode(run.loaded, REWARDS))


def test_35_other_errors_are_not_taken_for_it() -> None:
    assert all(is_out_of_memory(error()) for error in ERRORS.values())
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert not is_out_of_memory(ValueError("out of memory"))
