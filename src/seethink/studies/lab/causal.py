"""causal.jsonl: accuracy where the sampling temperature is raised at forks alone, or elsewhere alone.

A fork is a place where the model would say a critical word with some probability. That the entropy of such places goes
with accuracy (paper 5.1) does not say that it brings it: here it is added, and as much elsewhere for comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from seethink.config import EvalConfig, LogConfig, RewardConfig
from seethink.core.files import write_json, write_json_lines
from seethink.core.types import Completion, RolloutGroup
from seethink.data.prompts import PromptList
from seethink.entropy.critical import watched_ids
from seethink.entropy.meter import EntropyMeter
from seethink.eval.presentation import spread
from seethink.eval.runner import draw_graded
from seethink.eval.score import item_accuracy
from seethink.eval.tasks.source import load_source_task
from seethink.generate.make import make_generator
from seethink.generate.protocol import ForkTemperature, Rule, Sampling
from seethink.models.load import LoadedModel, load_model
from seethink.rewards.rewarder import Rewarder
from seethink.studies.entropy.measurement import EntropySettings, score_groups
from seethink.studies.lab.reading import HEATED, HEATED_ABOUT
from seethink.studies.lab.schema import LabError

SAMPLES = 2
"""Responses per item and variant."""
SHARE = 0.05
"""Probability of a critical word from which on a place is a fork."""
HOTTER = 2.0
"""Temperature at forks."""
CALIBRATED_ON = 120
"""Items whose responses tell how much entropy a temperature adds."""
HALVINGS = 12


def write_causal(model: str, folder: Path, settings: dict[str, Any]) -> None:
    """causal.jsonl, a line for each item with its accuracy by variant, and causal.json, what was changed."""
    loaded, seed = load_model(model), settings["seed"]
    task = load_source_task(EvalConfig(data=settings["data"], size=settings["size"]), seed, chat=loaded.chat)
    prompts, generator = PromptList(task.samples, loaded.chat), make_generator(loaded)
    ids = watched_ids(loaded.chat, LogConfig().critical_words)
    with Rewarder(RewardConfig(), run_folder=folder) as rewarder:

        def draw(*rules: Rule) -> list[list[Completion]]:
            sampling = Sampling(settings["max_new_tokens"], rules=rules, watched_ids=ids)
            return draw_graded(task, generator, prompts, rewarder, SAMPLES, sampling, seed, label=folder.name)

        found = {"plain": draw()}
        places = spread(len(prompts), CALIBRATED_ON)
        about = calibrate(loaded, [RolloutGroup(prompts[i], found["plain"][i]) for i in places])
        found["forks"] = draw(ForkTemperature(ids, SHARE, forks=HOTTER))
        found["elsewhere"] = draw(ForkTemperature(ids, SHARE, elsewhere=about["elsewhere"]))
    about["places"] = int(sum(fork_mask(group).sum() for group in found["plain"]))
    write_json(folder / HEATED_ABOUT, about)
    rows = [
        {"id": s.id, "domain": s.domain, "difficulty": s.difficulty}
        | {name: item_accuracy(groups[i]) for name, groups in found.items()}
        for i, s in enumerate(task.samples)
    ]
    write_json_lines(folder / HEATED, rows)


def calibrate(loaded: LoadedModel, groups: Sequence[RolloutGroup]) -> dict[str, float]:
    """The temperature elsewhere that adds as much entropy as HOTTER does at forks, over the model's own responses.

    `added` is that entropy in nats per response. Both are 1 and 0 where no response has a fork.
    """
    own = [completion for group in groups for completion in group.completions]
    forks, meter = fork_mask(own), EntropyMeter(loaded.chat, (), 0)

    @cache  # both kinds of places are asked for at temperatures 1 and HOTTER
    def entropies(temperature: float) -> np.ndarray:
        scored = score_groups(loaded, groups, EntropySettings((), temperature=temperature), meter)
        return np.concatenate([c.entropies for group in scored for c in group])

    def total(temperature: float, chosen: np.ndarray) -> float:
        return float(entropies(temperature)[chosen].sum())

    if not forks.any():
        return {"forks": HOTTER, "elsewhere": 1.0, "added": 0.0}
    added = total(HOTTER, forks) - total(1.0, forks)
    before = total(1.0, ~forks)
    elsewhere = matching_temperature(added, lambda temperature: total(temperature, ~forks) - before)
    return {"forks": HOTTER, "elsewhere": elsewhere, "added": added / len(own)}


def fork_mask(completions: Sequence[Completion]) -> np.ndarray:
    """[all tokens of the completions] bool, from the probabilities that sampling recorded."""
    return np.concatenate([np.asarray(c.watched_mass) for c in completions]) >= SHARE


def matching_temperature(wanted: float, added: Callable[[float], float]) -> float:
    """The temperature between 1 and HOTTER at which `added`, which rises, is `wanted`, by halving.

    Raises LabError where HOTTER adds less.
    """
    low, high = 1.0, HOTTER
    if (most := added(high)) < wanted:
        raise LabError(f"{wanted:.3g} nats are to be added outside of forks, where temperature {high} adds {most:.3g}")
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if added(middle) < wanted else (low, middle)
    return (low + high) / 2
