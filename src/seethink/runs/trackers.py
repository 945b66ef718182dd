"""A run's metrics for the trackers that a team uses: wandb, MLflow, Trackio, SwanLab, each where it is installed.

They take the keys of metrics.jsonl, which has everything in any case, and where a recipe asks for it tables of rollouts
with pictures (SwanLab, which has no such tables, pictures with the texts beneath). Each has a thread of its own: one
that hangs, fails or has no network costs its own figures and never the run. Where they send figures to is their own
settings' (`WANDB_MODE`, `MLFLOW_TRACKING_URI`, ...).
"""

from __future__ import annotations

import importlib.util
import math
import queue
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from seethink.core.console import say
from seethink.core.errors import UserError
from seethink.core.files import write_json
from seethink.core.redact import redact, redact_text
from seethink.runs.reading import read_object
from seethink.runs.tables import COLUMNS, NAME, Row

IDS = "trackers.json"
"""Each tracker's own name of the run, by which a resumed run goes on."""
PROJECT = "seethink"
_UNSENT = 10_000
"""Steps that wait for a tracker before it is given up."""
_CLOSE_S = 30.0
"""Seconds that the end of a run waits for what a tracker has not sent."""


class Tracker(Protocol):
    """A connection to one tracker; made and used in one thread."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def table(self, step: int, rows: Sequence[Row]) -> None: ...

    def close(self) -> None: ...


class _Logger:
    """A tracker whose run, or module, has `log` and `finish`."""

    def __init__(self, run: Any, table: Callable[[Sequence[Row]], Any]) -> None:
        """`table` makes of rows what `log` takes."""
        self._run, self._table = run, table

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def table(self, step: int, rows: Sequence[Row]) -> None:
        self._run.log({NAME: self._table(rows)}, step=step)

    def close(self) -> None:
        self._run.finish()


def _wandb(name: str, identity: str, config: dict[str, Any], folder: Path) -> Tracker:
    wandb = import_module("wandb")
    settings = wandb.Settings(console="off", silent=True)
    return _Logger(
        wandb.init(
            project=PROJECT, name=name, id=identity, resume="allow", config=config, dir=str(folder), settings=settings
        ),
        lambda rows: wandb.Table(columns=list(COLUMNS), data=_data(rows, wandb.Image)),
    )


def _trackio(name: str, identity: str, config: dict[str, Any], folder: Path) -> Tracker:
    trackio = import_module("trackio")
    trackio.init(project=PROJECT, name=f"{name}-{identity[:8]}", config=config, resume="allow", embed=False)
    return _Logger(trackio, lambda rows: trackio.Table(columns=list(COLUMNS), data=_data(rows, trackio.Image)))


def _data(rows: Sequence[Row], image: Callable[[Image.Image], Any]) -> list[list[Any]]:
    """The values of a table, its pictures as a tracker has them."""
    return [[None if row.picture is None else image(row.picture), *row.cells()] for row in rows]


def _swanlab(name: str, identity: str, config: dict[str, Any], folder: Path) -> Tracker:
    swanlab = import_module("swanlab")
    return _Logger(
        swanlab.init(
            project=PROJECT, experiment_name=name, id=identity, resume="allow", config=config,
            logdir=str(folder / "swanlab"),
        ),
        lambda rows: [swanlab.Image(row.picture or _nothing(), caption=_caption(row)) for row in rows],
    )  # fmt: skip


def _nothing() -> Image.Image:
    """Stands where a row has no picture, and a tracker wants one in each."""
    return Image.new("RGB", (1, 1), "white")


def _caption(row: Row) -> str:
    return "\n".join(f"{name}: {value}" for name, value in zip(COLUMNS[1:], row.cells(), strict=True))


class _Mlflow:
    def __init__(self, name: str, identity: str, config: dict[str, Any], folder: Path) -> None:
        client = import_module("mlflow").MlflowClient()
        found = client.get_experiment_by_name(PROJECT)
        experiment = found.experiment_id if found is not None else client.create_experiment(PROJECT)
        query = f"tags.seethink = '{identity}'"
        runs = client.search_runs([experiment], query, max_results=1)
        run = runs[0] if runs else client.create_run(experiment, run_name=name, tags={"seethink": identity})
        self._client, self._run = client, run.info.run_id
        if not runs:
            client.log_dict(self._run, config, "recipe.json")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        metric = import_module("mlflow.entities").Metric
        values = [metric(key, value, 0, step) for key, value in metrics.items()]
        self._client.log_batch(self._run, metrics=values)

    def table(self, step: int, rows: Sequence[Row]) -> None:
        """A file of its own for each step. A column of pictures must have one in every row."""
        image = import_module("mlflow").Image
        values = {COLUMNS[0]: [image(row.picture or _nothing()) for row in rows]}
        values |= {name: [row.cells()[i] for row in rows] for i, name in enumerate(COLUMNS[1:])}
        self._client.log_table(self._run, data=values, artifact_file=f"{NAME}/step_{step:06d}.json")

    def close(self) -> None:
        self._client.set_terminated(self._run)


KINDS: dict[str, Callable[[str, str, dict[str, Any], Path], Tracker]] = {
    "wandb": _wandb, "mlflow": _Mlflow, "trackio": _trackio, "swanlab": _swanlab,
}  # fmt: skip


def require_installed(names: Iterable[str]) -> None:
    """Raises UserError where a tracker of a recipe is not installed."""
    absent = [name for name in names if importlib.util.find_spec(name) is None]
    if absent:
        raise UserError(f"log.trackers names {', '.join(absent)}, which is not installed: pip install {absent[0]}")


class Trackers:
    """The trackers of one run."""

    def __init__(self, names: Iterable[str], folder: Path, recipe: Mapping[str, Any]) -> None:
        """`recipe` goes along without its secrets."""
        identities = _identities(names, folder)
        config, name = redact(dict(recipe)), folder.absolute().name
        self._threads = [_InThread(kind, name, one, config, folder) for kind, one in identities.items()]

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Values that are not finite are left out."""
        finite = {key: float(value) for key, value in metrics.items() if math.isfinite(value)}
        for thread in self._threads:
            thread.send(lambda tracker: tracker.log(step, finite))

    def write_table(self, step: int, rows: Sequence[Row]) -> None:
        """A table of rollouts. A tracker that does not take it goes on without tables."""
        for thread in self._threads:
            thread.send_table(lambda tracker: tracker.table(step, rows))

    def close(self) -> None:
        for thread in self._threads:
            thread.close()


_Sending = Callable[[Tracker], None]


def _told(error: BaseException) -> str:
    """A tracker's error in a line, without secrets."""
    return redact_text(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")


class _InThread:
    """A tracker in a thread, which makes it, feeds it and closes it."""

    def __init__(self, kind: str, name: str, identity: str, config: dict[str, Any], folder: Path) -> None:
        self._kind = kind
        self._waiting: queue.Queue[_Sending | None] = queue.Queue(_UNSENT)
        self._failed, self._tables = threading.Event(), True
        self._thread = threading.Thread(target=self._run, args=(name, identity, config, folder), daemon=True)
        self._thread.start()

    def send(self, sending: _Sending) -> None:
        if self._failed.is_set():
            return
        try:
            self._waiting.put_nowait(sending)
        except queue.Full:
            self._leave_out(f"{_UNSENT:,} steps wait to be sent")

    def send_table(self, sending: _Sending) -> None:
        def unless_refused(tracker: Tracker) -> None:
            try:
                if self._tables:
                    sending(tracker)
            except Exception as error:  # of another version, or with another idea of a table
                self._tables = False
                say(f"{self._kind} takes no tables of rollouts: {_told(error)}; the report has them", "yellow")

        self.send(unless_refused)

    def close(self) -> None:
        if self._failed.is_set():
            return
        self._waiting.put(None)
        self._thread.join(_CLOSE_S)
        if self._thread.is_alive():
            self._leave_out(f"it has not taken the last steps within {_CLOSE_S:.0f} s")

    def _run(self, name: str, identity: str, config: dict[str, Any], folder: Path) -> None:
        try:
            tracker = KINDS[self._kind](name, identity, config, folder)
            while (sending := self._waiting.get()) is not None:
                sending(tracker)
            tracker.close()
        except (Exception, SystemExit) as error:  # what a tracker raises, and how it gives up, is its own
            self._leave_out(_told(error))

    def _leave_out(self, why: str) -> None:
        if not self._failed.is_set():
            self._failed.set()
            say(f"{self._kind} is left out from here on: {why}; metrics.jsonl has everything", "yellow")


def _identities(names: Iterable[str], folder: Path) -> dict[str, str]:
    """Tracker -> its name of the run, kept in the folder."""
    path = folder / IDS
    known = read_object(path)
    found = {name: str(known.get(name) or secrets.token_hex(10) + "0") for name in names}
    if found != known and found:
        write_json(path, known | found)
    return found
