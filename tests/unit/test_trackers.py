"""Trackers get every step with the run's name and no secrets; one that fails or hangs never holds up a run."""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from seethink.core.errors import UserError
from seethink.runs import trackers
from seethink.runs.trackers import KINDS, Trackers, require_installed

REAL = dict(KINDS)
RECIPE = {"name": "mine", "reward": {"verifier": {"api_key": "sk-abcdefghijklmnop"}}}


class Kept:
    """A tracker that keeps what it is given."""

    made: list[Kept] = []  # noqa: RUF012

    def __init__(self, name: str, identity: str, config: dict[str, Any], folder: Path) -> None:
        self.about, self.steps, self.is_closed = (name, identity, config), [], False
        Kept.made.append(self)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.steps.append((step, dict(metrics)))

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
    run.close()
    assert "left out" not in capsys.readouterr().out
    if kind == "mlflow":
        client = sys.modules["mlflow"].MlflowClient()
        (found,) = client.search_runs([client.get_experiment_by_name("seethink").experiment_id])
        assert [m.value for m in client.get_metric_history(found.info.run_id, "reward/mean")] == [0.5, 0.75]
    assert isinstance(sys.modules[kind], ModuleType)
