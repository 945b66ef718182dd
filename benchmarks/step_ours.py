"""seethink's side of benchmarks/step.py: a child process that does what the parent asks, one JSON line each."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from step_limits import limits
from step_work import (
    BETAS,
    CLIP,
    LR,
    MAX_NORM,
    Cell,
    Phases,
    Replay,
    Row,
    claim_stdout,
    commands,
    flat,
    is_right,
    make_replay,
    make_rows,
    memory_mb,
    reset_peak,
)

from seethink.config import make_recipe
from seethink.core.types import Completion, Grade, Prompt, RolloutGroup, Sample, Verdict
from seethink.generate.make import make_generator
from seethink.models.load import load_model
from seethink.rewards.rewarder import Rewarder
from seethink.rl.rollout import Episode, PromptSource, collect_episode
from seethink.train.grpo import update
from seethink.train.hooks.entropy import EntropyLog
from seethink.train.hooks.rollouts import EpisodeRecorder
from seethink.train.policy import Policy


def grade(response: str, sample: Sample) -> Grade:
    return Grade(Verdict.CORRECT if is_right(response) else Verdict.WRONG, None, "benchmark")


def as_sample(number: int, row: Row) -> Sample:
    return Sample(str(number), row.text, tuple(row.images))


class Ours:
    """The functions of `train/grpo.py`'s loop on the work of a cell."""

    def __init__(self, cell: Cell, folder: str, overrides: list[str], steps: int) -> None:
        self.cell, self.phases = cell, Phases()
        self.loaded = load_model(folder)
        self.memory = {"loaded": reset_peak()["now"]}
        self.recipe = make_recipe(_recipe(cell, folder), overrides)
        self.policy = Policy(self.loaded, self.recipe, total_steps=1_000_000)
        self.loaded.stop_ids = ()  # every response has its full length
        samples = [as_sample(i, row) for i, row in enumerate(make_rows(cell, cell.prompts * steps))]
        self.source = PromptSource(samples, self.loaded.chat, 0)
        self.generator = make_generator(self.loaded, max_rows=self.recipe.rollout.max_rows)
        self.rewarder = Rewarder(self.recipe.reward)
        self.entropy = EntropyLog(self.recipe, self.loaded)
        self.recorder = EpisodeRecorder(Path("unused"), self.recipe, self.entropy)
        self.replay_episode: Episode | None = None
        self.steps = 0
        self.phases.wrap(self.loaded.chat, "prompt", "prompts")
        self.phases.wrap(self.generator, "generate", "rollout")
        self.phases.wrap(self.rewarder, "score", "reward")
        self.phases.wrap(self.policy, "optimizer_step", "optimizer")

    def check(self, path: str) -> dict[str, Any]:
        """Loss and gradient of a ragged replay, without a step. The bench's peer has no banned ids, so neither here."""
        episode = self._episode(make_replay(self.cell, min(2, self.cell.prompts), 1, ragged=True))
        kept, banned = self.policy.optimizer_step, self.loaded.banned_ids
        gradients: dict[str, torch.Tensor] = {}

        def catch() -> dict[str, float]:
            named = self.loaded.model.named_parameters()
            gradients.update((n, torch.zeros_like(p) if p.grad is None else p.grad.clone()) for n, p in named)
            self.policy.optimizer.zero_grad(set_to_none=True)
            return {}

        self.policy.optimizer_step, self.loaded.banned_ids = catch, ()
        metrics = update(self.policy, self.recipe, episode, None, None)
        self.policy.optimizer_step, self.loaded.banned_ids = kept, banned
        np.save(path, flat(gradients))
        return {"loss": metrics["loss/policy"], "parameters": len(gradients)}

    def replay(self) -> dict[str, float]:
        """Track 1: from token ids, image tensors and advantages to updated weights."""
        if self.replay_episode is None:
            self.replay_episode = self._episode(make_replay(self.cell, self.cell.prompts, 2))
        self.phases.start()
        with self.phases.span("fwd_bwd"):
            update(self.policy, self.recipe, self.replay_episode, None, None)
        return self.phases.stop()

    def step(self) -> dict[str, float]:
        """Track 2: the body of `train_rl`'s loop, less checkpoints, files and the blindness guard."""
        self.replay_episode = None
        self.phases.start()
        watched = self.entropy.watched_ids
        episode = collect_episode(self.recipe, self.source, self.generator, self.rewarder, self.steps, watched)
        with self.phases.span("fwd_bwd"):
            update(self.policy, self.recipe, episode, None, None)
        self.recorder.metrics(episode)
        self.steps += 1
        seconds = self.phases.stop()
        lengths = {len(c.token_ids) for group in episode.groups for c in group.completions}
        assert lengths == {self.cell.response}, lengths
        return seconds

    def _episode(self, replay: Replay) -> Episode:
        prompts = [self._prompt(i, row) for i, row in enumerate(replay.rows)]
        groups = [RolloutGroup(prompt, []) for prompt in prompts]
        pairs = zip(replay.token_ids, replay.advantages, strict=True)
        for i, (ids, advantage) in enumerate(pairs):
            zeros = [0.0] * len(ids)
            completion = Completion(ids, zeros, zeros, "", True, 0, reward=0.0, advantage=advantage)
            groups[i // self.cell.group].completions.append(completion)
        return Episode(groups, self.cell.response)

    def _prompt(self, number: int, row: Row) -> Prompt:
        return self.loaded.chat.prompt(as_sample(number, row))

    def about(self) -> dict[str, Any]:
        prompt = self._prompt(0, make_rows(self.cell, 1)[0])
        parameters = sum(p.numel() for p in self.loaded.model.parameters())
        return {"prompt_tokens": len(prompt.input_ids), "parameters": parameters, "loaded_mb": self.memory["loaded"]}


def _recipe(cell: Cell, folder: str) -> dict[str, Any]:
    return {
        "name": "bench",
        "stage": "grpo",
        "model": folder,
        "out": "unused",
        "data": {"train": "world:math", "train_size": 16},
        "optim": {"lr": LR, "betas": BETAS, "max_grad_norm": MAX_NORM},
        "rollout": {"prompts_per_step": cell.prompts, "group_size": cell.group, "max_new_tokens": cell.response},
        "algorithm": {"clip_low": CLIP, "clip_high": CLIP, "aggregation": "sequence", "steps": 1_000_000},
        "reward": {"function": "step_ours:grade", "accuracy_weight": 1.0, "format_weight": 0.0},
    }


def main() -> None:
    pipe = claim_stdout()
    side: Ours | None = None
    for command in commands():
        answer: dict[str, Any]
        match command["do"]:
            case "load":
                torch.set_num_threads(command["threads"])
                cell = Cell(**command["cell"])
                side = Ours(cell, command["folder"], command["overrides"], command["steps"])
                answer = side.about()
            case "check":
                answer = side.check(command["path"])
            case "limits":
                answer = limits(side.loaded.model, side.cell)
            case "reset":
                answer = reset_peak()
            case "memory":
                answer = memory_mb()
            case "replay" | "step" as track:
                answer = getattr(side, track)()
        print(json.dumps(answer), file=pipe)


if __name__ == "__main__":
    sys.modules["step_ours"] = sys.modules["__main__"]
    main()
