"""Nothing that a run or a command did not make is removed or overwritten; what is in the way is said first."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command_line import run_command
from helpers.nano import nano_recipe
from seethink.core.errors import UserError
from seethink.core.files import claim_file, json_with, refuse_full_folder, require_writable, write_text
from seethink.eval.presentation import claim_evaluation
from seethink.pretrain.phases import claim_base_folder
from seethink.runs.checkpoint import Retention, clear_leftovers, drop_surplus
from seethink.runs.folder import MADE, STARTED, RunFolderError, refuse_foreign_folder, sign
from seethink.runs.lock import FolderLock

RECIPES = Path(__file__).parents[2] / "recipes"


def fill(folder: Path, *names: str) -> dict[Path, str]:
    """Files of the user's, and what is in them."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    return content(folder)


def content(folder: Path) -> dict[Path, str]:
    return {path: path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


FOREIGN = (
    ".thesis.tmp/a", ".thesis.old/b", "thesis/c", "notes.txt", "best/model.bin", ".best.tmp/x", "rollouts/step_5.jsonl",
    "bad_steps/step_7.json", "checkpoints/.work.tmp/x", "checkpoints/step_2000/model.bin", "images/a.png", "data.json",
    "recipe.json", "identity.json", "quarantine.jsonl", "done.json", ".lock", "verdicts.sqlite",
)  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_a_new_run_wants_a_folder_of_its_own(tmp_path: Path, name: str) -> None:
    before = fill(tmp_path, name)
    with pytest.raises(RunFolderError, match="stay as they are: ") as refused:
        refuse_foreign_folder(tmp_path, resume=False)
    assert Path(name).parts[0] in str(refused.value)
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", FOREIGN)
def test_a_resumed_run_begins_only_where_none_of_its_names_is_taken(tmp_path: Path, name: str) -> None:
    """A pipeline's folder holds its own files beside those of the stage."""
    before = fill(tmp_path, name)
    if Path(name).parts[0] in MADE:
        with pytest.raises(RunFolderError, match="in the way"):
            refuse_foreign_folder(tmp_path, resume=True)
    else:
        refuse_foreign_folder(tmp_path, resume=True)
    assert content(tmp_path) == before


def test_folders_that_a_run_may_begin_in(tmp_path: Path, random_nano: Path) -> None:
    """None, an empty one, one with the output of this command in it, and one in which a start failed before."""
    refuse_foreign_folder(tmp_path / "none", resume=False)
    refuse_foreign_folder(tmp_path, resume=False)
    (tmp_path / "log.txt").touch()
    with FolderLock(tmp_path):
        pass
    refuse_foreign_folder(tmp_path, resume=False)
    (tmp_path / "log.txt").unlink()
    sign(nano_recipe(random_nano, out=str(tmp_path)), None)
    for name in STARTED - {".lock", "recipe.json", "identity.json"}:
        (tmp_path / name).write_text("")
    for resume in (False, True):
        refuse_foreign_folder(tmp_path, resume=resume)
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(RunFolderError, match="already holds a run: add --resume"):
        refuse_foreign_folder(tmp_path, resume=False)
    refuse_foreign_folder(tmp_path, resume=True)


def test_train_refuses_before_it_touches_anything(tmp_path: Path) -> None:
    before = fill(tmp_path / "mine", *FOREIGN)
    ended = run_command("train", str(RECIPES / "nano-coldstart.toml"), "out=mine", cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: mine holds things that this run did not make")
    assert content(tmp_path / "mine") == before


def test_a_lock_of_others_is_not_written_to(tmp_path: Path) -> None:
    before = fill(tmp_path, ".lock")
    with pytest.raises(UserError, match="not a lock of seethink"), FolderLock(tmp_path):
        pass
    assert content(tmp_path) == before


def test_leftovers_of_others_stay(tmp_path: Path) -> None:
    before = fill(
        tmp_path, ".x.tmp/a", ".x.old/a", ".step_5.tmp/a", ".step_000001.tmp.tmp/a", ".best.tmpx/a", ".best.tmp"
    )
    clear_leftovers(tmp_path)
    assert content(tmp_path) == before


def test_checkpoints_of_others_stay_and_do_not_count(tmp_path: Path) -> None:
    """Higher numbers, other spellings, folders without a manifest, and a file."""
    for step in range(1, 4):
        fill(tmp_path, f"step_{step:06d}/manifest.json", f"step_{step:06d}/train_state/state.json")
    foreign = (
        "step_2000",
        "step_1",
        "step_0000002",
        "step_²",
        "step_000002.bak",
        "step_",
        "step_000000",
        "step_1x",
    )
    fill(tmp_path, *(f"{name}/model.bin" for name in foreign), "step_002000/manifest.json", "step_000009")
    fill(tmp_path, "step_002000/train_state/state.json")
    drop_surplus(tmp_path, Retention(2), 3)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"step_000002", "step_000003", "step_002000", "step_000009", *foreign}


def test_a_file_that_is_written_disturbs_no_other(tmp_path: Path) -> None:
    before = fill(tmp_path, ".a.json.tmp", "a.json.part", "a.json.tmp")
    write_text(tmp_path / "a.json", "x")
    assert content(tmp_path) == before | {tmp_path / "a.json": "x"}


# ---- results of commands


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/null")


def folder(path: Path) -> None:
    path.mkdir()


def text(path: Path) -> None:
    path.write_text("mine")


def other_json(path: Path) -> None:
    path.write_text('{"mine": 1}')


IN_THE_WAY = (pipe, device, folder, text, other_json)


@pytest.mark.parametrize("make", IN_THE_WAY, ids=lambda make: make.__name__)
def test_a_result_replaces_only_an_earlier_result(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "out.json"
    make(path)
    with pytest.raises(UserError, match=r"out\.json"):
        claim_file(path, json_with("rows"), "a result")
    if path.is_file():
        path.write_text('{"rows": []}')
        claim_file(path, json_with("rows"), "a result")


COMMANDS = {
    "doctor": ("doctor", str(RECIPES / "nano-grpo.toml"), "--no-step", "--out", "mine.x"),
    "report": ("report", "run", "--out", "mine.x"),
    "world make": ("world", "make", "mine.x", "--size", "2"),
    "eval": ("eval", "nano", "--size", "1", "--out", "mine.x"),
    "modes": ("modes", "nano", "--size", "1", "--out", "mine.x"),
    "entropy": ("entropy", "nano", "--size", "1", "--out", "mine.x"),
    "hallucination": ("hallucination", "nano", "--data", "world:math", "--size", "1", "--out", "mine.x"),
    "export": ("export", "run", "--checkpoint", "run", "--out", "mine.x"),
    "quickstart": ("quickstart", "--out", "mine.x"),
    "lab": ("lab", "run", "all", "--out", "mine.x"),
    "world base": ("world", "base", "--out", "mine.x"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("place", ["file", "below a file"])
def test_commands_try_the_place_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, place: str
) -> None:
    """No model is loaded, and what is there stays."""

    def work(*_: object, **__: object) -> object:
        raise AssertionError("the work began")

    modules = ("models.load", "studies.evaluation", "studies.modes.compare_modes", "studies.entropy.entropy_command")
    for module in modules:  # Before anything is patched: an import would keep what it finds.
        importlib.import_module(f"seethink.{module}")
    for name in (*(f"{module}.load_model" for module in modules), "doctor.run.diagnose", "world.make.world_samples"):
        monkeypatch.setattr(f"seethink.{name}", work)
    fill(tmp_path / "run", "config.json")
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 1}\n')
    before = fill(tmp_path, "mine.x")
    words = [word.replace("mine.x", "mine.x/y") if place == "below a file" else word for word in COMMANDS[command]]
    ended = run_command(*words, cwd=tmp_path)
    assert ended.returncode == 2, ended
    assert "mine.x" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    "name", ["eval.json", "eval/items.jsonl", "eval/rollouts.jsonl", "eval/quarantine.jsonl", "eval", "images"]
)
def test_an_evaluation_replaces_only_an_evaluation(tmp_path: Path, name: str) -> None:
    before = fill(tmp_path / "out", name)
    with pytest.raises(UserError, match=name):
        claim_evaluation(tmp_path / "out")
    assert content(tmp_path / "out") == before


def test_an_evaluation_may_stand_in_a_runs_folder_and_be_done_again(tmp_path: Path) -> None:
    fill(tmp_path, "metrics.jsonl", "notes.txt")
    claim_evaluation(tmp_path)
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval.json").write_text('{"label": "x", "scores": []}')
    (tmp_path / "eval/items.jsonl").write_text('{"id": "a", "accuracy": null}\n')
    (tmp_path / "eval/quarantine.jsonl").write_text("")
    claim_evaluation(tmp_path)
    claim_evaluation(tmp_path / "none" / "below")
    assert not (tmp_path / "none").exists()


def test_earlier_results_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 1, "loss/total": 1.0}\n')
    for words in (("report", "run"), ("world", "make", "a.parquet", "--size", "2")):
        for _ in range(2):
            assert run_command(*words, cwd=tmp_path).returncode == 0
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.parquet", "metrics.jsonl", "report.html", "run"]


@pytest.mark.parametrize("name", ["file", "full", "dangling"])
def test_a_folder_that_is_to_be_made_is_there(tmp_path: Path, name: str) -> None:
    fill(tmp_path, "file", "full/x")
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(UserError, match=f"{name} exists and is not empty"):
        refuse_full_folder(tmp_path / name)
    refuse_full_folder(tmp_path / "new" / "deep")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("place", ["file/x", "/proc/x", "x" * 5000])
def test_places_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, "file")
    with pytest.raises(UserError, match="cannot be written"):
        require_writable(Path(place))


def test_a_base_model_wants_a_folder_of_its_own(tmp_path: Path) -> None:
    before = fill(tmp_path, "model.safetensors")
    with pytest.raises(UserError, match="not empty"):
        claim_base_folder(tmp_path)
    assert content(tmp_path) == before
    fill(tmp_path, "unfinished.vision.safetensors")
    claim_base_folder(tmp_path)


def test_an_edited_result_is_still_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(json.dumps({"rows": [], "mine": 1}))
    claim_file(tmp_path / "a", json_with("rows"), "a result")
