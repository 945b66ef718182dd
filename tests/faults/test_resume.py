"""Items 28, 32, 33 and 38: damaged checkpoints, changed data, recipe, model and code, two runs on one folder."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.killing import stage_recipe
from helpers.nano import save_nano
from seethink.config import Recipe, load_recipe
from seethink.core.errors import UserError
from seethink.data.quarantine import DataError
from seethink.runs import folder as run_folder
from seethink.runs.checkpoint import newest_checkpoint
from seethink.runs.folder import MADE, RunFolderError
from seethink.runs.identity import SAMPLED, model_identity
from seethink.runs.lock import FolderInUseError, FolderLock
from seethink.runs.manifest import write_manifest
from seethink.runs.metrics import read_metrics
from seethink.runs.optimizer_state import CheckpointError
from seethink.runs.reading import RunFileError
from seethink.studies.quickstart import QUICKSTART, Stage, run_pipeline
from seethink.train.start import train as train_stage

ROWS = [
    {"id": f"r{i}", "prompt": f"What is {i} plus 1?", "answer": str(i + 1),
     "response": f"<think>{i} and 1 make {i + 1}.</think>The answer is {i + 1}."}
    for i in range(16)
]  # fmt: skip


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text-only SFT run that is not finished: checkpoints of steps 2 and 4 of 6, a model of its own beside it."""
    home = tmp_path_factory.mktemp("stopped")
    save_nano(home / "base")
    write_rows(home, ROWS)
    with contextlib.chdir(home):
        train_stage(recipe(home))
    run = home / "run"
    (run / "done.json").unlink()
    shutil.rmtree(run / "checkpoints" / "step_000006")
    assert [p.name for p in sorted((run / "checkpoints").iterdir())] == ["step_000002", "step_000004"]
    return home


@pytest.fixture
def home(stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to spoil, where the recipe's data and model are."""
    shutil.copytree(stopped, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


def write_rows(home: Path, rows: list[dict[str, Any]]) -> None:
    (home / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def recipe(home: Path, **overrides: Any) -> Recipe:
    keys = {
        "model": "./base",
        "data.train": "rows.jsonl",
        "data.val_size": 4,
        "sft.batch_size": 6,
    }
    keys |= {"checkpoint.keep": 5, "checkpoint.keep_best": 0, "blindness.every": 0, "log.tensorboard": True}
    path = stage_recipe(home, "run", "sft", **keys | overrides)
    path.write_text("\n".join(line for line in path.read_text().splitlines() if not line.startswith("data.train_size")))
    return load_recipe(path)


def last_step(home: Path) -> int:
    return int(json.loads((home / "run" / "done.json").read_text())["step"])


# ---- 32


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 20)


FILES = (
    "model.safetensors",
    "train_state/tensors.safetensors",
    "train_state/state.json",
    "config.json",
    "manifest.json",
)
DAMAGE = {"flipped": flip, "missing": Path.unlink, "truncated": truncate}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGE)
def test_32_a_damaged_file_is_named_and_the_checkpoint_before_it_taken(home: Path, damage: str, file: str) -> None:
    checkpoints = home / "run" / "checkpoints"
    DAMAGE[damage](checkpoints / "step_000004" / file)
    said: list[str] = []
    if file == "manifest.json" and damage == "flipped":
        (checkpoints / "step_000004" / file).write_text("{}")
    newest = newest_checkpoint(checkpoints, say=said.append)
    assert newest is not None
    assert newest.step == 2
    assert "DAMAGED CHECKPOINT" in said[0]
    assert str(checkpoints / "step_000004" / file) in said[0]
    assert "going back to" in said[1]


def test_32_the_run_goes_on_from_the_one_before(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(home / "run" / "checkpoints" / "step_000004" / "model.safetensors")
    train_stage(recipe(home), resume=True)
    said = " ".join(capsys.readouterr().out.split())
    assert "DAMAGED CHECKPOINT" in said
    assert "resuming" in said
    assert "after step 2" in said
    assert last_step(home) == 6
    names = [p.name for p in sorted((home / "run" / "checkpoints").iterdir())]
    assert names == ["damaged_step_000004", "step_000002", "step_000004", "step_000006"]


def test_32_never_from_scratch_unasked(home: Path) -> None:
    for path in (home / "run" / "checkpoints").iterdir():
        flip(path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* is whole .*delete .* to begin again"):
        train_stage(recipe(home), resume=True)
    shutil.rmtree(home / "run" / "checkpoints")
    with pytest.raises(RunFolderError, match=r"metrics of 6 steps but no checkpoint.*delete .* to begin again"):
        train_stage(recipe(home), resume=True)


# ---- a finished run


@pytest.mark.slow
def test_a_finished_run_goes_on_where_a_change_gives_it_more_to_train(home: Path) -> None:
    """More epochs, then more rows; without a change it is left as it is."""
    best = train_stage(recipe(home), resume=True)
    before = snapshot(home / "run")
    assert {path.name for path in (home / "run").iterdir()} <= MADE
    assert train_stage(recipe(home), resume=True) == best
    assert snapshot(home / "run") == before
    more = {"sft.epochs": 4}
    with pytest.raises(RunFolderError, match=r"differs in sft\.epochs .*--allow sft\.epochs"):
        train_stage(recipe(home, **more), resume=True)
    with pytest.raises(UserError, match=r"with other optim\.lr nothing is left to train: it has done 6 steps"):
        train_stage(recipe(home, **{"optim.lr": 5e-4}), resume=True, allow=["optim.lr"])
    assert snapshot(home / "run") == before, "what was refused has changed nothing"
    train_stage(recipe(home, **more), resume=True, allow=["sft.epochs"])
    assert last_step(home) == 8
    assert [r["step"] for r in read_metrics(home / "run")] == list(range(1, 9))

    write_rows(home, [*ROWS, *(row | {"id": f"new-{row['id']}"} for row in ROWS)])
    with pytest.raises(DataError, match=r"the data are not those .*--allow data"):
        train_stage(recipe(home, **more), resume=True)
    train_stage(recipe(home, **more), resume=True, allow=["data"])
    assert last_step(home) == 16
    assert train_stage(recipe(home, **more), resume=True) == best


def snapshot(run: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name not in (".lock", "data.json", "quarantine.jsonl")
    }


@pytest.mark.slow
def test_a_finished_run_without_its_model_is_said(home: Path) -> None:
    """Neither believed nor begun again."""
    best = train_stage(recipe(home), resume=True)
    shutil.rmtree(best)
    with pytest.raises(RunFileError, match=r"done\.json says that the run ended with 'best', which is gone"):
        train_stage(recipe(home), resume=True)
    shutil.rmtree(home / "run" / "checkpoints")
    (home / "run" / "done.json").unlink()
    with pytest.raises(RunFolderError, match=r"metrics of 6 steps but no checkpoint"):
        train_stage(recipe(home), resume=True)


def without_rng(state: dict[str, Any]) -> None:
    del state["rng"]


def odd_rng(state: dict[str, Any]) -> None:
    state["rng"]["numpy"] = ["x"]


def no_counts(state: dict[str, Any]) -> None:
    state["gradient_steps"] = None
    del state["saw_images"]


@pytest.mark.parametrize("edit", [without_rng, odd_rng, no_counts], ids=lambda edit: edit.__name__)
def test_a_state_that_fits_no_run_is_one_clear_line(home: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """It was edited, and its manifest made anew."""
    folder = home / "run" / "checkpoints" / "step_000004"
    state = json.loads((folder / "train_state/state.json").read_text())
    edit(state)
    (folder / "train_state/state.json").write_text(json.dumps(state))
    write_manifest(folder)
    with pytest.raises(CheckpointError, match=r"cannot resume from .*step_000004: its state does not fit"):
        train_stage(recipe(home), resume=True)


# ---- 28 and 38


@pytest.mark.slow
def test_28_changed_data_are_refused_unless_told(home: Path) -> None:
    write_rows(home, [*ROWS[:-1], ROWS[-1] | {"response": ROWS[-1]["response"] + " Yes."}])
    with pytest.raises(DataError, match=r"the data are not those .*--allow data"):
        train_stage(recipe(home), resume=True)
    train_stage(recipe(home), resume=True, allow=["data"])
    assert last_step(home) == 6


@pytest.mark.slow
def test_38_a_changed_recipe_is_refused_key_by_key(home: Path) -> None:
    changed = {"optim.lr": 5e-4, "sft.patience": 9}
    with pytest.raises(RunFolderError, match=r"differs in optim\.lr, sft\.patience \(optim\.lr: 0\.001 -> 0\.0005"):
        train_stage(recipe(home, **changed), resume=True)
    with pytest.raises(RunFolderError, match=r"differs in sft\.patience .*--allow sft\.patience"):
        train_stage(recipe(home, **changed), resume=True, allow=["optim.lr"])
    with pytest.raises(RunFolderError, match=r"--allow optim\.learning: no such recipe key"):
        train_stage(recipe(home, **changed), resume=True, allow=["optim.learning"])
    train_stage(recipe(home, **changed), resume=True, allow=["optim.lr", "sft"])
    changes = json.loads((home / "run" / "identity.json").read_text())["changes"]
    assert [(c["key"], c["old"], c["new"], c["after_step"]) for c in changes] == [
        ("optim.lr", 1e-3, 5e-4, 4), ("sft.patience", 3, 9, 4),
    ]  # fmt: skip


@pytest.mark.slow
def test_38_keys_that_train_nothing_may_change(home: Path) -> None:
    """How many checkpoints stay, what a blind model leads to, and where the folder and the base model are."""
    os.replace(home / "run", home / "elsewhere")
    os.replace(home / "base", home / "moved")
    changed = {"out": str(home / "elsewhere"), "model": "./moved", "checkpoint.keep": 1, "checkpoint.grace_s": 3.0}
    train_stage(recipe(home, **changed), resume=True)
    assert json.loads((home / "elsewhere" / "done.json").read_text())["step"] == 6


def test_38_another_base_model_is_refused(home: Path) -> None:
    flip(home / "base" / "model.safetensors")
    with pytest.raises(RunFolderError, match=r"the base model is not the one .*--allow model"):
        train_stage(recipe(home), resume=True)


def test_38_a_key_that_is_newer_than_the_run_had_its_default(home: Path) -> None:
    saved = json.loads((home / "run" / "recipe.json").read_text())
    del saved["optim"]["max_bad_steps"], saved["checkpoint"]["every"], saved["sft"]["patience"]
    (home / "run" / "recipe.json").write_text(json.dumps(saved))
    run_folder.refuse_changes(recipe(home, **{"checkpoint.every": 50}))
    with pytest.raises(RunFolderError, match=r"differs in sft\.patience"):
        run_folder.refuse_changes(recipe(home, **{"checkpoint.every": 50, "sft.patience": 4}))


@pytest.mark.slow
def test_38_other_code_is_a_warning(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("seethink.runs.identity.__version__", "9.9.9")
    train_stage(recipe(home), resume=True)
    said = " ".join(capsys.readouterr().out.split())
    assert "resuming with other code (seethink 0.1.0 -> 9.9.9): the numbers may differ" in said


def test_38_a_large_model_is_told_apart_without_being_read(
    random_nano: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Headers, sizes and the beginning of every tensor: what a further training changes, whatever the size."""
    monkeypatch.setattr("seethink.runs.identity.READ_WHOLE", 0)
    shutil.copytree(random_nano, tmp_path / "copy")
    assert model_identity(str(tmp_path / "copy")) == model_identity(str(random_nano)) is not None
    from safetensors.torch import load_file, save_file

    file = tmp_path / "copy" / "model.safetensors"
    weights = load_file(file)
    name = sorted(weights)[5]
    assert SAMPLED >= 4
    weights[name].view(-1)[0] += 1
    save_file(weights, file)
    assert model_identity(str(tmp_path / "copy")) != model_identity(str(random_nano))
    assert model_identity("no/such-model") is None


# ---- 33


def holds(folder: Path, ready: Any) -> None:
    with FolderLock(folder):
        ready.send("held")
        signal.pause()


@pytest.mark.slow
def test_33_a_second_run_on_the_folder_is_refused_and_a_dead_one_is_no_obstacle(home: Path) -> None:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=holds, args=(home / "run", there))
    process.start()
    try:
        assert here.recv() == "held"
        with pytest.raises(
            FolderInUseError, match=rf"in use by another run \(process {process.pid} on .* since .*stop it"
        ):
            train_stage(recipe(home), resume=True)
        stage = Stage("cold start", "run", "nano-coldstart.toml")
        with pytest.raises(FolderInUseError, match="in use by another run"):
            run_pipeline(home / "run", 0, [], replace(QUICKSTART, stages=(stage,)))
    finally:
        process.kill()
        process.join()
    with FolderLock(home / "run"):
        pass


def test_33_a_file_system_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def unable(*_: Any, **__: Any) -> None:
        raise NotImplementedError("no locks here")

    monkeypatch.setattr("filelock.FileLock.acquire", unable)
    with FolderLock(tmp_path):
        pass
    assert "cannot be locked (no locks here): make sure that no other run uses it" in capsys.readouterr().out


def test_33_in_one_process_too_and_free_again_after(tmp_path: Path) -> None:
    with FolderLock(tmp_path), pytest.raises(FolderInUseError), FolderLock(tmp_path):
        pass
    with FolderLock(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
