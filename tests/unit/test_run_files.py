"""Hostile and damaged files of run folders: each is named with what is wrong, and none is followed or believed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.nano import nano_recipe
from seethink.core.errors import UserError
from seethink.core.files import require_file
from seethink.export import export_run
from seethink.report import write_report
from seethink.runs.checkpoint import newest_checkpoint
from seethink.runs.folder import refuse_changes, sign
from seethink.runs.manifest import write_manifest
from seethink.runs.metrics import MetricsWriter, read_metrics
from seethink.runs.optimizer_state import CheckpointError
from seethink.runs.reading import RunFileError, final_model, read_key, read_object
from seethink.studies.selection.select_run import settings_of

STATE = "train_state/state.json"
DEEP = "[" * 100_000
ENTRY = {"sha256": "0" * 64, "size": 0}
BAD_JSON = {
    "empty": "", "torn": '{"step": 4', "a list": "[]", "a number": "4", "null": "null", "nested deeply": DEEP,
    "not UTF-8": b'{"step": "\xff"}', "a huge number": '{"step": 1' + "0" * 5000 + "}",
}  # fmt: skip


def make_checkpoint(run: Path, step: int, state: str | None = None) -> Path:
    """A checkpoint of a run, its weights a few bytes: whether it is whole does not depend on them."""
    folder = run / "checkpoints" / f"step_{step:06d}"
    (folder / "train_state").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "train_state/tensors.safetensors"):
        (folder / name).write_text(f'{{"of": "{name}"}}')
    (folder / STATE).write_text(json.dumps({"step": step}) if state is None else state)
    write_manifest(folder)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with checkpoints of steps 2 and 4."""
    for step in (2, 4):
        make_checkpoint(tmp_path / "run", step)
    return tmp_path / "run"


def write(path: Path, content: str | bytes) -> None:
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def goes_back(run: Path, *named: str) -> None:
    """The checkpoint of step 2 is taken, and what is wrong with that of step 4 is said on one line."""
    said: list[str] = []
    newest = newest_checkpoint(run / "checkpoints", say=said.append)
    assert newest is not None
    assert newest.step == 2
    assert said[0].startswith("DAMAGED CHECKPOINT: ")
    assert "\n" not in said[0]
    assert len(said[0]) < 600
    for word in named:
        assert word in said[0]


def edited(run: Path, **changes: Any) -> str:
    """The manifest of step 4 with other entries."""
    table = json.loads((run / "checkpoints/step_000004/manifest.json").read_text())
    return json.dumps(table | {"files": {k: v for k, v in (table["files"] | changes).items() if v is not None}})


@pytest.mark.parametrize("content", BAD_JSON.values(), ids=BAD_JSON)
def test_manifests_that_are_no_object(run: Path, content: str | bytes) -> None:
    write(run / "checkpoints/step_000004/manifest.json", content)
    goes_back(run, "step_000004/manifest.json")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"/dev/zero": ENTRY}, "'/dev/zero', which is not a file of the folder"),
        ({"../../../../../../dev/zero": ENTRY}, "which is not a file of the folder"),
        ({"a\0b": ENTRY}, "which is not a file of the folder"),
        ({"\ud800": ENTRY}, ""),
        ({"link": ENTRY}, "'link', which is not a file of the folder"),
        ({"pipe": ENTRY}, "pipe is a pipe, where a file was expected"),
        ({"train_state": ENTRY}, "train_state is a folder, where a file was expected"),
        ({"gone.json": ENTRY}, "gone.json is missing"),
        ({"config.json": None}, "does not name 'config.json'"),
        ({"model.safetensors": None}, "does not name 'model.safetensors'"),
        ({STATE: None}, f"does not name '{STATE}'"),
        ({"config.json": {"sha256": "x", "size": 1}}, "sha256"),
        ({"config.json": {"sha256": "0" * 64, "size": -1}}, "size"),
        ({"config.json": {"sha256": "0" * 64, "size": 1.5}}, "size"),
        ({"config.json": {"sha256": "0" * 64, "size": 1e400}}, "size"),
        ({"config.json": {"sha256": "0" * 64, "size": "1"}}, "size"),
        ({"config.json": {"sha256": "0" * 64, "size": True}}, "size"),
        ({"config.json": {"sha256": None, "size": 1}}, "sha256"),
        ({"config.json": []}, "config.json"),
        ({"config.json": {}}, "config.json"),
    ],
)
def test_manifests_with_other_entries(run: Path, changes: dict[str, Any], said: str) -> None:
    folder = run / "checkpoints/step_000004"
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to("/etc/hostname")
    (folder / "manifest.json").write_text(edited(run, **changes))
    goes_back(run, said, "step_000004")


@pytest.mark.parametrize("content", ['{"files": {}}', "{}", '{"files": []}', '{"files": null}', '{"files": "all"}'])
def test_manifests_that_name_nothing(run: Path, content: str) -> None:
    (run / "checkpoints/step_000004/manifest.json").write_text(content)
    goes_back(run, "step_000004/manifest.json")


BAD_STATES = {
    **BAD_JSON,
    "of another step": '{"step": 7}',
    "without a step": "{}",
    "a true step": '{"step": true}',
    "a broken step": '{"step": 4.5}',
    "position below 0": '{"step": 4, "position": -1}',
    "score of text": '{"step": 4, "score": "high"}',
    "stopping of a list": '{"step": 4, "stopping": [1]}',
    "stopping with another key": '{"step": 4, "stopping": {"best": 1.0, "best_step": 1, "waited": 0, "x": 1}}',
    "watchdogs of text": '{"step": 4, "watchdogs": {"truncation": "x"}}',
    "a watchdog's values of text": '{"step": 4, "watchdogs": {"truncation": {"values": ["x"]}}}',
    "random states of text": '{"step": 4, "rng": {"python": "x"}}',
    "versions of numbers": '{"step": 4, "versions": {"torch": 2}}',
    "no token budget": '{"step": 4, "micro_tokens": 0}',
}


@pytest.mark.parametrize("content", BAD_STATES.values(), ids=BAD_STATES)
def test_states(run: Path, content: str | bytes) -> None:
    """The manifest is right about them: they were edited and signed again."""
    folder = run / "checkpoints/step_000004"
    write(folder / STATE, content)
    write_manifest(folder)
    goes_back(run, STATE)


def test_a_state_of_a_whole_run_is_taken(tmp_path: Path) -> None:
    """Numbers that JSON does not have, and keys of another version."""
    state = '{"step": 4, "stopping": {"best": Infinity, "best_step": 0, "waited": 0}, "score": NaN, "of_2030": [1]}'
    make_checkpoint(tmp_path, 4, state)
    newest = newest_checkpoint(tmp_path / "checkpoints")
    assert newest is not None
    assert newest.state["stopping"]["best"] == float("inf")
    assert newest.state["of_2030"] == [1]


def test_none_is_whole(run: Path) -> None:
    for path in (run / "checkpoints").iterdir():
        (path / "manifest.json").write_text('{"files": {}}')
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* is whole"):
        newest_checkpoint(run / "checkpoints", say=lambda line: None)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        *((content, "done.json cannot be used") for content in BAD_JSON.values()),
        ("{}", "final"),
        ('{"final": 3, "step": 4}', "final"),
        ('{"final": "checkpoints/step_000004"}', "step"),
        ('{"final": "checkpoints/step_000009", "step": 4}', "'checkpoints/step_000009', which is gone"),
        ('{"final": "checkpoints", "step": 4}', "'checkpoints', which is gone"),
        ('{"final": "../other", "step": 4}', "which lies outside of the folder"),
        ('{"final": "/etc", "step": 4}', "which lies outside of the folder"),
        ('{"final": "", "step": 4}', "which lies outside of the folder"),
        ('{"final": "a\\u0000b", "step": 4}', "which lies outside of the folder"),
        ('{"final": "link", "step": 4}', "which lies outside of the folder"),
    ],
)
def test_done_that_is_not_believed(run: Path, content: str | bytes, said: str) -> None:
    make_checkpoint(run.parent / "other", 2)
    (run / "link").symlink_to(run.parent / "other/checkpoints/step_000002")
    write(run / "done.json", content)
    with pytest.raises(RunFileError) as refused:
        final_model(run)
    assert said in str(refused.value)
    with pytest.raises(UserError, match=r"done\.json"):
        export_run(run, run.parent / "out")


def test_done_that_is_believed(run: Path) -> None:
    assert final_model(run) is None
    (run / "done.json").write_text('{"final": "checkpoints/step_000004", "step": 4, "best_val": null}')
    assert final_model(run) == run / "checkpoints/step_000004"


BAD_LINES = {
    "torn": b'{"step": 2, "a"', "another's syntax": b'{"step" 2}', "a number": b"2", "null": b"null", "text": b'"step"',
    "not UTF-8": b'{"step": 2, "\xff": 1}', "a list": b"[2]", "without a step": b'{"a": 1.0}', "nested": DEEP.encode(),
    "a step of text": b'{"step": "2"}', "a true step": b'{"step": true}', "a broken step": b'{"step": 2.5}',
    "a step that is no number": b'{"step": NaN}', "a huge number": b'{"step": 1' + b"0" * 5000 + b"}",
}  # fmt: skip


@pytest.mark.parametrize("line", BAD_LINES.values(), ids=BAD_LINES)
def test_a_damaged_line_is_named_and_all_others_are_kept(
    tmp_path: Path, line: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with MetricsWriter(tmp_path, tensorboard=False) as writer:
        for step in range(1, 7):
            writer.write(step, {"a": 1.0})
    path = tmp_path / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], line + b"\n", *lines[2:]]))
    MetricsWriter(tmp_path, tensorboard=False, resume_step=5).close()
    assert "metrics.jsonl: line 2 is damaged and left out; all other steps are kept" in capsys.readouterr().out
    assert [record["step"] for record in read_metrics(tmp_path)] == [1, 3, 4, 5]
    assert capsys.readouterr().out == ""


def test_a_torn_last_line_is_nothing_to_speak_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n{"step": 2}\n{"st')
    assert [record["step"] for record in read_metrics(tmp_path)] == [1, 2]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", BAD_JSON.values(), ids=BAD_JSON)
@pytest.mark.parametrize("name", ["recipe.json", "identity.json"])
def test_signatures_that_are_damaged(random_nano: Path, tmp_path: Path, name: str, content: str | bytes) -> None:
    recipe = nano_recipe(random_nano, out=str(tmp_path))
    sign(recipe, None)
    assert refuse_changes(recipe) == []
    write(tmp_path / name, content)
    with pytest.raises(RunFileError, match=rf"{name} cannot be used"):
        refuse_changes(recipe)


@pytest.mark.parametrize(
    "recipe",
    [
        {"stage": "sft", "parts": []}, {"stage": "sft", "log": "x"}, {"stage": 3}, {"checkpoint": 1}, {"data": ["x"]},
        {"log": {"critical_words": 3}}, {"log": {"critical_words": [[1]]}},
    ],
)  # fmt: skip
def test_a_recipe_with_other_types_is_named_by_select(tmp_path: Path, recipe: Any) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    with pytest.raises(RunFileError, match=r"recipe\.json cannot be used"):
        settings_of(tmp_path, "", samples=1, max_new_tokens=1, seed=0)


def test_modules_of_another_type_are_named(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text('{"parts": {"modules": {"vision": 3}}}')
    with pytest.raises(RunFileError, match=r"parts\.modules"):
        read_key(tmp_path, "parts", "modules", dict[str, list[str]])


def a_folder(path: Path) -> None:
    path.mkdir()


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [a_folder, a_device, os.mkfifo], ids=["folder", "device", "pipe"])
@pytest.mark.parametrize("name", ["done.json", "recipe.json", "metrics.jsonl", "select.json"])
def test_what_is_no_file_is_neither_awaited_nor_read(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    make(tmp_path / name)
    with pytest.raises(OSError, match="where a file was expected"):
        require_file(tmp_path / name)
    with pytest.raises(RunFileError, match="where a file was expected"):
        read_metrics(tmp_path) if name == "metrics.jsonl" else read_object(tmp_path / name)
    (tmp_path / "entropy.jsonl").write_text("")
    (tmp_path / "data.json").write_text("{}")
    page = write_report(tmp_path, tmp_path / "page.html").read_text()
    if name != "done.json":
        assert f"{tmp_path.name}/{name}" in page
