"""The recipe, with all that is wrong with it at once; what can be used of it goes on to the other checks."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from seethink.config import Recipe, RecipeError, apply_override, explain, explain_foreign, foreign_sections
from seethink.config.load import MOST
from seethink.core.errors import UserError
from seethink.core.files import read_file
from seethink.doctor.check import Report, Status, plural
from seethink.models.lora import require_base
from seethink.rewards.function import RewardError, load_function
from seethink.train.optim import require_states

PLACEHOLDERS: dict[str, Any] = {"name": "doctor", "stage": "sft", "out": "runs/doctor"}
"""For required keys that are missing, so that the rest can be looked at."""
SECTION = "recipe"
INSTALL = "install it where the run is to be"


def check_recipe(report: Report, path: Path, overrides: list[str], data: str | None) -> Recipe | None:
    """The recipe without its mistakes, or None where nothing is left to go on with."""
    table = _read(report, path)
    if table is None:
        return None
    for override in overrides:
        try:
            apply_override(table, override)
        except RecipeError as error:
            report.add(SECTION, "override", Status.FAIL, str(error), "write it as key=value, after the recipe")
    if data is not None:
        _put_data(table, data)
    recipe, wrong = _validate(table)
    for place, said in wrong:
        report.add(SECTION, place, Status.FAIL, said, _advice(said))
    if recipe is None:
        report.add(SECTION, "rest", Status.SKIP, "nothing else can be checked before the recipe is corrected")
        return None
    if wrong:
        found = f"the checks below leave out {plural(len(wrong), 'wrong key')}, and use the defaults"
        report.add(SECTION, "rest", Status.INFO, found)
    else:
        said = f"{path}: stage {recipe.stage}, model {recipe.model!r}, trains {', '.join(recipe.parts.train)}"
        report.add(SECTION, "keys", Status.PASS, said)
    _check_function(report, recipe, path.parent)
    _check_library(report, recipe)
    report.facts["recipe"] = recipe.as_table()
    return recipe


def _read(report: Report, path: Path) -> dict[str, Any] | None:
    try:
        return tomllib.loads(read_file(path, MOST).decode())
    except FileNotFoundError:
        report.add(SECTION, "file", Status.FAIL, f"no recipe at {path}", "see the recipes/ folder for complete ones")
    except (ValueError, RecursionError, OSError) as error:
        report.add(SECTION, "file", Status.FAIL, f"{path} is not readable TOML: {error}", "correct the line it names")
    return None


def _put_data(table: dict[str, Any], data: str) -> None:
    """`--data FILE` in place of data.train, all of it: a size for the world says nothing about a file."""
    section = table.setdefault("data", {})
    if isinstance(section, dict):
        section["train"] = data
        for key in ("train_size", "mixture", "domain_weights"):
            section.pop(key, None)


def _validate(table: dict[str, Any]) -> tuple[Recipe | None, list[tuple[str, str]]]:
    """(the recipe that is left, (key, what is wrong with it) of everything that had to go)."""
    table = copy.deepcopy(table)
    wrong = [(section, explain_foreign(table["stage"], section)) for section in foreign_sections(table)]
    for section, _ in wrong:
        del table[section]
    for _ in range(20):
        try:
            return Recipe.model_validate(table), wrong
        except ValidationError as error:
            new = [(_place(entry["loc"]), explain(entry), entry["loc"]) for entry in error.errors()]
            new = [(place, said, loc) for place, said, loc in new if (place, said) not in wrong]
            if not new:
                break
            for place, said, loc in new:
                wrong.append((place, said))
                _correct(table, loc)
    return None, wrong


def _place(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in loc) or "consistency"


def _correct(table: dict[str, Any], place: tuple[int | str, ...]) -> None:
    """Take out what is wrong, down to the nearest table; without a place, the first section that helps."""
    if not place:
        for section in ("lora", "algorithm", "rollout", "parts", "optim"):
            rest = {key: value for key, value in table.items() if key != section}
            if section in table and _valid(rest):
                del table[section]
                return
        table.clear()
        return
    owner: Any = table
    for name in place[:-1]:
        inside = _inside(owner, name)
        if not isinstance(inside, dict | list):
            owner.pop(name, None)
            return
        owner = inside
    if isinstance(owner, list):
        del owner[int(place[-1])]
        return
    if place == ("data",) and isinstance(owner.get("data"), dict):
        # What stands for itself there is right; what contradicts it is about several sources.
        for key in ("mixture", "domain_weights", "train_size"):
            owner["data"].pop(key, None)
        return
    missing = place[-1] not in owner
    owner.pop(place[-1], None)
    if missing and len(place) == 1 and place[0] in PLACEHOLDERS:
        owner[str(place[0])] = PLACEHOLDERS[str(place[0])]
    elif missing and len(place) > 1 and place != ("data", "train"):
        # A required key of an optional section, such as verifier.model: without it the section has no use.
        _correct(table, place[:-1])


def _inside(owner: Any, name: int | str) -> Any:
    """What a table has under a name, or a list at a place; None where it has nothing."""
    if isinstance(owner, list):
        return owner[name] if isinstance(name, int) and name < len(owner) else None
    return owner.get(name)


def _valid(table: dict[str, Any]) -> bool:
    try:
        Recipe.model_validate(table)
    except ValidationError:
        return False
    return True


def _advice(said: str) -> str:
    if "did you mean" in said:
        return "use the key that is suggested; `seethink train RECIPE --dry-run` prints every key"
    if "unknown key" in said:
        return "remove it; `seethink train RECIPE --dry-run` prints every key"
    return "give it in the recipe" if "is required" in said else "correct the value in the recipe"


def _check_library(report: Report, recipe: Recipe) -> None:
    try:
        require_states(recipe.optim)
    except UserError as error:
        report.add(SECTION, "optim.states", Status.FAIL, str(error), INSTALL)
    try:
        require_base(recipe.lora)
    except UserError as error:
        report.add(SECTION, "lora.base", Status.FAIL, str(error), INSTALL)


def _check_function(report: Report, recipe: Recipe, folder: Path) -> None:
    if recipe.reward.function is None:
        return
    try:
        load_function(recipe.reward.function, folder)
    except RewardError as error:
        advice = "put the module beside the recipe or on PYTHONPATH, or correct its name"
        report.add(SECTION, "reward.function", Status.FAIL, str(error), advice)
