"""Training data of an arm that learns from its parent: verified answers to questions, as `seethink coldstart` makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seethink.coldstart.teacher import LOCAL
from seethink.config import Recipe
from seethink.config.coldstart_file import coldstart_settings
from seethink.runs.reading import read_lines
from seethink.studies.coldstart.command import ColdstartCommand
from seethink.studies.lab.schema import LabError

FOLDER = "own"


def with_own_traces(recipe: Recipe, folder: Path, about: dict[str, Any]) -> Recipe:
    """The recipe with verified answers of its own model as training and validation data, made in `folder/own`.

    `about` has `source`, `questions`, `seed` and `set`. What was collected before is not asked again. Raises LabError
    where fewer rows are right than the recipe trains on: arms compare at the same number of rows.
    """
    out = folder / FOLDER
    command = ColdstartCommand(
        about["source"],
        out,
        coldstart_settings(None, about["set"]),
        teachers=(f"{LOCAL}{recipe.model}",),
        limit=about["questions"],
        seed=about["seed"],
    )
    command.run()
    train, val = out / "data" / "train.jsonl", out / "data" / "val.jsonl"
    rows = sum(1 for _ in read_lines(train, []))
    wanted = recipe.data.train_size or 1
    if rows < wanted:
        raise LabError(f"{rows:,} answers of {recipe.model} can be trained on, and {wanted:,} are wanted: see {out}")
    data = recipe.data.model_copy(update={"train": str(train), "val": str(val)})
    return recipe.model_copy(update={"data": data})
