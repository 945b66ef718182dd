"""Measurements of an arm's model; each writes a file into the arm's folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from seethink.config import EvalConfig, LogConfig, RewardConfig
from seethink.core.files import write_json, write_json_lines
from seethink.core.types import Completion, Sample
from seethink.data.prompts import PromptList
from seethink.eval.hallucination import as_record
from seethink.eval.presentation import item_record, write_evaluation
from seethink.eval.runner import evaluate_modes, evaluate_task, mode_name
from seethink.eval.score import item_accuracy
from seethink.eval.task import Task
from seethink.eval.tasks.source import SourceTask, load_source_task
from seethink.generate.make import make_generator
from seethink.models.load import LoadedModel, load_model
from seethink.rewards.rewarder import Rewarder
from seethink.studies.hallucination.responses import measure_hallucination
from seethink.studies.lab.causal import write_causal
from seethink.studies.lab.forks import write_forks
from seethink.studies.lab.reading import DECODINGS, EARLIER_ITEMS, HALLUCINATION, in_group
from seethink.studies.lab.reflection import write_reflection
from seethink.studies.measurement_cache import MeasurementCache
from seethink.studies.modes.compare_modes import compare_modes
from seethink.studies.modes.inference_modes import MODES, ModesConfig
from seethink.studies.modes.mode_rows import write_modes
from seethink.studies.selection.select_run import select_run, settings_of
from seethink.world.make import parse_source

OTHER_DRAWS = 10_000
"""Between the seeds of two checkpoints of an arm: their errors are independent, and those of two arms are paired."""
TRIES = 8
"""Of pass@8."""


def write_items(model: str, folder: Path, settings: dict[str, Any]) -> None:
    """eval.json and eval/items.jsonl of the model, and eval/earlier.jsonl of the checkpoints before it.

    Domains that RL trains on have another number of items than the others.
    """
    loaded, seed = load_model(model), settings["seed"]
    config = EvalConfig(samples=settings["samples"], greedy=False, max_new_tokens=settings["max_new_tokens"])
    of_groups = [_task(loaded, data, size, seed).samples for data, size in settings["sizes"].items()]
    task = SourceTask("world", [sample for samples in of_groups for sample in samples])
    prompts, label = PromptList(task.samples, loaded.chat), folder.name
    with Rewarder(RewardConfig(), run_folder=folder) as rewarder:
        scores = evaluate_modes(task, make_generator(loaded), prompts, rewarder, config, seed=seed, label=label)
        earlier = [
            {"checkpoint": one.name, **record}
            for place, one in enumerate(checkpoints_before(Path(model), settings["earlier"]))
            for record in _records(one, task, prompts, rewarder, config, seed + OTHER_DRAWS * (place + 1))
        ]
    write_evaluation(folder, task, prompts, scores, label=label, model=loaded.source, seed=seed)
    if settings["earlier"]:
        write_json_lines(folder / EARLIER_ITEMS, earlier)


def checkpoints_before(last: Path, count: int) -> list[Path]:
    """The newest `count` checkpoints of a run before its last one, or as many as there are, the oldest first."""
    found = sorted(path.parent for path in last.parent.glob("step_*/config.json") if path.parent.name < last.name)
    return found[len(found) - min(count, len(found)) :]


def _records(
    checkpoint: Path, task: Task, prompts: PromptList, rewarder: Rewarder, config: EvalConfig, seed: int
) -> list[dict[str, Any]]:
    """One answer of a checkpoint to each item, as lines of items.jsonl."""
    generator, longest = make_generator(load_model(str(checkpoint))), config.max_new_tokens
    score = evaluate_task(task, generator, prompts, rewarder, samples=1, max_new_tokens=longest, seed=seed)
    return [item_record(s, group, score.total.mode) for s, group in zip(task.samples, score.responses, strict=True)]


def write_decodings(model: str, folder: Path, settings: dict[str, Any]) -> None:
    """decodings.jsonl: of each item whether the greedy response is right, and whether one of eight samples is."""
    loaded, seed = load_model(model), settings["seed"]
    config = EvalConfig(samples=TRIES, greedy=True, max_new_tokens=settings["max_new_tokens"])
    task = _task(loaded, settings["data"], settings["size"], seed)
    prompts, label = PromptList(task.samples, loaded.chat), folder.name
    with Rewarder(RewardConfig(), run_folder=folder) as rewarder:
        scores = evaluate_modes(task, make_generator(loaded), prompts, rewarder, config, seed=seed, label=label)
    of_mode = {score.total.mode: score.responses for score in scores}
    both = zip(task.samples, of_mode[mode_name(1, 0.0)], of_mode[mode_name(TRIES, 1.0)], strict=True)
    write_json_lines(folder / DECODINGS, [decoding_record(sample, greedy, tries) for sample, greedy, tries in both])


def decoding_record(sample: Sample, greedy: Sequence[Completion], tries: Sequence[Completion]) -> dict[str, Any]:
    """One line of decodings.jsonl; None where no response could be graded."""
    graded = [value for one in tries if (value := item_accuracy([one])) is not None]
    return {
        "id": sample.id,
        "domain": sample.domain,
        "difficulty": sample.difficulty,
        "greedy": item_accuracy(greedy),
        f"pass@{TRIES}": max(graded, default=None),
    }


def write_mode_rows(model: str, folder: Path, settings: dict[str, Any]) -> None:
    """modes.json, with every thinking budget both closed by force and cut off."""
    loaded = load_model(model)
    config = ModesConfig(
        MODES,
        tuple(settings["budgets"]),
        samples=2,
        max_new_tokens=settings["max_new_tokens"],
        words=LogConfig().critical_words,
        seed=settings["seed"],
    )
    task = _task(loaded, settings["data"], settings["size"], settings["seed"])
    with Rewarder(RewardConfig(), run_folder=folder) as rewarder:
        rows = compare_modes(loaded, rewarder, task, config, MeasurementCache(folder / "modes.parts"))
    write_modes(folder / "modes.json", loaded, settings["data"], config, rows)


def write_hallucination(model: str, folder: Path, settings: dict[str, Any]) -> None:
    """hallucination.json, as `seethink hallucination` writes it."""
    limits = {"size": settings["size"], "max_new_tokens": settings["max_new_tokens"], "seed": settings["seed"]}
    findings, about = measure_hallucination(model, settings["data"], samples=2, **limits)
    write_json(folder / HALLUCINATION, as_record(findings, about))


def write_selection(model: str, folder: Path, settings: dict[str, Any]) -> None:
    """select.json: every checkpoint of the arm, by every criterion."""
    asked = settings_of(folder, "", samples=2, max_new_tokens=settings["max_new_tokens"], seed=settings["seed"])
    data, size = settings["data"], max(1, settings["size"] // 2)
    inside = [domain for domain in parse_source(data)[0] if in_group(domain, "in")]
    # `last` can always choose; the file has the choices of the other criteria too.
    select_run(folder, asked, by="last", data=data, size=size, in_domain=inside)


def _task(loaded: LoadedModel, data: str, size: int, seed: int) -> Task:
    return load_source_task(EvalConfig(data=data, size=size), seed, chat=loaded.chat)


MEASUREMENTS: dict[str, Callable[[str, Path, dict[str, Any]], None]] = {
    "eval": write_items,
    "decodings": write_decodings,
    "modes": write_mode_rows,
    "select": write_selection,
    "forks": write_forks,
    "causal": write_causal,
    "reflection": write_reflection,
    "hallucination": write_hallucination,
}
