"""The process of one job: train the arm, then measure it, as job.json in the arm's folder says.

`run` is what the process does; the processes are forked from one that has imported `warm`.

Parts whose results exist are skipped, so that the same command continues after a kill.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seethink.config import Recipe
from seethink.core.console import make_streams_lenient
from seethink.core.errors import UserError
from seethink.core.exits import EXIT_RESUME, RunStopped
from seethink.core.files import write_json
from seethink.core.orphans import stop_with_parent
from seethink.runs.reading import read_lines, read_object

FILE = "job.json"
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "NO_COLOR": "1", "COLUMNS": "160"}
DONE = "measured.json"
"""Finished measurements with their settings: {"eval": {...}, ...}."""


def main(folder: Path) -> None:
    about = read_object(folder / FILE)
    # Saved and stopped when the lab is killed, so that the next start finds no folder in use.
    stop_with_parent()
    recipe = None if about["recipe"] is None else Recipe.model_validate(about["recipe"])
    if recipe is not None and about["collect"] is not None:
        with _timed(folder, "collect"):
            recipe = _on_own_traces(recipe, folder / "own", about["collect"])
    with _timed(folder, "train"):
        model = _put_back(folder, about["undo"]) if "undo" in about else _train(recipe, about["model"])
    _measure_all(model, folder, about["measurements"])


def _on_own_traces(recipe: Recipe, folder: Path, asked: dict[str, Any]) -> Recipe:
    """Raises LabError where fewer rows are right than the recipe trains on: arms compare at the same number of rows."""
    from seethink.studies.lab.schema import LabError
    from seethink.studies.own_traces import OwnTraces, with_own_traces

    own = OwnTraces(asked["source"], asked["questions"], tuple(asked["set"]))
    recipe = with_own_traces(recipe, folder, own, asked["seed"])
    rows, wanted = sum(1 for _ in read_lines(Path(recipe.data.train), [])), recipe.data.train_size or 1
    if rows < wanted:
        raise LabError(f"{rows:,} answers of {recipe.model} can be trained on, and {wanted:,} are wanted: see {folder}")
    return recipe


def _measure_all(model: str, folder: Path, measurements: dict[str, Any]) -> None:
    """A measurement that fails does not stop the others; the first failure is raised at the end."""
    from seethink.studies.lab.measurements import MEASUREMENTS

    done, failure = finished(folder), None
    for name, settings in measurements.items():
        if done.get(name) == settings:
            continue
        try:
            with _timed(folder, name):
                MEASUREMENTS[name](model, folder, settings)
        except Exception as error:
            print(f"{name} failed: {error}", file=sys.stderr)
            failure = failure or error
            continue
        done[name] = settings
        write_json(folder / DONE, done)
    if failure is not None:
        raise failure


def finished(folder: Path) -> dict[str, Any]:
    """Finished measurement -> the settings that it was made with."""
    return read_object(folder / DONE)


def _train(recipe: Recipe | None, base: str) -> str:
    """The model to measure: trained here, or a base model as it is."""
    if recipe is None:
        return base
    from seethink.train.start import train

    return str(train(recipe, resume=True))


def _put_back(folder: Path, undo: dict[str, Any]) -> str:
    from seethink.studies.lab.parts import put_back

    return put_back(undo["after"], undo["before"], undo["parts"], folder)


@contextmanager
def _timed(folder: Path, part: str) -> Iterator[None]:
    """Add the wall and CPU seconds of a part to times.json, which sums over all starts."""
    started, before = time.perf_counter(), _cpu_seconds()
    try:
        yield
    finally:
        path = folder / "times.json"
        times = read_object(path)
        wall, cpu = times.get(part, (0.0, 0.0))
        times[part] = [round(wall + time.perf_counter() - started, 2), round(cpu + _cpu_seconds() - before, 2)]
        write_json(path, times)


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def run(folder: Path, log: Path) -> None:
    """The whole of the process: all that it says is appended to `log`, and the exit code tells how it ended."""
    os.environ.update(ENVIRONMENT)
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C reaches only the lab, which terminates each child once.
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    make_streams_lenient()
    try:
        main(folder)
    except RunStopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(EXIT_RESUME)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
