"""Reads a run folder, whole or damaged, into dataclasses.

A missing or broken file raises nothing: `Run.problems` names it, and the page prints the problems. The only
error is a folder that holds nothing of a run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seethink.core.files import inside
from seethink.runs.reading import RunFileError, read_lines, read_object

STAGE_FILES = ("recipe.json", "metrics.jsonl", "eval.json", "parts.json", "data.json")
STAGE_ORDER = ("base", "cold_start", "sft", "grpo", "ppo", "connector")
PARTS = ("vision", "connector", "language")

LAST_STEP, LARGEST = 1e15, 1e30
"""Beyond these values the ticks of an axis cannot be told apart in double precision."""

Points = list[tuple[float, float]]
"""(step, value) pairs in the order of the file."""


@dataclass(frozen=True, slots=True)
class Score:
    """One line of an evaluation. Example: `Score("math", "all", "avg@4", 0.71, stderr=0.012, n=500)`."""

    domain: str
    difficulty: str
    mode: str
    accuracy: float
    stderr: float | None = None
    n: int | None = None
    mean_tokens: float | None = None
    no_answer_rate: float | None = None
    format_rate: float | None = None


@dataclass(slots=True)
class Stage:
    """One folder of a run; every field may be empty."""

    name: str
    folder: Path
    recipe: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    parts: list[dict[str, Any]] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    scores: list[Score] = field(default_factory=list)
    blindness: list[dict[str, Any]] = field(default_factory=list)
    """The checks of the blindness guard, one row per check."""
    entropy: list[dict[str, Any]] = field(default_factory=list)
    """Statistics of the token entropies, one row per step, by group of tokens."""
    alarms: list[dict[str, Any]] | None = None
    """The watchdogs' alarms; None where no watchdog ran."""
    modes: dict[str, Any] = field(default_factory=dict)
    """Inference modes compared, on a checkpoint of the stage."""
    selection: dict[str, Any] = field(default_factory=dict)
    """The checkpoints ranked by each criterion."""

    @property
    def kind(self) -> str:
        """`rl`, `sft`, or `none` for a stage that trained nothing, such as the base model."""
        named = self.recipe.get("stage")
        if named in ("grpo", "ppo") or (named is None and self.points("reward/mean")):
            return "rl"
        return "sft" if named == "sft" or self.metrics else "none"

    def points(self, key: str) -> Points:
        """The values of one metric that can be drawn."""
        return _drawable(self.metrics, key)

    def change(self, part: str) -> Points:
        """The relative L2 change of a part's weights since the stage began, by step."""
        return self.points(f"parts/change_{part}")


@dataclass(slots=True)
class Run:
    """A whole run: one stage, or the stages of a pipeline in their order."""

    path: Path
    title: str
    stages: list[Stage]
    in_domain: tuple[str, ...] = ()
    out_of_domain: tuple[str, ...] = ()
    modes: dict[str, Any] = field(default_factory=dict)
    """Inference modes compared, where the run's own folder has them."""
    facts: dict[str, Any] = field(default_factory=dict)
    """`seconds`, `machine`, `versions` and `command`, where the run recorded them."""
    note: str = ""
    """A sentence that belongs under its accuracies."""
    problems: list[str] = field(default_factory=list)


def load_run(path: Path) -> Run:
    """Read the folder of a pipeline or of a stage. Raises ValueError where it holds neither."""
    problems: list[str] = []
    pipeline = _object(path / "pipeline.json", problems)
    folders = _stage_folders(path, pipeline, problems)
    if not folders:
        raise ValueError(_wrong_folder(path))
    stages = [_load_stage(name, folder, problems) for name, folder in folders]
    only = stages[0] if len(stages) == 1 else None
    title = pipeline.get("title") or (only.recipe.get("name") if only else None) or path.resolve().name
    return Run(
        path=path,
        title=str(title),
        stages=stages,
        in_domain=_names(pipeline.get("in_domain")),
        out_of_domain=_names(pipeline.get("out_of_domain")),
        modes={} if only else _object(path / "modes.json", problems),
        facts=pipeline,
        note=note if isinstance(note := pipeline.get("note"), str) else "",
        problems=problems,
    )


def number(value: Any) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _drawable(rows: list[dict[str, Any]], key: str) -> Points:
    pairs = ((number(row.get("step")), number(row.get(key))) for row in rows)
    known = [(step, value) for step, value in pairs if step is not None and value is not None]
    return [(step, value) for step, value in known if abs(step) <= LAST_STEP and abs(value) <= LARGEST]


def json_lines(path: Path, problems: list[str]) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file; the damaged lines are counted into `problems`."""
    bad: list[int] = []
    try:
        yield from read_lines(path, bad)
    except RunFileError as error:
        problems.append(f"{_label(path)} could not be read: {error}.")
    if bad:
        where = f"line {bad[0]}" if len(bad) == 1 else f"{len(bad)} lines, the first of them line {bad[0]},"
        problems.append(f"{_label(path)}: {where} could not be read and was left out.")


def _object(path: Path, problems: list[str]) -> dict[str, Any]:
    """A JSON file's object; empty, and named in `problems`, where it is damaged."""
    try:
        return read_object(path)
    except RunFileError as error:
        problems.append(f"{_label(path)} is damaged and was left out: {error}.")
        return {}


def _rows(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    return list(json_lines(path, problems))


def _label(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _names(value: Any) -> tuple[str, ...]:
    return tuple(str(name) for name in value) if isinstance(value, list) else ()


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _is_stage(folder: Path) -> bool:
    named = any((folder / name).is_file() for name in STAGE_FILES)
    return named or (folder / "rollouts").is_dir() or (folder / "eval" / "rollouts.jsonl").is_file()


def _stage_folders(path: Path, pipeline: dict[str, Any], problems: list[str]) -> list[tuple[str, Path]]:
    if not path.is_dir():
        return []
    listed = _listed_folders(path, pipeline, problems)
    if listed:
        return listed
    if _is_stage(path):
        return [(path.resolve().name, path)]
    found = sorted((child for child in path.iterdir() if child.is_dir() and _is_stage(child)), key=_rank)
    if found:
        problems.append("pipeline.json lists no stages; the stages are the folders found beside it.")
    return [(child.name, child) for child in found]


def _listed_folders(path: Path, pipeline: dict[str, Any], problems: list[str]) -> list[tuple[str, Path]]:
    folders = []
    for row in _dicts(pipeline.get("stages")):
        name, folder = str(row.get("name") or row.get("dir")), inside(path, row.get("dir"))
        if folder is None:
            problems.append(f"Stage {name}: its folder {row.get('dir')!r} lies outside the run; not read.")
        elif not folder.is_dir():
            problems.append(f"Stage {name}: its folder {row.get('dir')!r} does not exist.")
        else:
            folders.append((name, folder))
    return folders


def _rank(folder: Path) -> tuple[int, str]:
    known = STAGE_ORDER.index(folder.name) if folder.name in STAGE_ORDER else len(STAGE_ORDER)
    return known, folder.name


def _wrong_folder(path: Path) -> str:
    if not path.exists():
        found = "no such folder"
    elif not path.is_dir():
        found = "a file"
    else:
        names = sorted(child.name for child in path.iterdir())
        found = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "an empty folder"
    return (
        f"{path} is not a run folder: expected pipeline.json, or one of {', '.join(STAGE_FILES)}; "
        f"found {found}. Pass the folder that --out named when the run was started."
    )


def _load_stage(name: str, folder: Path, problems: list[str]) -> Stage:
    parts = _object(folder / "parts.json", problems)
    evaluation = _object(folder / "eval.json", problems)
    stage = Stage(
        name=name,
        folder=folder,
        recipe=_object(folder / "recipe.json", problems),
        metrics=_rows(folder / "metrics.jsonl", problems),
        parts=_dicts(parts.get("parts")),
        data=_object(folder / "data.json", problems),
        scores=[score for row in _dicts(evaluation.get("scores")) if (score := _score(row))],
        blindness=_rows(folder / "blindness.jsonl", problems),
        entropy=_rows(folder / "entropy.jsonl", problems),
        alarms=_rows(alarms, problems) if (alarms := folder / "watchdogs.jsonl").is_file() else None,
        modes=_object(folder / "modes.json", problems),
        selection=_object(folder / "select.json", problems),
    )
    _note_missing(stage, problems)
    return stage


def _score(row: dict[str, Any]) -> Score | None:
    accuracy, n = number(row.get("accuracy")), number(row.get("n"))
    if accuracy is None or row.get("domain") is None:
        return None
    return Score(
        domain=str(row["domain"]),
        difficulty=str(row.get("difficulty") or "all"),
        mode=str(row.get("mode") or "greedy"),
        accuracy=accuracy,
        stderr=number(row.get("stderr")),
        n=None if n is None else int(n),
        mean_tokens=number(row.get("mean_tokens")),
        no_answer_rate=number(row.get("no_answer_rate")),
        format_rate=number(row.get("format_rate")),
    )


def _note_missing(stage: Stage, problems: list[str]) -> None:
    if not stage.scores:
        problems.append(f"Stage {stage.name}: no evaluation (eval.json), so it has no accuracy.")
    if not stage.recipe and not stage.metrics:
        return
    if not stage.recipe:
        problems.append(f"Stage {stage.name}: no recipe (recipe.json).")
    if not stage.metrics:
        problems.append(f"Stage {stage.name}: no metrics (metrics.jsonl), so it has no curves and no times.")
    if not stage.parts:
        problems.append(f"Stage {stage.name}: no part table (parts.json).")
