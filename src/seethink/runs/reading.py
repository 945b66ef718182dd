"""The one reader of what a run folder holds: JSON objects, lines of them, and their schemas.

A folder may come from anywhere. Nothing here follows a name out of it, waits for a pipe, reads a device to no end or
believes a value of the wrong type: what cannot be used is a RunFileError that says which file, what is wrong, and what
to do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from seethink.core.console import say
from seethink.core.errors import UserError
from seethink.core.files import inside, read_file, require_file

DONE, IDENTITY, RECIPE = "done.json", "identity.json", "recipe.json"


class RunFileError(UserError):
    """A file of a run that cannot be used; the message says which, what is wrong with it, and what to do."""


class _Stored(BaseModel):
    """Values have exactly the types that were written. Keys of another version are kept."""

    model_config = ConfigDict(strict=True, extra="allow")


class _Entry(_Stored):
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(_Stored):
    """`manifest.json`: what a complete folder holds, by the path in it."""

    files: dict[str, _Entry] = Field(min_length=1)


class _Stopping(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    best: float
    best_step: int
    waited: int


class _History(BaseModel):
    """What a watchdog remembers."""

    model_config = ConfigDict(strict=True, extra="forbid")
    values: list[float] = []
    first: list[float] = []
    best: float | None = None
    least: float | None = None
    troubled: bool | int = False


class _Ahead(BaseModel):
    """What was sampled for the step after (rl/ahead.py)."""

    model_config = ConfigDict(strict=True, extra="forbid")
    request: dict[str, Any]
    version: int = Field(ge=0)
    seconds: float
    versions: list[int]
    truncated: list[bool]
    lengths: list[int]
    token_ids: str
    logprobs: str


class State(_Stored):
    """`train_state/state.json` of a checkpoint."""

    step: int = Field(ge=1)
    position: int | None = Field(None, ge=0)
    ahead: _Ahead | None = None
    gradient_steps: int | None = Field(None, ge=0)
    saw_images: bool | None = None
    score: float | None = None
    micro_tokens: int | None = Field(None, ge=1)
    bad_steps: int | None = Field(None, ge=0)
    entropy_threshold: float | None = None
    stopping: _Stopping | None = None
    watchdogs: dict[str, _History] | None = None
    versions: dict[str, str] | None = None
    rng: dict[str, list[Any]] | None = None


class Done(_Stored):
    """`done.json`: the run is complete, and which checkpoint it ended with."""

    final: str
    step: int = Field(ge=0)


class _SavedRecipe(_Stored):
    """`recipe.json`, of this version or another: its sections are tables."""

    stage: str | None = None
    model: str | None = None
    out: str | None = None
    data: dict[str, Any] = {}
    parts: dict[str, Any] = {}
    log: dict[str, Any] = {}
    checkpoint: dict[str, Any] = {}


Kind = TypeVar("Kind")


def parse_object(content: bytes | str) -> dict[str, Any]:
    """The JSON object that a text is. Raises ValueError."""
    try:
        table = json.loads(content)
    except RecursionError:
        raise ValueError("not JSON: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(table, dict):
        raise ValueError("not a JSON object")
    return table


def read_object(path: Path, schema: type[BaseModel] | None = None) -> dict[str, Any]:
    """The object that a JSON file holds, as it was written; empty where there is no such file.

    Raises RunFileError where the file cannot be read, is not an object, or does not fit the schema.
    """
    try:
        table = parse_object(read_file(path))
        if schema is not None:
            schema.model_validate(table)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise RunFileError(f"{path} cannot be used: {_reason(error)}; put it back from a copy") from None
    return table


def _reason(error: Exception) -> str:
    """One line; of a schema's complaints the first, with its place."""
    if not isinstance(error, ValidationError):
        return " ".join(str(error).split())
    first = error.errors()[0]
    found = repr(first["input"])
    shown = f", found {found}" if len(found) < 60 and first["type"] != "missing" else ""
    return f"{'.'.join(map(str, first['loc']))!r}: {first['msg']}{shown}"


def read_lines(
    path: Path, bad: list[int], accepts: Callable[[dict[str, Any]], bool] = lambda row: True, *, forgives: bool = False
) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file that `accepts` takes; none where there is no such file.

    The numbers of the lines that are left out go to `bad`; where it `forgives`, not that of a last line without its
    end, which was being written when the process died. Raises RunFileError where the file cannot be read at all.
    """
    try:
        require_file(path)
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                row = _parsed(line)
                if row is not None and accepts(row):
                    yield row
                elif line.strip() and (line.endswith(b"\n") or not forgives):
                    bad.append(number)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunFileError(f"{path} cannot be used: {error}; put it back from a copy") from None


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        return parse_object(line)
    except ValueError:
        return None


def read_steps(path: Path) -> list[dict[str, Any]]:
    """The lines of a file that grows by a line for each step. Damaged ones are named on the terminal and left out."""
    bad: list[int] = []
    records = list(read_lines(path, bad, lambda row: type(row.get("step")) is int, forgives=True))
    if bad:
        shown = ", ".join(map(str, bad[:5])) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
        lines = f"line {shown} is damaged and" if len(bad) == 1 else f"lines {shown} are damaged and"
        say(f"{path}: {lines} left out; all other steps are kept", "yellow")
    return records


def require_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of every line that is not blank. Raises RunFileError where one is not a JSON object."""
    try:
        lines = read_file(path).split(b"\n")
    except OSError as error:
        raise RunFileError(f"{path} cannot be read: {error}") from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield number, parse_object(line)
            except ValueError as error:
                raise RunFileError(f"line {number} of {path} is {error}") from None


def lines_with(*keys: str) -> Callable[[Path], bool]:
    """For `claim_file`: whether the first line of a file is a JSON object with all of these keys, or there is none."""

    def has_keys(path: Path) -> bool:
        with path.open("rb") as file:
            first = file.readline()
        row = _parsed(first)
        return not first or (row is not None and all(key in row for key in keys))

    return has_keys


def read_recipe(folder: Path) -> dict[str, Any]:
    """The recipe that a run was started with; empty for a folder of something else. Raises RunFileError."""
    return read_object(folder / RECIPE, _SavedRecipe)


def read_key(folder: Path, section: str, key: str, kind: type[Kind]) -> Kind | None:
    """A value of the recipe that a run was started with; None where it has none. Raises RunFileError."""
    value = read_recipe(folder).get(section, {}).get(key)
    try:
        return None if value is None else TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise RunFileError(f"{folder / RECIPE} cannot be used: {section}.{key}: {_reason(error)}") from None


def final_model(folder: Path) -> Path | None:
    """The checkpoint that a finished run ended with; None where the run is not finished.

    Raises RunFileError where done.json names something that is not a checkpoint in the folder.
    """
    done = folder / DONE
    table = read_object(done, Done)
    if not table:
        return None
    final = inside(folder, table["final"])
    if final is None or not (final / "config.json").is_file():
        what = "lies outside of the folder" if final is None else "is gone"
        raise RunFileError(
            f"{done} says that the run ended with {table['final']!r}, which {what}; put that folder back, or delete "
            f"{done} and resume"
        )
    return folder / str(table["final"])
