"""Ask a model the items of a task, grade what it responds, and score it. Nothing here touches a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from seethink.config import EvalConfig
from seethink.core.console import progress_bar
from seethink.core.types import Completion, Prompt
from seethink.eval.score import TaskScore, score_responses
from seethink.eval.task import Task
from seethink.generate.protocol import Generator, Sampling
from seethink.rewards.rewarder import Rewarder

STREAM = 10**6
"""Sets the random numbers of evaluation apart from those of training steps, which are seeded with (seed, step, ...)."""


def evaluate_task(
    task: Task,
    generator: Generator,
    prompts: Sequence[Prompt],
    rewarder: Rewarder,
    *,
    samples: int,
    max_new_tokens: int,
    temperature: float = 1.0,
    seed: int = 0,
    label: str | None = None,
) -> TaskScore:
    """Score a model on a task: avg@k with k = `samples`, or greedy decoding at temperature 0.

    Args:
        prompts: [N] Those of `task.samples`, in their order: `PromptList(task.samples, chat)`. A caller that
            evaluates often keeps the list, so that images are processed once.
        samples: Responses per item.
        label: Names a progress bar on the terminal; None shows no bar.

    Example: `evaluate_task(task, generator, PromptList(task.samples, chat), rewarder, samples=4, max_new_tokens=512)`
    """
    responses = draw_graded(
        task, generator, prompts, rewarder, samples, Sampling(max_new_tokens, temperature), seed, label=label
    )
    return score_responses(task, responses, mode_name(samples, temperature))


def evaluate_modes(
    task: Task,
    generator: Generator,
    prompts: Sequence[Prompt],
    rewarder: Rewarder,
    config: EvalConfig,
    *,
    seed: int = 0,
    label: str,
) -> list[TaskScore]:
    """One score for each mode that `[eval]` asks for: avg@k, greedy, or both."""
    return [
        evaluate_task(
            task,
            generator,
            prompts,
            rewarder,
            samples=samples,
            max_new_tokens=config.max_new_tokens,
            temperature=temperature,
            seed=seed,
            label=f"eval {label} {mode_name(samples, temperature)}",
        )
        for samples, temperature in sampling_modes(config)
    ]


def draw_graded(
    task: Task,
    generator: Generator,
    prompts: Sequence[Prompt],
    rewarder: Rewarder,
    samples: int,
    sampling: Sampling,
    seed: int,
    *,
    label: str | None = None,
    opening: str = "",
) -> list[list[Completion]]:
    """[N][k] graded responses to the [N] prompts of the task's items, k = `samples`.

    `opening` is text of the response that the prompt already holds. What is random in one response is a function of
    (seed, place of the item, number of the response) alone, so that calls with other rules or other weights are paired.
    """
    with _progress(label, len(prompts)) as advance:
        groups = generator.generate(prompts, samples, sampling, (seed, STREAM), advance)
    for completion in (c for group in groups for c in group):
        completion.text = opening + completion.text
    grade_responses(task, groups, rewarder)
    return groups


def grade_responses(task: Task, responses: Sequence[Sequence[Completion]], rewarder: Rewarder) -> None:
    """Fill in grade and reward of each response [N][k], as the task grades them."""
    pairs = [(s, c) for s, group in zip(task.samples, responses, strict=True) for c in group]
    rewarder.reward(pairs, task.grade([(sample, c.text) for sample, c in pairs], rewarder))


def sampling_modes(config: EvalConfig) -> list[tuple[int, float]]:
    """(responses per item, temperature) of each mode that `[eval]` asks for; avg@k comes first."""
    sampled = [(config.samples, 1.0)] if config.samples else []
    return sampled + ([(1, 0.0)] if config.greedy else [])


def mode_name(samples: int, temperature: float) -> str:
    """`avg@k`, or `greedy`."""
    return f"avg@{samples}" if temperature > 0 else "greedy"


@contextmanager
def _progress(label: str | None, total: int) -> Iterator[Callable[[int], None] | None]:
    if label is None:
        yield None
        return
    with progress_bar(label, total) as advance:
        yield lambda count: advance(count, "")
