"""TOML files and `key=value` words -> recipes, and error messages that say which key is wrong."""

from __future__ import annotations

import copy
import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from seethink.config.data import ReadConfig
from seethink.config.recipe import FOREIGN, Recipe
from seethink.config.reward import RewardConfig
from seethink.config.section import PARTS
from seethink.config.tools import ToolConfig
from seethink.config.verifier import VerifierConfig
from seethink.core.errors import UserError
from seethink.core.files import read_file

MOVED = {
    "sft.pack_length": "optim.pack_length",
    "parts.lr_vision": "parts.lr.vision",
    "parts.lr_connector": "parts.lr.connector",
    "parts.lr_language": "parts.lr.language",
    "optim.beta1": "optim.betas",
    "optim.beta2": "optim.betas",
}
"""Keys of earlier versions, and where their meaning is now."""
GONE = {
    "log.entropy_quantile": "without log.entropy_threshold (in nats) the tail of a small vocabulary begins at the 99th "
    "percentile of the first step"
}
"""Keys of earlier versions that have no successor, and what holds instead."""


COMMAND_SECTIONS = ("data", "reward")
"""Sections of a recipe whose keys commands without a recipe take."""
MOST = 4 << 20
"""Bytes of the longest recipe."""
AnySection = TypeVar("AnySection", bound=BaseModel)


class RecipeError(UserError):
    """A recipe that cannot be used; the message says what to change."""


def load_recipe(path: Path | str, overrides: list[str] | None = None) -> Recipe:
    """Read a TOML recipe and apply overrides.

    Args:
        path: The TOML file.
        overrides: `section.key=value` words as on the command line, e.g. `optim.lr=1e-6`; values are TOML, or text.

    Returns:
        The checked recipe, with every default filled in. It is frozen.

    Raises:
        RecipeError: The file cannot be read, a key is unknown, or a value is not allowed; the message says which.
    """
    try:
        table = tomllib.loads(read_file(Path(path), MOST).decode())
    except FileNotFoundError:
        raise RecipeError(f"no recipe at {path}; see the recipes/ folder for complete ones") from None
    except (ValueError, RecursionError, OSError) as error:
        # ValueError: bad TOML, bad UTF-8, and integers of too many digits.
        raise RecipeError(f"{path} is not a readable TOML file: {error}") from None
    return make_recipe(table, overrides or [], source=str(path))


def make_recipe(table: dict[str, Any], overrides: list[str] = [], *, source: str = "recipe") -> Recipe:  # noqa: B006
    """Check a recipe that was made in Python.

    Args:
        table: The recipe as nested dicts, as `tomllib.load` gives it. Overrides are written into it.
        overrides: `section.key=value` words as on the command line.
        source: Names the recipe in error messages.

    Returns:
        The checked recipe, with every default filled in. It is frozen.

    Raises:
        RecipeError: A key is unknown or missing, or a value is not allowed; the message says which.
    """
    for override in overrides:
        apply_override(table, override)
    if gone := [key for key in GONE if _holds(table, key)]:
        raise RecipeError(f"{source}: " + "; ".join(f"the key {key!r} is gone: {GONE[key]}" for key in gone))
    if moved := [key for key in MOVED if _holds(table, key)]:
        raise RecipeError(f"{source}: " + "; ".join(f"unknown key {key!r}; it is {MOVED[key]!r} now" for key in moved))
    try:
        return Recipe.model_validate(table)
    except ValidationError as error:
        wrong = error.errors()
        place = "on the command line" if all(_is_overridden(e, overrides) for e in wrong) else source
        raise RecipeError(f"{place}: " + "; ".join(explain(e) for e in wrong)) from None


def _is_overridden(error: ErrorDetails, overrides: list[str]) -> bool:
    """Whether the key of an error was given by an override, and so is not in the file."""
    key = ".".join(map(str, error["loc"]))
    return any(f"{word.partition('=')[0]}.".startswith(f"{key}.") for word in overrides)


def saved_recipe(table: dict[str, Any]) -> Recipe:
    """The recipe that a run folder holds, whichever version wrote it. Raises ValidationError for an unknown key."""
    table = copy.deepcopy(table)
    if not all(isinstance(table.get(name, {}), dict) for name in ("sft", "parts", "optim", "log")):
        return Recipe.model_validate(table)
    sft, parts, optim, log = (table.setdefault(name, {}) for name in ("sft", "parts", "optim", "log"))
    if "pack_length" in sft:
        optim["pack_length"] = sft.pop("pack_length")
    rates = {part: parts.pop(f"lr_{part}") for part in PARTS if f"lr_{part}" in parts}
    parts.setdefault("lr", {part: rate for part, rate in rates.items() if rate is not None})
    if "beta1" in optim:
        # That version's default, which now depends on the device.
        optim["micro_tokens"] = None if optim.get("micro_tokens") == 1024 else optim.get("micro_tokens")
        optim["betas"] = [optim.pop("beta1"), optim.pop("beta2")]
    if log.get("entropy_quantile") == 0.99:
        del log["entropy_quantile"]
    for stage, sections in FOREIGN.items():
        for section in sections if stage == table.get("stage") else ():
            table.pop(section, None)
    return Recipe.model_validate(table)


def make_reading(words: Sequence[str]) -> ReadConfig:
    """How to read data, from the `data.KEY=VALUE` words of a command without a recipe. Raises RecipeError."""
    return _section(words, "data", ReadConfig, {})


def make_reward(words: Sequence[str], saved: Mapping[str, Any] | None = None) -> RewardConfig:
    """How responses are graded, from the `reward.KEY=VALUE` words of a command without a recipe. Raises RecipeError.

    `saved` is the `[reward]` of a run, whose keys hold where no word says otherwise.
    """
    return _section(words, "reward", RewardConfig, saved or {})


def make_tools(**settings: Any) -> ToolConfig:
    """What a model may call, for commands without a recipe: options by name, None where not given.

    Raises RecipeError.
    """
    try:
        tools = ToolConfig(**settings)
    except ValidationError as error:
        named = [{**e, "loc": (_option(e["loc"][0]),)} for e in error.errors()]
        raise RecipeError("; ".join(map(explain, named))) from None
    if tools.unread:
        raise RecipeError(f"{_option(tools.unread)} is read with --environment alone: name one, or leave it out")
    return tools


def _option(key: str | int) -> str:
    return f"--{key}".replace("_", "-")


def _section(words: Sequence[str], name: str, kind: type[AnySection], saved: Mapping[str, Any]) -> AnySection:
    table: dict[str, Any] = {name: dict(saved)}
    for word in words:
        apply_override(table, word)
    strange = [key for key in table if key not in COMMAND_SECTIONS]
    if strange:
        known = " and ".join(f"[{section}]" for section in COMMAND_SECTIONS)
        raise RecipeError(f"{strange[0]!r}: only keys of {known} can be given here, e.g. data.style=easyr1")
    try:
        return kind.model_validate(table[name])
    except ValidationError as error:
        raise RecipeError("; ".join(explain(_within(name, e)) for e in error.errors())) from None


def _within(section: str, error: Any) -> dict[str, Any]:
    return {**error, "loc": (section, *error["loc"])}


def make_verifier(**settings: Any) -> VerifierConfig:
    """The settings of a verifier, for commands without a recipe. Raises RecipeError, which repeats no address."""
    try:
        return VerifierConfig(**settings)
    except ValidationError as error:
        said = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()
        )
        raise RecipeError(f"verifier: {said}") from None


def split_names(text: str) -> tuple[str, ...]:
    """The names of a comma-separated list of the command line."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def apply_override(table: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"{override!r} is not of the form key=value, e.g. optim.lr=1e-6")
    *sections, last = key.strip().split(".")
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise RecipeError(f"{key}: {section!r} is a value, not a section")
    table[last] = _parse(text)


def _parse(text: str) -> Any:
    """A TOML value; words that are not TOML are strings, so that `model=nano` needs no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def explain(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown key {where!r}{_suggest(where)}"
    if error["type"] == "missing":
        return f"{where!r} is required"
    if not error["loc"]:
        return str(error["msg"]).removeprefix("Value error, ")
    got = repr(error["input"])
    # A server's address may hold a secret.
    shown = f" (got {got})" if len(got) < 60 and not where.startswith("reward.verifier") else ""
    return f"{where}: {error['msg'].removeprefix('Value error, ')}{shown}"


def _holds(table: Any, key: str) -> bool:
    first, _, rest = key.partition(".")
    return isinstance(table, dict) and first in table and (not rest or _holds(table[first], rest))


def _suggest(where: str) -> str:
    close = difflib.get_close_matches(where, list(recipe_keys()), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def recipe_keys(model: type[BaseModel] = Recipe, prefix: str = "") -> dict[str, str]:
    """Every key with its description: {"optim.lr": "...", ...}."""
    keys: dict[str, str] = {}
    for name, field in model.model_fields.items():
        section = next((t for t in _types(field.annotation) if issubclass(t, BaseModel)), None)
        if section is not None:
            keys |= recipe_keys(section, f"{prefix}{name}.")
        else:
            keys[prefix + name] = field.description or ""
    return keys


def _types(annotation: Any) -> list[type]:
    if isinstance(annotation, type) and not hasattr(annotation, "__origin__"):
        return [annotation]
    return [t for a in getattr(annotation, "__args__", ()) if isinstance(a, type) for t in _types(a)]
