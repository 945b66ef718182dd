"""metrics.jsonl: readable after a crash, continued after a resume, always JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from helpers.nano import nano_recipe
from seethink.runs.folder import RunFolderError, refuse_changes, seconds_so_far
from seethink.runs.identity import flatten
from seethink.runs.metrics import MetricsWriter, read_metrics


def write(folder: Path, steps: range, resume_step: int = 0, value: float = 0.5) -> None:
    with MetricsWriter(folder, tensorboard=False, resume_step=resume_step) as writer:
        for step in steps:
            writer.write(step, {"loss/total": value, "a": float(step)})


def test_records_come_back(tmp_path: Path) -> None:
    write(tmp_path, range(1, 4))
    assert read_metrics(tmp_path)[1] == {"step": 2, "a": 2.0, "loss/total": 0.5}
    assert [r["step"] for r in read_metrics(tmp_path)] == [1, 2, 3]


def test_nothing_written_is_no_record(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_null(tmp_path: Path, value: float) -> None:
    write(tmp_path, range(1, 2), value=value)
    line = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))["loss/total"] is None


def test_small_numbers_keep_their_digits(tmp_path: Path) -> None:
    write(tmp_path, range(1, 2), value=1.2345678e-9)
    assert read_metrics(tmp_path)[0]["loss/total"] == pytest.approx(1.2345678e-9, rel=1e-6)


def test_resuming_drops_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    write(tmp_path, range(1, 6), value=1.0)
    write(tmp_path, range(4, 7), resume_step=3, value=2.0)
    assert [(r["step"], r["loss/total"]) for r in read_metrics(tmp_path)] == [
        (1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0), (6, 2.0),
    ]  # fmt: skip


def test_without_a_checkpoint_it_begins_anew(tmp_path: Path) -> None:
    write(tmp_path, range(1, 6))
    write(tmp_path, range(1, 2))
    assert len(read_metrics(tmp_path)) == 1


def test_a_half_written_last_line_is_left_out_and_written_again(tmp_path: Path) -> None:
    write(tmp_path, range(1, 4))
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    assert [r["step"] for r in read_metrics(tmp_path)] == [1, 2]
    write(tmp_path, range(3, 5), resume_step=2)
    assert [r["step"] for r in read_metrics(tmp_path)] == [1, 2, 3, 4]


def test_each_record_is_on_disk_at_once(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path, tensorboard=False) as writer:
        writer.write(1, {"a": 1.0})
        assert len(read_metrics(tmp_path)) == 1


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with MetricsWriter(tmp_path, tensorboard=True) as writer:
        writer.write(1, {"loss/total": 3.0})
        writer.write(2, {"loss/total": 2.0})
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss/total")] == [(1, 3.0), (2, 2.0)]


def test_seconds_are_summed(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path, tensorboard=False) as writer:
        writer.write(1, {"time/step_s": 1.5})
        writer.write(2, {"time/step_s": math.nan})
        writer.write(3, {"time/step_s": 2.0})
    assert seconds_so_far(tmp_path) == 3.5


def test_tables_are_flattened() -> None:
    assert flatten({"a": 1, "b": {"c": 2, "d": {"e": [3]}}}) == {"a": 1, "b.c": 2, "b.d.e": [3]}


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (("optim.lr=1e-3",), ("optim.lr=1e-4",), "optim.lr"),
        (("optim.lr=1e-3", "seed=1"), ("optim.lr=1e-4",), "optim.lr, seed"),
        (("reward.verifier.model=a", "reward.verifier.base_url='http://x/v1'"), (), "reward.verifier"),
        ((), ("reward.verifier.model=a", "reward.verifier.base_url='http://x/v1'"), "reward.verifier"),
    ],
)
def test_a_changed_recipe_is_not_resumed(
    tmp_path: Path, before: tuple[str, ...], now: tuple[str, ...], said: str
) -> None:
    old, new = (nano_recipe("m", *overrides, out=str(tmp_path)) for overrides in (before, now))
    (tmp_path / "recipe.json").write_text(old.model_dump_json())
    refuse_changes(old)
    with pytest.raises(RunFolderError, match=rf"the recipe differs in {said}"):
        refuse_changes(new)


def test_a_run_folder_may_be_moved(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(nano_recipe("m", out="elsewhere").model_dump_json())
    refuse_changes(nano_recipe("m", out=str(tmp_path)))
