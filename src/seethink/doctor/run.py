"""All checks of one recipe, in an order in which each can use what those before it found."""

from __future__ import annotations

from pathlib import Path

from seethink.doctor.check import Report
from seethink.doctor.data import check_data
from seethink.doctor.fit import check_memory
from seethink.doctor.folder import check_disk, check_out, check_selection
from seethink.doctor.machine import find_gpus
from seethink.doctor.model import check_model, check_shapes
from seethink.doctor.parts import check_parts
from seethink.doctor.recipe import check_recipe
from seethink.doctor.reward import check_reward
from seethink.doctor.step import check_step


def diagnose(
    recipe_path: Path,
    overrides: list[str],
    *,
    data: str | None = None,
    gpus: str | None = None,
    ask_verifier: bool = False,
    step: bool = True,
    shapes_only: bool = False,
) -> Report:
    """Everything that can be known before a GPU is used. Writes nothing. Raises UserError for a wrong `gpus` alone.

    With `shapes_only` nothing but the recipe and the model's config.json is read: parts and memory.
    """
    report, cards = Report(), find_gpus(gpus)
    recipe = check_recipe(report, recipe_path, overrides, data)
    if recipe is None:
        return report
    if shapes_only:
        check_memory(report, recipe, check_parts(report, recipe, check_shapes(report, recipe).meta), None, None, cards)
        return report
    model = check_model(report, recipe)
    trained = check_parts(report, recipe, model.meta)
    train = check_data(report, recipe, model)
    need = check_memory(report, recipe, trained, model.chat, train, cards)
    check_reward(report, recipe, train.kept if train else [], ask_verifier=ask_verifier)
    check_disk(report, recipe, trained)
    check_out(report, recipe)
    check_selection(report, recipe)
    if step:
        check_step(report, recipe, model, train, need)
    return report
