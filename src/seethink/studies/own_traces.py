"""Training data that a model gives itself: its verified answers to questions, as `seethink coldstart` collects them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from seethink.coldstart.teacher import LOCAL
from seethink.config import Recipe
from seethink.config.coldstart_file import coldstart_settings
from seethink.runs.reading import final_model
from seethink.studies.coldstart.command import ColdstartCommand


@dataclass(frozen=True, slots=True)
class OwnTraces:
    """What a model is asked before it trains on its answers."""

    source: str
    questions: int
    """How many of the source are asked."""
    settings: tuple[str, ...]
    """Words of `seethink coldstart`."""


def with_own_traces(recipe: Recipe, folder: Path, own: OwnTraces, seed: int) -> Recipe:
    """The recipe with verified answers of its own model as training and validation data, made in `folder`.

    What was collected before is not asked again, and nothing is where the recipe's run has ended.
    """
    if final_model(Path(recipe.out)) is None:
        settings, teacher = coldstart_settings(None, own.settings), f"{LOCAL}{recipe.model}"
        ColdstartCommand(own.source, folder, settings, teachers=(teacher,), limit=own.questions, seed=seed).run()
    # Whole paths: a later call from another working folder is of the same data.
    train, val = (str(folder.resolve() / "data" / f"{name}.jsonl") for name in ("train", "val"))
    data = recipe.data.model_copy(update={"train": train, "val": val})
    return recipe.model_copy(update={"data": data})
