"""One model evaluated on one data source, with its files where a folder is given: what `seethink eval` does."""

from __future__ import annotations

from pathlib import Path

from seethink.config import EvalConfig, ReadConfig, RewardConfig, ToolConfig
from seethink.core.console import console
from seethink.core.errors import UserError
from seethink.data.prompts import PromptList
from seethink.data.quarantine import FILE, Quarantine
from seethink.eval.presentation import claim_evaluation, score_table, write_evaluation
from seethink.eval.runner import evaluate_modes
from seethink.eval.score import TaskScore
from seethink.eval.tasks.source import load_source_task
from seethink.generate.conversations import introduced, with_environment
from seethink.generate.make import make_generator
from seethink.models.load import load_model
from seethink.rewards.rewarder import command_rewarder


def evaluate_model(
    model: str,
    config: EvalConfig,
    *,
    reading: ReadConfig | None = None,
    reward: RewardConfig | None = None,
    tools: ToolConfig | None = None,
    seed: int = 0,
    out: Path | None = None,
) -> list[TaskScore]:
    """One score per mode that `config` names; graded by rules, or as `reward` says; with `tools`, in several turns.

    Writes eval.json, items and rollouts to `out`. Raises UserError.
    """
    tools = tools or ToolConfig()
    if out is not None:
        claim_evaluation(out)
    quarantine = Quarantine(out / "eval" / FILE if out is not None else None)
    with command_rewarder(reward) as rewarder:
        loaded, label = load_model(model), Path(model).name
        loaded.chat.limit_images(reading or ReadConfig())
        chat = introduced(tools, loaded.chat)
        generator = with_environment(tools, make_generator(loaded), chat)
        task = load_source_task(config, seed, chat=chat, reading=reading, quarantine=quarantine)
        prompts = PromptList(task.samples, chat)
        scores = evaluate_modes(task, generator, prompts, rewarder, config, seed=seed, label=label)
    if out is not None:
        try:
            write_evaluation(out, task, prompts, scores, label=label, model=loaded.source, seed=seed, tools=tools)
        except OSError as error:
            console.print(score_table(part for score in scores for part in score.parts))
            raise UserError(
                f"--out {str(out)!r} was not written, and the scores above are all there is: {error}"
            ) from None
    return scores
