"""The sections that `seethink coldstart` takes: from a TOML file, from `section.key=value` words, or from both."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from seethink.config.coldstart import ColdstartConfig
from seethink.config.data import ReadConfig
from seethink.config.load import MOST, RecipeError, apply_override
from seethink.config.reward import RewardConfig
from seethink.config.sft import SftConfig
from seethink.config.teacher import TeacherConfig
from seethink.core.files import read_file

SECTIONS = ("data", "teacher", "reward", "sft", "coldstart")
Kind = TypeVar("Kind", bound=BaseModel)


@dataclass(frozen=True)
class ColdstartSettings:
    """Everything but the paths that the command line gives."""

    data: ReadConfig
    teacher: dict[str, Any]
    """Keys of `TeacherConfig` besides `base_url` and `model`."""
    reward: RewardConfig
    sft: SftConfig
    """The filters that training applies too; its other keys mean nothing here."""
    coldstart: ColdstartConfig

    def servers(self, urls: Sequence[str], model: str) -> list[TeacherConfig]:
        """One configuration per address. Raises RecipeError."""
        tables = [{**self.teacher, "base_url": url, "model": model} for url in dict.fromkeys(urls)]
        return [_checked(TeacherConfig, table, "teacher") for table in tables]


def coldstart_settings(path: Path | None, words: Sequence[str]) -> ColdstartSettings:
    """Read the file, and apply the words over it. Raises RecipeError for an unknown section, key or value."""
    table = _read(path) if path is not None else {}
    for word in words:
        apply_override(table, word)
    strange = [key for key, value in table.items() if key not in SECTIONS or not isinstance(value, dict)]
    if strange:
        known = ", ".join(f"[{section}]" for section in SECTIONS)
        raise RecipeError(f"{strange[0]!r}: only keys of {known} can be given here, e.g. coldstart.samples=8")
    teacher = table.get("teacher", {})
    for key, instead in {"base_url": "--teacher", "model": "--model", "max_tokens": "coldstart.max_tokens"}.items():
        if key in teacher:
            raise RecipeError(f"teacher.{key}: give {instead} instead")
    _checked(TeacherConfig, {**teacher, "base_url": "http://127.0.0.1", "model": "any"}, "teacher")
    data = _checked(ReadConfig, table.get("data", {}), "data")
    if data.image_limits:
        raise RecipeError(
            "data.image_*: a teacher is sent pictures as they are, and its own processor says how many tokens they "
            "take; set the keys where a model is trained or evaluated"
        )
    return ColdstartSettings(
        data=data,
        teacher=teacher,
        reward=_checked(RewardConfig, table.get("reward", {}), "reward"),
        sft=_checked(SftConfig, table.get("sft", {}), "sft"),
        coldstart=_checked(ColdstartConfig, table.get("coldstart", {}), "coldstart"),
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_file(path, MOST).decode())
    except (ValueError, RecursionError, OSError) as error:
        raise RecipeError(f"{path} is not a readable TOML file: {error}") from None


def _checked(kind: type[Kind], table: dict[str, Any], section: str) -> Kind:
    """Raises RecipeError. What was given is not repeated: a teacher's address or key may be a secret."""
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        raise RecipeError("; ".join(_explained(section, kind, e) for e in error.errors())) from None


def _explained(section: str, kind: type[BaseModel], error: Any) -> str:
    where = ".".join((section, *map(str, error["loc"])))
    if error["type"] != "extra_forbidden":
        return f"{where}: {error['msg'].removeprefix('Value error, ')}"
    close = difflib.get_close_matches(str(error["loc"][-1]), list(kind.model_fields), n=1, cutoff=0.5)
    return f"unknown key {where!r}" + (f"; did you mean {f'{section}.{close[0]}'!r}?" if close else "")
