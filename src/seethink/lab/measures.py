"""What is measured of an arm's model, each into a file of the arm's folder."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from seethink.analysis.denials import hallucinations
from seethink.analysis.measured import Measured
from seethink.analysis.select_run import select_run, settings_of
from seethink.atomic import write_json
from seethink.config import EvalConfig, LogConfig, RewardConfig
from seethink.data.prompts import PromptList
from seethink.eval.modes import MODES, ModesConfig, compare_modes, write_modes
from seethink.eval.runner import draw_graded, eval_samples, evaluate
from seethink.infer.sampling import Sampling
from seethink.lab.reading import HALLUCINATION, IN_DOMAIN
from seethink.models.load import LoadedModel, load_model
from seethink.rewards.base import Rewarder
from seethink.types import Sample

WORLD = "world:all"


def measure_items(model: str, folder: Path, settings: dict[str, Any]) -> None:
    """eval.json and eval/items.jsonl; math and the other domains in numbers of their own."""
    loaded, seed = load_model(model), settings["seed"]
    config = EvalConfig(samples=settings["samples"], greedy=False, max_new_tokens=settings["max_new_tokens"])
    sizes = {"world:math": settings["math"], "world:other": settings["other"]}
    samples = [s for data, size in sizes.items() for s in _items(loaded, data, size, seed)]
    with Rewarder(RewardConfig(), run_folder=folder) as rewarder:
        evaluate(loaded, rewarder, PromptList(samples, loaded.chat), config, seed, label=folder.name, out=folder)


def measure_modes(model: str, folder: Path, settings: dict[str, Any]) -> None:
    """modes.json; budgets with the block closed by force and without."""
    loaded = load_model(model)
    config = ModesConfig(
        MODES,
        tuple(settings["budgets"]),
        samples=2,
        max_new_tokens=settings["max_new_tokens"],
        words=LogConfig().critical_words,
        seed=settings["seed"],
    )
    samples = _items(loaded, WORLD, settings["size"], settings["seed"])
    with Rewarder(RewardConfig(), run_folder=folder) as rewarder:
        rows = compare_modes(loaded, rewarder, samples, config, Measured(folder / "modes.parts"))
    write_modes(folder / "modes.json", loaded, WORLD, config, rows)


def measure_hallucination(model: str, folder: Path, settings: dict[str, Any]) -> None:
    """hallucination.json: share of answers that deny to see the image, accuracy with and without; null without any."""
    loaded = load_model(model)
    prompts = PromptList(_items(loaded, WORLD, settings["size"], settings["seed"]), loaded.chat)
    sampling = Sampling(settings["max_new_tokens"], 1.0)
    with Rewarder(RewardConfig(), run_folder=folder) as rewarder:
        groups = draw_graded(loaded, rewarder, prompts, 2, sampling, settings["seed"], label="hallucination")
    found: dict[bool, list[float]] = {True: [], False: []}
    for sample, group in zip(prompts.samples, groups, strict=True):
        for completion in group:
            found[bool(hallucinations(sample, completion.text))].append(completion.reward_parts["accuracy"])
    accuracies = {f"accuracy_{word}": _mean(found[kind]) for word, kind in (("with", True), ("without", False))}
    total = len(found[True]) + len(found[False])
    write_json(folder / HALLUCINATION, {"share": len(found[True]) / total, **accuracies, "n": total})


def measure_selection(model: str, folder: Path, settings: dict[str, Any]) -> None:
    """select.json: every checkpoint of the arm by every criterion."""
    asked = settings_of(folder, "", samples=2, max_new_tokens=settings["max_new_tokens"], seed=settings["seed"])
    # By `last`, which can always choose: what the others would choose is in the file too.
    select_run(folder, asked, by="last", data=WORLD, size=max(1, settings["size"] // 2), in_domain=[IN_DOMAIN])


def _items(loaded: LoadedModel, data: str, size: int, seed: int) -> list[Sample]:
    return eval_samples(EvalConfig(data=data, size=size), seed, chat=loaded.chat)


def _mean(values: list[float]) -> float | None:
    graded = [v for v in values if math.isfinite(v)]
    return float(np.mean(graded)) if graded else None


MEASURES: dict[str, Callable[[str, Path, dict[str, Any]], None]] = {
    "eval": measure_items,
    "modes": measure_modes,
    "select": measure_selection,
    "hallucination": measure_hallucination,
}
