"""The blindness guard in whole runs: it changes nothing else, survives a kill, and stops a run that can be resumed."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers import forked
from helpers.killed import KILLED
from seethink.config import Recipe, make_recipe
from seethink.data.control_images import swapped
from seethink.report import write_report
from seethink.train.hooks import blindness
from seethink.train.hooks.blindness import BlindModelError, read_records
from seethink.train.start import train as train_stage
from seethink.world.make import world_samples, write_parquet

STEPS = 4
UNTIMED = ("time/", "throughput/")
RL: dict[str, Any] = {
    "data": {"train": "world:math", "train_size": 9},
    "rollout": {"prompts_per_step": 3, "group_size": 4, "max_new_tokens": 12},
    "algorithm": {"steps": STEPS},
}
STAGES: dict[str, dict[str, Any]] = {
    "sft": {
        "data": {"train": "world:math:traces", "train_size": 24, "val_size": 24},
        "sft": {"epochs": 2, "batch_size": 15, "val_every": 1, "max_response_tokens": 60},
    },
    "grpo": RL,
    "ppo": RL,
}


def recipe(
    stage: str, out: Path, *, every: int = 1, samples: int = 16, action: str = "warn", **sections: Any
) -> Recipe:
    table = {"name": "guarded", "stage": stage, "out": str(out), "model": "nano", "optim": {"lr": 1e-3}} | STAGES[stage]
    table |= {"checkpoint": {"every": 2, "keep": 5}, "log": {"tensorboard": False}}
    return make_recipe(table | {"blindness": {"every": every, "samples": samples, "action": action}} | sections)


def untimed(rows: list[dict[str, Any]], *besides: str) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if not k.startswith((*UNTIMED, *besides))} for row in rows]


def metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_the_guard_changes_nothing_but_its_own_numbers(stage: str, tmp_path: Path) -> None:
    train_stage(recipe(stage, tmp_path / "on", every=2, samples=6))
    train_stage(recipe(stage, tmp_path / "off", every=0))
    on, off = metrics(tmp_path / "on"), metrics(tmp_path / "off")
    assert untimed(on, "blindness/") == untimed(off)
    weights = [tmp_path / name / "checkpoints" / f"step_{STEPS:06d}" / "model.safetensors" for name in ("on", "off")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert [row["step"] for row in on if "blindness/logprob_true" in row] == [2, 4]
    assert all("time/blindness_s" in row for row in on if row["step"] % 2 == 0)
    records = read_records(tmp_path / "on")
    assert [r["step"] for r in records] == [0, 2, 4]
    for record in records[1:]:
        assert {k: record[k] for k in on[0] | record if k.startswith("blindness/")} == pytest.approx(
            {k: v for k, v in on[record["step"] - 1].items() if k.startswith("blindness/")}
        )
    assert not (tmp_path / "off" / "blindness.jsonl").exists()
    assert "Does the image matter?" in write_report(tmp_path / "on").read_text()
    assert "Does the image matter?" not in write_report(tmp_path / "off").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_a_killed_run_has_the_records_of_an_uninterrupted_one(stage: str, tmp_path: Path) -> None:
    whole, given = (recipe(stage, tmp_path / name, samples=6) for name in ("whole", "killed"))
    train_stage(whole)
    file = tmp_path / "recipe.toml"
    table = given.model_dump(mode="json", exclude_unset=True)
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, dict)]
    for name, section in table.items():
        if isinstance(section, dict):
            lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in section.items())]
    file.write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-c", KILLED, str(file)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = forked.run(command, timeout=300, env=env)
    assert done.returncode == -signal.SIGKILL, done.stderr
    out = Path(given.out)
    assert [r["step"] for r in read_records(out)] == [0, 1, 2, 3]
    train_stage(given, resume=True)
    assert untimed(read_records(out)) == untimed(read_records(Path(whole.out)))
    assert [r["step"] for r in read_records(out)] == [0, 1, 2, 3, 4]
    assert untimed(metrics(out)) == untimed(metrics(Path(whole.out)))


@pytest.mark.slow
def test_a_blind_start_stops_and_goes_on_only_by_another_action(tmp_path: Path) -> None:
    wrong = [s for s in swapped(world_samples("world:math", "val", 48, 0), (1,)) if s is not None]
    write_parquet(wrong, tmp_path / "val.parquet")
    data = RL["data"] | {"val": str(tmp_path / "val.parquet")}
    out = tmp_path / "run"
    with pytest.raises(BlindModelError, match=r"step 0: image check failed.*--resume looks again"):
        train_stage(recipe("grpo", out, action="stop", data=data))
    assert (out / "metrics.jsonl").read_text() == ""
    assert [(r["step"], r["verdict"], r["stopped"]) for r in read_records(out)] == [(0, "blind", True)]
    with pytest.raises(BlindModelError):
        train_stage(recipe("grpo", out, action="stop", data=data), resume=True)
    train_stage(recipe("grpo", out, every=1, action="warn", data=data), resume=True)
    assert [(r["step"], r["stopped"]) for r in read_records(out)] == [(i, False) for i in range(STEPS + 1)]
    assert len(metrics(out)) == STEPS


def strangers(folder: Path) -> dict[str, Any]:
    """Traces for SFT whose held-out pictures belong to other questions: no model can see what is asked."""
    wrong = [s for s in swapped(world_samples("world:math:traces", "val", 48, 0), (1,)) if s is not None]
    write_parquet(wrong, folder / "val.parquet")
    return STAGES["sft"]["data"] | {"val": str(folder / "val.parquet")}


@pytest.mark.slow
@pytest.mark.parametrize(("every", "looks"), [(3, [0, 3]), (50, [0, STEPS])])
def test_sft_warns_before_it_has_learnt_and_stops_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], every: int, looks: list[int]
) -> None:
    """At the next look, or at the end of a run that is shorter than that."""
    out = tmp_path / "run"
    given = recipe("sft", out, every=every, action="stop", data=strangers(tmp_path))
    with pytest.raises(BlindModelError, match=f"step {looks[1]}: image check failed.*blindness.every=0 turns"):
        train_stage(given)
    said = " ".join(capsys.readouterr().out.split())
    assert "step 0: image check failed" in said
    assert (
        f"SFT goes on: the model may yet learn to see such pictures; the guard looks again after step {every}" in said
    )
    assert "blindness.every=0 turns the guard off" in said
    assert [(r["step"], r["stopped"]) for r in read_records(out)] == [(looks[0], False), (looks[1], True)]
    with pytest.raises(BlindModelError, match=f"step {looks[1]}"):
        train_stage(given, resume=True)


@pytest.mark.slow
def test_a_stop_in_mid_run_leaves_metrics_and_a_checkpoint_to_resume_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, given = (recipe("grpo", tmp_path / name, every=2) for name in ("whole", "run"))
    train_stage(whole)
    judge = blindness.judge

    def fail_at_step_2(*measured: Any) -> Any:
        found = judge(*measured)
        if len(read_records(Path(given.out))) == 1:
            found.failed = ["path"]
        return found

    with monkeypatch.context() as patched:
        patched.setattr(blindness, "judge", fail_at_step_2)
        for resume in (False, True):
            with pytest.raises(BlindModelError, match="step 2: path check failed"):
                train_stage(given, resume=resume)
            assert [row["step"] for row in metrics(tmp_path / "run")] == [1, 2]
            assert "blindness/path_mismatch" in metrics(tmp_path / "run")[1]
    train_stage(given, resume=True)
    assert untimed(read_records(tmp_path / "run")) == untimed(read_records(tmp_path / "whole"))
    ours, theirs = (untimed(metrics(tmp_path / name), "blindness/") for name in ("run", "whole"))
    assert ours == theirs


@pytest.mark.slow
def test_text_alone_is_not_applicable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = [replace(s, images=()) for s in world_samples("world:math", "train", 40, 0)]
    write_parquet(samples, tmp_path / "text.parquet")
    out = tmp_path / "run"
    train_stage(recipe("grpo", out, data={"train": str(tmp_path / "text.parquet")}))
    assert capsys.readouterr().out.count("not applicable") == 1
    assert not (out / "blindness.jsonl").exists()
    assert not any(key.startswith("blindness/") for row in metrics(out) for key in row)
