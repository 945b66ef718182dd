"""Items 31 and 39: a full disk while saving, a read-only log folder, a tracker that fails, a clock that jumps."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.killing import stage_recipe
from seethink.config import Recipe, load_recipe
from seethink.core.errors import UserError
from seethink.runs import checkpoint
from seethink.runs.checkpoint import newest_checkpoint
from seethink.runs.metrics import MetricsWriter, read_metrics
from seethink.runs.optimizer_state import CheckpointError
from seethink.train.start import train as train_stage

FULL = OSError(errno.ENOSPC, "No space left on device")


def recipe(folder: Path, **overrides: Any) -> Recipe:
    keys = {"blindness.every": 0, "sft.val_every": 100, "checkpoint.keep_best": 0, "checkpoint.keep": 5}
    return load_recipe(stage_recipe(folder, "run", "sft", **keys | overrides))


def failing_at_step(step: int, real: Callable[..., Any], name: Callable[..., str]) -> Callable[..., Any]:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if f"step_{step:06d}" in name(*args, **kwargs):
            raise FULL
        return real(*args, **kwargs)

    return wrapped


WRITES = {
    "weights": ("export_model", lambda model, chat, folder, about, weights: str(folder)),
    "state": ("save_file", lambda tensors, file: str(file)),
    "hashes": ("write_manifest", lambda folder: str(folder)),
    "room": ("require_room", None),
}


@pytest.mark.slow
@pytest.mark.parametrize("write", WRITES)
def test_31_a_full_disk_costs_one_checkpoint(
    tmp_path: Path, write: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The old one stays, what was half written goes, it is said, counted, and the next is tried."""
    name, where = WRITES[write]
    if where is None:
        usage, calls = shutil.disk_usage, []

        def little_once(path: Any) -> Any:
            calls.append(path)
            real = usage(path)
            # The first call is at the start, the second for step 2, the third for step 4.
            return real._replace(free=1000) if len(calls) == 3 else real

        monkeypatch.setattr(shutil, "disk_usage", little_once)
    else:
        monkeypatch.setattr(checkpoint, name, failing_at_step(4, getattr(checkpoint, name), where))
    train_stage(recipe(tmp_path))
    run = tmp_path / "run"
    said = " ".join(capsys.readouterr().out.split())
    assert "CHECKPOINT FAILED: the checkpoint of step 4 was not saved: the disk is full" in said
    assert "that of step 2 is still the newest" in said
    if where is None:
        assert "needs 0.0" in said
        assert "and has 0.00 GB" in said
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["step_000002", "step_000006"]
    assert [r.get("checkpoint/failed") for r in read_metrics(run)] == [None, None, None, None, 1, None]


@pytest.mark.slow
def test_31_a_disk_without_room_for_one_checkpoint_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real(path)._replace(free=1_000_000))
    with pytest.raises(CheckpointError, match=r"no checkpoint could be saved: .* has 0\.00 GB.*free some room"):
        train_stage(recipe(tmp_path))
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    monkeypatch.setattr(shutil, "disk_usage", real)
    train_stage(recipe(tmp_path))


@pytest.mark.slow
def test_31_a_run_that_saved_nothing_has_nothing_to_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message at its end and the one of --resume say the same."""

    def full(*_: Any, **__: Any) -> None:
        raise FULL

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full)
        with pytest.raises(CheckpointError, match=r"there is none yet\. Free some room and begin again"):
            train_stage(recipe(tmp_path))
    with pytest.raises(UserError, match=r"but no checkpoint .* or delete .* to begin again"):
        train_stage(recipe(tmp_path), resume=True)


@pytest.mark.slow
def test_31_a_run_without_its_last_checkpoint_is_not_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        save = checkpoint.save_file
        patch.setattr(checkpoint, "save_file", failing_at_step(6, save, lambda tensors, file: str(file)))
        with pytest.raises(CheckpointError, match=r"step 6 was not saved: the disk is full.*step 4.*resume"):
            train_stage(recipe(tmp_path))
    assert not (tmp_path / "run" / "done.json").exists()
    train_stage(recipe(tmp_path), resume=True)
    assert [r["step"] for r in read_metrics(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_31_best_weights_that_do_not_fit_leave_those_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`best` and what done.json says of it agree."""
    export, calls = checkpoint.export_model, []

    def second_fails(model: Any, chat: Any, folder: Path, about: dict[str, Any], weights: Any) -> None:
        if folder.name == ".best.tmp":
            calls.append(about["step"])
            if len(calls) == 2:
                raise FULL
        export(model, chat, folder, about, weights)

    monkeypatch.setattr(checkpoint, "export_model", second_fails)
    best = train_stage(recipe(tmp_path, **{"sft.val_every": 2}))
    done = json.loads((tmp_path / "run" / "done.json").read_text())
    assert json.loads((best / "seethink.json").read_text())["step"] == done["best_step"]
    assert calls[1] != done["best_step"]


REAL = """
import sys, pathlib, shutil
sys.path[:0] = [sys.argv[2]]
import torch
from helpers.nano import save_nano
from seethink.models.load import load_model
from seethink.runs import checkpoint
home = pathlib.Path(sys.argv[1])
loaded = load_model(str(save_nano(pathlib.Path(sys.argv[3]))))
checkpoint.EXTRAS = 0
shutil.disk_usage = lambda path: shutil._ntuple_diskusage(1 << 40, 0, 1 << 40)
save = lambda step, **kw: checkpoint.save_checkpoint(home / "c", step, loaded, kw, {}, {}, keep=5)
save(1, x=torch.ones(3))
for name, size in (("state", 40_000_000), ("weights", 1)):
    if name == "weights":
        (home / "filler").write_bytes(b"0" * (shutil.os.statvfs(home).f_bavail * 4096 - 100_000))
    try:
        save(2, x=torch.ones(size))
        print("no error")
    except Exception as error:
        from seethink.core.files import disk_is_full, is_write_failure
        print(name, is_write_failure(error), disk_is_full(error))
    print(sorted(p.name for p in (home / "c").iterdir()), checkpoint.newest_checkpoint(home / "c").step)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode != 0
    if shutil.which("unshare")
    else True,
    reason="needs leave to mount a small disk",
)
def test_31_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """A file system of 60 MB of its own."""
    disk, tests = tmp_path / "disk", Path(__file__).resolve().parents[1]
    disk.mkdir()
    script = tmp_path / "script.py"
    script.write_text(REAL)
    run = f"mount -t tmpfs -o size=60m tmpfs {disk} && {sys.executable} {script} {disk} {tests} {tmp_path / 'base'}"
    ended = subprocess.run(["unshare", "-rm", "sh", "-c", run], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    lines = [line for line in ended.stdout.splitlines() if line]
    assert lines == ["state True True", "['step_000001'] 1", "weights True True", "['step_000001'] 1"]


# ---- 39


def writes(folder: Path, steps: range) -> None:
    with MetricsWriter(folder, tensorboard=True) as writer:
        for step in steps:
            writer.write(step, {"loss/total": 0.5})


def test_39_lines_that_cannot_be_written_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """A full disk takes a part of a line, then nothing, then all again: no line is torn, lost or double."""
    real, calls = os.write, []

    def flaky(file: int, data: bytes) -> int:
        if b"loss/total" not in data:
            return real(file, data)
        calls.append(data)
        if len(calls) == 2:
            return real(file, data[:7])
        if len(calls) == 3:
            raise FULL
        return real(file, data)

    monkeypatch.setattr(os, "write", flaky)
    with MetricsWriter(tmp_path, tensorboard=False) as writer:
        for step in range(1, 6):
            writer.write(step, {"loss/total": 0.5})
    assert [r["step"] for r in read_metrics(tmp_path)] == [1, 2, 3, 4, 5]
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 5
    assert "2 lines wait in memory, training goes on" in " ".join(capsys.readouterr().out.split())


def test_39_a_tracker_that_fails_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from torch.utils.tensorboard import SummaryWriter

    def offline(*_: Any, **__: Any) -> None:
        raise ConnectionError("offline")

    monkeypatch.setattr(SummaryWriter, "add_scalar", offline)
    writes(tmp_path, range(1, 4))
    assert len(read_metrics(tmp_path)) == 3
    assert capsys.readouterr().out.count("TensorBoard is left out") == 1


def test_39_a_log_folder_that_cannot_be_written(tmp_path: Path, capsys: Any) -> None:
    """A file stands where the folder should be: it fails for root too, whom no permission stops."""
    (tmp_path / "tensorboard").write_text("")
    writes(tmp_path, range(1, 4))
    assert len(read_metrics(tmp_path)) == 3
    assert "no TensorBoard" in capsys.readouterr().out


@pytest.mark.slow
def test_39_a_clock_that_jumps_changes_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_stage(recipe(tmp_path / "a"))
    now = iter(range(10**9, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    train_stage(recipe(tmp_path / "b"))
    one, other = (newest_checkpoint(tmp_path / name / "run" / "checkpoints") for name in "ab")
    assert one is not None
    assert other is not None
    for file in ("model.safetensors", "train_state/tensors.safetensors"):
        assert (one.path / file).read_bytes() == (other.path / file).read_bytes()
