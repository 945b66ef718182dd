"""Trackers get every step with the run's name and no secrets; one that fails or hangs never holds up a run."""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from seethink.core.errors import UserError
from seethink.runs import trackers
from seethink.runs.tables import COLUMNS, Row
from seethink.runs.trackers import KINDS, Trackers, require_installed

REAL = dict(KINDS)
RECIPE = {"name": "mine", "reward": {"verifier": {"api_key": "sk-abcdefghijklmnop"}}}


class Kept:
    """A tracker that keeps what it is given."""

    made: list[Kept] = []  # noqa: RUF012

    def __init__(self, name: str, identity: str, config: dict[str, Any], folder: Path) -> None:
        self.about, self.steps, self.is_closed = (name, identity, config), [], False
        self.tables: list[tuple[int, list[Row]]] = []
        Kept.made.append(self)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.steps.append((step, dict(metrics)))

    def table(self, step: int, rows: Sequence[Row]) -> None:
        self.tables.append((step, list(rows)))

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    Kept.made = []
    monkeypatch.setitem(KINDS, "wandb", Kept)


def test_every_step_arrives_and_a_resumed_run_has_the_same_name(tmp_path: Path) -> None:
    for steps in ((1, 2), (3,)):
        run = Trackers(["wandb"], tmp_path, RECIPE)
        for step in steps:
            run.write(step, {"reward/mean": 0.5 * step, "loss/kl": float("nan")})
        run.close()
    first, second = Kept.made
    assert [s for one in Kept.made for s in one.steps] == [(n, {"reward/mean": 0.5 * n}) for n in (1, 2, 3)]
    assert first.about == second.about
    assert first.about[0] == tmp_path.name
    assert first.is_closed
    assert "sk-abc" not in json.dumps(first.about[2])


def test_one_that_fails_is_left_out_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(self: Kept, step: int, metrics: Mapping[str, float]) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(Kept, "log", broken)
    run = Trackers(["wandb"], tmp_path, RECIPE)
    for step in range(3):
        run.write(step, {"a": 1.0})
    run.close()
    said = capsys.readouterr().out
    assert said.count("wandb is left out from here on: ConnectionError: no network") == 1


def test_one_that_hangs_costs_a_bounded_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    release = threading.Event()
    monkeypatch.setattr(Kept, "log", lambda *args: release.wait(20))
    monkeypatch.setattr(trackers, "_CLOSE_S", 0.05)
    monkeypatch.setattr(trackers, "_UNSENT", 2)
    run = Trackers(["wandb"], tmp_path, RECIPE)
    for step in range(8):
        run.write(step, {"a": 1.0})
    run.close()
    release.set()
    assert "2 steps wait to be sent" in capsys.readouterr().out


def test_no_tracker_leaves_no_trace_and_an_absent_one_is_named(tmp_path: Path) -> None:
    run = Trackers([], tmp_path, RECIPE)
    run.write(1, {"a": 1.0})
    run.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match=r"log\.trackers names nowhere.*pip install nowhere"):
        require_installed(["nowhere"])


def row(response: str, *, picture: bool = True) -> Row:
    shown = Image.new("RGB", (12, 8), "red") if picture else None
    return Row(shown, "what?", response, "7", "7", "correct", 1.0, 0.5)


def test_tables_arrive_and_a_tracker_without_them_keeps_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refusing(self: Kept, step: int, rows: Sequence[Row]) -> None:
        raise AttributeError("no Table here")

    rows = [row("right")]
    first = Trackers(["wandb"], tmp_path, RECIPE)
    first.write_table(1, rows)
    first.close()
    assert Kept.made[0].tables == [(1, rows)]
    monkeypatch.setattr(Kept, "table", refusing)
    second = Trackers(["wandb"], tmp_path, RECIPE)
    for step in (2, 3):
        second.write_table(step, rows)
        second.write(step, {"a": 1.0})
    second.close()
    assert Kept.made[1].steps == [(2, {"a": 1.0}), (3, {"a": 1.0})]
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("wandb takes no tables of rollouts: AttributeError: no Table here") == 1


class Documented(ModuleType):
    """Stands for a tracker's module: of its classes and functions those that seethink calls, with the parameters that
    its documentation gives them. It shows that calls fit the documentation, not that the tracker takes them."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.logged: list[tuple[dict[str, Any], int]] = []

    @staticmethod
    def Table(*, columns: list[str], data: list[list[Any]]) -> dict[str, Any]:
        assert all(len(line) == len(columns) for line in data)
        return {"columns": columns, "data": data}

    @staticmethod
    def Image(value: Image.Image, caption: str | None = None) -> tuple[tuple[int, int], str | None]:
        assert isinstance(value, Image.Image)
        return value.size, caption

    def Settings(self, **settings: Any) -> dict[str, Any]:
        return settings

    def init(self, **settings: Any) -> Documented:
        return self

    def log(self, data: dict[str, Any], step: int) -> None:
        self.logged.append((data, step))

    def finish(self) -> None:
        pass


def documented(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Documented:
    module = Documented(kind)
    monkeypatch.setitem(sys.modules, kind, module)
    monkeypatch.setitem(KINDS, kind, REAL[kind])
    run = Trackers([kind], tmp_path, RECIPE)
    run.write_table(4, [row("right"), row("wrong", picture=False)])
    run.close()
    return module


@pytest.mark.parametrize("kind", ["wandb", "trackio"])
def test_tables_as_wandb_and_trackio_document_them(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ((logged, step),) = documented(kind, tmp_path, monkeypatch).logged
    table = logged["rollouts"]
    assert step == 4
    assert table["columns"] == list(COLUMNS)
    assert table["data"][0] == [((12, 8), None), "what?", "right", "7", "7", "correct", 1.0, 0.5]
    assert table["data"][1][:3] == [None, "what?", "wrong"]


def test_pictures_with_captions_as_swanlab_documents_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ((logged, step),) = documented("swanlab", tmp_path, monkeypatch).logged
    assert step == 4
    assert [size for size, _ in logged["rollouts"]] == [(12, 8), (1, 1)]
    assert "response: right\nanswer: 7" in logged["rollouts"][0][1]


def test_a_file_for_each_step_as_mlflow_documents_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[str, dict[str, list[Any]], str]] = []

    class Client:
        def __getattr__(self, name: str) -> Any:
            return lambda *args, **kwargs: []

        def create_run(self, *args: Any, **kwargs: Any) -> Any:
            return SimpleNamespace(info=SimpleNamespace(run_id="r1"))

        def get_experiment_by_name(self, name: str) -> Any:
            return SimpleNamespace(experiment_id="e1")

        def log_table(self, run_id: str, data: dict[str, list[Any]], artifact_file: str) -> None:
            taken.append((run_id, data, artifact_file))

    module = Documented("mlflow")
    module.MlflowClient = Client  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", module)
    run = Trackers(["mlflow"], tmp_path, RECIPE)
    run.write_table(4, [row("right"), row("wrong", picture=False)])
    run.close()
    ((run_id, data, file),) = taken
    assert (run_id, file) == ("r1", "rollouts/step_000004.json")
    assert list(data) == list(COLUMNS)
    assert [size for size, _ in data["picture"]] == [(12, 8), (1, 1)]
    assert data["response"] == ["right", "wrong"]


WRITTEN = {
    "wandb": "wandb/offline-run-*/files/media/table/rollouts_2_*.table.json",
    "mlflow": "mlruns/*/*/artifacts/rollouts/step_000002.json",
    "trackio": "trackio/media/seethink/*/2/*.png",
    "swanlab": "swanlab/run-*/media/image",
}
"""What a run with a table of step 2 leaves on the disk."""


@pytest.mark.parametrize("kind", ["mlflow", "trackio", "swanlab", "wandb"])
def test_the_real_one_takes_a_run(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Skipped where the package is not installed."""
    if importlib.util.find_spec(kind) is None:
        pytest.skip(f"no {kind}")
    for name, value in {
        "WANDB_MODE": "offline", "SWANLAB_MODE": "local", "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/ml.db",
        "TRACKIO_DIR": str(tmp_path / "trackio"),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(KINDS, kind, REAL[kind])
    run = Trackers([kind], tmp_path, RECIPE)
    run.write(1, {"reward/mean": 0.5})
    run.write(2, {"reward/mean": 0.75})
    run.write_table(2, [row("right"), row("wrong", picture=False)])
    run.close()
    said = capsys.readouterr().out
    assert "left out" not in said
    assert "takes no tables" not in said
    assert len(list(tmp_path.glob(WRITTEN[kind]))) == 1
    if kind == "mlflow":
        client = sys.modules["mlflow"].MlflowClient()
        (found,) = client.search_runs([client.get_experiment_by_name("seethink").experiment_id])
        assert [m.value for m in client.get_metric_history(found.info.run_id, "reward/mean")] == [0.5, 0.75]
    assert isinstance(sys.modules[kind], ModuleType)
