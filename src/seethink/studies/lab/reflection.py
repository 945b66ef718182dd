"""reflection.json: how often "Wait" follows wrong and right first attempts, at every kept checkpoint of an RL run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from seethink.config import EvalConfig
from seethink.core.files import write_json
from seethink.core.types import Completion
from seethink.data.prompts import PromptList
from seethink.eval.runner import STREAM
from seethink.eval.task import Task
from seethink.eval.tasks.source import load_source_task
from seethink.generate.make import make_generator
from seethink.generate.protocol import Sampling
from seethink.models.load import load_model
from seethink.runs.reading import final_model
from seethink.studies.lab.reading import REFLECTION
from seethink.studies.lab.schema import LabError
from seethink.studies.selection.checkpoints import find_checkpoints, step_of
from seethink.world.v2.items import item_of
from seethink.world.v2.said import Attempt, Calibration, calibration, first_attempts

SAMPLES = 2
"""Responses per question."""


def write_reflection(model: str, folder: Path, settings: dict[str, Any]) -> None:
    """The model that training started from as step 0, and every kept checkpoint, on the same questions."""
    start = final_model(folder.parent / settings["start"])
    if start is None:
        raise LabError(f"{folder.parent / settings['start']} is not trained, and the curve begins with it")
    paths = find_checkpoints(folder)
    steps = [0, *(step_of(path, folder, place) for place, path in enumerate(paths))]
    loaded, seed = load_model(str(start)), settings["seed"]
    task = load_source_task(EvalConfig(data=settings["data"], size=settings["size"]), seed, chat=loaded.chat)
    prompts, sampling = PromptList(task.samples, loaded.chat), Sampling(settings["max_new_tokens"])
    found = []
    for step, path in zip(steps, [start, *paths], strict=True):
        generator = make_generator(load_model(str(path)))
        groups = generator.generate(prompts, SAMPLES, sampling, (seed, STREAM))
        found.append({"step": step, **asdict(calibration_of(task, groups))})
    write_json(folder / REFLECTION, {"data": settings["data"], "seed": seed, "checkpoints": found})


def calibration_of(task: Task, groups: Sequence[Sequence[Completion]]) -> Calibration:
    """Over all first attempts in the responses [N][any] to the task's questions about the second world."""
    attempts: list[Attempt] = []
    for sample, group in zip(task.samples, groups, strict=True):
        problem = item_of(sample.id).problem
        attempts += [one for completion in group for one in first_attempts(problem, completion.text)]
    return calibration(attempts)
