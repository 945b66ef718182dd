"""Held-out accuracy during training: `eval/<task>/accuracy` with its standard error, every `eval.every` steps."""

from __future__ import annotations

import time
from collections.abc import Sequence

from seethink.config import EvalConfig
from seethink.data.chat import Chat
from seethink.data.prompts import PromptList
from seethink.eval.runner import evaluate_task
from seethink.eval.task import Task
from seethink.generate.protocol import Generator
from seethink.rewards.rewarder import Rewarder
from seethink.train.hook import Hook
from seethink.train.step import StepResult


class Evaluation(Hook):
    """Asks every task as `seethink eval` does: avg@k at temperature 1, or greedily where `eval.samples` is 0."""

    def __init__(
        self,
        config: EvalConfig,
        tasks: Sequence[Task],
        generator: Generator,
        chat: Chat,
        rewarder: Rewarder,
        *,
        seed: int,
        last_step: int,
    ) -> None:
        self._config, self._tasks, self._seed, self._last = config, tasks, seed, last_step
        self._generator, self._rewarder = generator, rewarder
        self._prompts = [PromptList(task.samples, chat) for task in tasks]

    def measure(self, step: int, result: StepResult) -> dict[str, float]:
        if not self._tasks or (step % self._config.every and step != self._last):
            return {}
        started = time.perf_counter()
        metrics: dict[str, float] = {}
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
