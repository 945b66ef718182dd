"""Held-out accuracy during training: `eval/<task>/accuracy` with its standard error, every `eval.every` steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from seethink.config import EvalConfig
from seethink.data.prompts import PromptList
from seethink.eval.runner import evaluate_task
from seethink.eval.task import Task
from seethink.generate.protocol import Generator
from seethink.rewards.rewarder import Rewarder
from seethink.train.hook import Hook
from seethink.train.policy import Policy
from seethink.train.step import StepResult


class Evaluation(Hook):
    """avg@k of every task at temperature 1, or greedy accuracy where `eval.samples` is 0, graded as the reward is."""

    def __init__(
        self,
        config: EvalConfig,
        tasks: Sequence[Task],
        generator: Generator,
        policy: Policy,
        rewarder: Rewarder,
        *,
        seed: int,
        is_last: Callable[[int], bool],
        kept_bytes: int,
    ) -> None:
        """`is_last` tells whether the run ends with a step, which is evaluated whenever it comes."""
        self._config, self._tasks, self._seed, self._is_last = config, tasks, seed, is_last
        self._generator, self._policy, self._rewarder = generator, policy, rewarder
        self._prompts = [PromptList(task.samples, policy.loaded.chat, kept_bytes=kept_bytes) for task in tasks]

    def measure(self, step: int, result: StepResult) -> dict[str, float]:
        if not self._tasks or (step % self._config.every and not self._is_last(step)):
            return {}
        started = time.perf_counter()
        metrics: dict[str, float] = {}
        self._generator.load_weights(self._policy.steps_done)
        for task, prompts in zip(self._tasks, self._prompts, strict=True):
            score = evaluate_task(
                task,
                self._generator,
                prompts,
                self._rewarder,
                samples=self._config.samples or 1,
                max_new_tokens=self._config.max_new_tokens,
                temperature=1.0 if self._config.samples else 0.0,
                seed=self._seed,
            )
            metrics |= score.metrics()
        return metrics | {"time/eval_s": time.perf_counter() - started}
