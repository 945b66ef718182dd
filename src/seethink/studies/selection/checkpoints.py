"""Checkpoints of a run of seethink or another trainer, measured on the same items with the same random numbers.

Letters: C checkpoints, K items.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seethink.config import LogConfig, PartModules, RewardConfig
from seethink.core.errors import UserError
from seethink.core.types import Completion, Sample
from seethink.core.version import __version__
from seethink.data.lengths import processor_identity
from seethink.data.prompts import PromptList
from seethink.entropy.meter import EntropyMeter, Estimate, tail_threshold
from seethink.eval.runner import draw_graded
from seethink.eval.score import item_accuracy
from seethink.eval.task import Task
from seethink.generate.make import make_generator
from seethink.generate.protocol import Sampling
from seethink.models.load import LoadedModel, load_model
from seethink.rewards.rewarder import Rewarder, command_rewarder
from seethink.runs.identity import model_identity
from seethink.runs.reading import read_key
from seethink.studies.measurement_cache import MeasurementCache, samples_identity

DEPTH = 3
"""Levels of folders below the run that are searched: some trainers write step_20/actor/huggingface."""
BOOKKEEPING = ("config.json", "seethink.json", "manifest.json", "trainer_state.json")
"""Files that do not change what a checkpoint generates; config.json is hashed with the weights."""
PROCESSOR = ("processor_config.json", "preprocessor_config.json")


@dataclass(frozen=True, slots=True)
class CheckpointSettings:
    """How checkpoints are sampled and measured."""

    samples: int = 2
    """Responses per item."""
    max_new_tokens: int = 160
    temperature: float = 1.0
    words: tuple[str, ...] = LogConfig().critical_words
    window: int = LogConfig().critical_window
    seed: int = 0


@dataclass(slots=True)
class CheckpointEstimates:
    """What was measured of one checkpoint; every estimate is over the same K items."""

    name: str
    """The checkpoint's folder, relative to the run."""
    step: int
    estimates: dict[str, Estimate] = field(default_factory=dict)
    """`accuracy`, the mean entropies `critical`, `following` and `all`, and `tail`, the share above the threshold."""


def find_checkpoints(run: Path) -> list[Path]:
    """Folders of Hugging Face checkpoints below the run, ordered by the numbers in their names.

    Raises UserError where there are fewer than two, or where one lacks its processor.
    """
    if not run.is_dir():
        raise UserError(f"no run folder at {run}")
    root = run / "checkpoints" if (run / "checkpoints").is_dir() else run
    configs = [file for depth in range(1, DEPTH + 1) for file in root.glob("*/" * depth + "config.json")]
    found = [c.parent for c in configs if any(c.parent.glob("*.safetensors")) and _is_shown(c.parent, root)]
    if len(found) < 2:
        raise UserError(
            f"{root} holds {'one checkpoint' if found else 'no checkpoint'}, and choosing needs two: expected folders "
            "such as checkpoint-100/ with config.json and *.safetensors in them (pickled weights are not read; a "
            "seethink run keeps its newest 2 unless checkpoint.keep says more)"
        )
    _require_processors(found)
    return sorted(found, key=lambda folder: _natural(folder.relative_to(root).as_posix()))


def _is_shown(folder: Path, root: Path) -> bool:
    """False for hidden folders, which are half written, and for damaged ones that a resume set aside."""
    return not any(part.startswith((".", "damaged")) for part in folder.relative_to(root).parts)


def _natural(name: str) -> list[tuple[int, int | str]]:
    """A sort key that puts step_20 before step_100."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]


def _require_processors(folders: Sequence[Path]) -> None:
    lacking = [folder for folder in folders if not any((folder / file).is_file() for file in PROCESSOR)]
    if lacking:
        raise UserError(
            f"{lacking[0]} has no processor ({' or '.join(PROCESSOR)}; {len(lacking)} of {len(folders)} checkpoints "
            f"lack it): put the base model's there, by AutoProcessor.from_pretrained(BASE).save_pretrained(FOLDER)"
        )


def step_of(folder: Path, run: Path, place: int) -> int:
    """The last number in the folder's name, or `place` where it has none."""
    numbers = re.findall(r"\d+", folder.relative_to(run).as_posix())
    return int(numbers[-1]) if numbers else place


def measure_checkpoints(
    run: Path,
    folders: Sequence[Path],
    task: Task,
    settings: CheckpointSettings,
    cache: MeasurementCache,
    reward: RewardConfig | None = None,
) -> tuple[list[CheckpointEstimates], float]:
    """([C] estimates, the tail's threshold in nats). Checkpoints in `cache` are not sampled again.

    The threshold is 6.8 nats or, with a small vocabulary, a quantile of the first checkpoint's entropies.
    """
    items = samples_identity(task.samples)
    prompts: PromptList | None = None
    threshold: float | None = None
    found: list[CheckpointEstimates] = []
    with command_rewarder(reward) as rewarder:
        for place, folder in enumerate(folders):
            key: dict[str, Any] = {
                "measure": "select",
                "checkpoint": _identity(folder),
                "items": items,
                "seethink": __version__,
            }
            key |= {**asdict(settings), "threshold": threshold, **rewarder.identity}
            result = cache.get(key)
            if result is None:
                loaded = load_checkpoint(run, folder)
                prompts = _shared(prompts, task.samples, loaded)
                result = _measure(loaded, task, prompts, rewarder, settings, threshold, label=folder.name)
                cache.put(key, result)
            threshold = float(result["threshold"])
            estimates = {name: Estimate(np.array(s), np.array(n)) for name, (s, n) in result["estimates"].items()}
            found.append(
                CheckpointEstimates(folder.relative_to(run).as_posix(), step_of(folder, run, place), estimates)
            )
    assert threshold is not None
    return found, threshold


def load_checkpoint(run: Path, folder: Path) -> LoadedModel:
    return load_model(str(folder), modules=read_key(run, "parts", "modules", PartModules))


def _identity(folder: Path) -> str:
    """A hash of weights, configuration, processor and tokenizer, found without loading the checkpoint."""
    digest = hashlib.sha256(str(model_identity(str(folder))).encode())
    for file in sorted(file for file in folder.iterdir() if file.suffix in (".json", ".jinja", ".txt", ".model")):
        if file.name not in BOOKKEEPING and file.is_file():
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _shared(prompts: PromptList | None, samples: Sequence[Sample], loaded: LoadedModel) -> PromptList:
    """The same prompts for all checkpoints, so that images are processed once.

    Raises UserError where the processors differ.
    """
    if prompts is None:
        return PromptList(samples, loaded.chat)
    if processor_identity(prompts.chat) != processor_identity(loaded.chat):
        raise UserError(
            f"{loaded.source} has another processor than the checkpoints before it: give the folder of a single run"
        )
    prompts.chat = loaded.chat
    return prompts


def _measure(
    loaded: LoadedModel,
    task: Task,
    prompts: PromptList,
    rewarder: Rewarder,
    settings: CheckpointSettings,
    threshold: float | None,
    *,
    label: str,
) -> dict[str, Any]:
    """Sample once; [K] sums and counts of accuracy and of each entropy, and the threshold that was used."""
    sampling = Sampling(settings.max_new_tokens, settings.temperature)
    generator = make_generator(loaded)
    groups = draw_graded(task, generator, prompts, rewarder, settings.samples, sampling, settings.seed, label=label)
    tokens = EntropyMeter(loaded.chat, settings.words, settings.window).tokens(groups)
    if threshold is None:
        vocabulary = int(loaded.model.config.get_text_config().vocab_size)
        threshold = tail_threshold(None, vocabulary, tokens.entropies)
    everywhere = np.isfinite(tokens.entropies)
    chosen = {"critical": tokens.critical, "following": tokens.following, "all": everywhere}
    estimates = {name: tokens.estimate(tokens.entropies, places & everywhere) for name, places in chosen.items()}
    estimates["tail"] = tokens.estimate((tokens.entropies > threshold).astype(float), everywhere)
    estimates["accuracy"] = _accuracy(groups)
    lists = {name: (e.sums.tolist(), e.counts.tolist()) for name, e in estimates.items()}
    return {"threshold": threshold, "estimates": lists}


def _accuracy(groups: Sequence[Sequence[Completion]]) -> Estimate:
    """Every item counts once, however many of its responses could be graded."""
    means = [item_accuracy(group) for group in groups]
    return Estimate(np.array([mean or 0.0 for mean in means]), np.array([float(mean is not None) for mean in means]))
