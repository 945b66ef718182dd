"""forks.json: the critical-token entropy of an arm's checkpoints where its seed's cold start turned."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from seethink.config import EvalConfig
from seethink.core.files import write_json
from seethink.data.prompts import PromptList
from seethink.entropy.meter import EntropyMeter
from seethink.eval.runner import STREAM
from seethink.eval.tasks.source import load_source_task
from seethink.generate.make import make_generator
from seethink.generate.protocol import Sampling
from seethink.models.load import load_model
from seethink.runs.reading import final_model
from seethink.studies.entropy.measurement import EntropySettings
from seethink.studies.lab.reading import FORKS
from seethink.studies.lab.schema import LabError
from seethink.studies.measurement_cache import MeasurementCache, measured_on
from seethink.studies.selection.checkpoints import find_checkpoints, step_of
from seethink.studies.selection.forks import Fork, find_forks, fork_entropies

SAMPLES = 12
"""Responses per question among which forks are looked for."""
MOST = 256
"""Forks that are measured."""


def write_forks(model: str, folder: Path, settings: dict[str, Any]) -> None:
    """Every checkpoint of the arm at the same forks, which are the same for all arms of the seed."""
    asked = EntropySettings(samples=SAMPLES, max_new_tokens=settings["max_new_tokens"])
    prompts, forks = fixed_forks(folder.parent / settings["reference"], settings, asked)
    checkpoints = {}
    for place, path in enumerate(find_checkpoints(folder)):
        loaded = load_model(str(path))
        prompts.chat = loaded.chat
        entropies = [round(x, 6) for x in fork_entropies(loaded, prompts, forks, asked).tolist()]
        name = path.relative_to(folder).as_posix()
        checkpoints[name] = {"step": step_of(path, folder, place), "entropies": entropies}
    write_json(folder / FORKS, {"reference": settings["reference"], "checkpoints": checkpoints})


def fixed_forks(reference: Path, settings: dict[str, Any], asked: EntropySettings) -> tuple[PromptList, list[Fork]]:
    """The questions, and where the arm in the folder `reference` turned; found once and kept in that folder.

    Two processes that look at the same time find the same. Raises LabError where the arm is not trained.
    """
    trained = final_model(reference)
    if trained is None:
        raise LabError(f"{reference} is not trained, and forks are looked for in its responses")
    loaded, seed = load_model(str(trained)), settings["seed"]
    task = load_source_task(EvalConfig(data=settings["data"], size=settings["size"]), seed, chat=loaded.chat)
    prompts, cache = PromptList(task.samples, loaded.chat), MeasurementCache(reference / "forks.parts")
    key = {"measure": "forks", "seed": seed, "most": MOST, **asdict(asked), **measured_on(loaded, task.samples)}
    found = cache.get(key)
    if found is None:
        sampling = Sampling(asked.max_new_tokens, asked.temperature)
        groups = make_generator(loaded).generate(prompts, asked.samples, sampling, (seed, STREAM))
        forks = find_forks(groups, EntropyMeter(loaded.chat, asked.words, asked.window), MOST)
        found = [[fork.item, list(fork.token_ids)] for fork in forks]
        cache.put(key, found)
    return prompts, [Fork(item, tuple(ids)) for item, ids in found]
