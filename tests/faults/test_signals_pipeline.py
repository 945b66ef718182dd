"""Item 29 for the pipeline: a stage that is asked to stop ends the whole command, and the same command goes on."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from helpers import forked
from seethink.core.exits import EXIT_RESUME

TINY = [
    "data.train_size=60", "data.val_size=12", "sft.epochs=4", "sft.val_every=2", "rollout.prompts_per_step=3",
    "rollout.group_size=3", "rollout.max_new_tokens=12", "algorithm.steps=2", "eval.size=2", "eval.samples=0",
    "eval.max_new_tokens=12", "blindness.every=0", "log.tensorboard=false", "data.train=world:math:traces",
]  # fmt: skip


@pytest.mark.slow
def test_29_sigterm_ends_the_pipeline_and_the_same_command_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "seethink.cli.main", "quickstart", "--world", "1", "--out", str(out), *TINY]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = forked.start(command, env=environment)
    metrics = out / "coldstart" / "metrics.jsonl"
    deadline = time.monotonic() + 240
    while not (metrics.exists() and metrics.stat().st_size):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.wait(240)
    said = process.output()
    assert said.returncode == EXIT_RESUME, said
    assert "SIGTERM: stopped after step" in said.stdout + said.stderr
    assert not (out / "coldstart" / "done.json").exists()
    assert not (out / "grpo").exists(), "no next stage begins"
    again = forked.run(command, env=environment)
    assert again.returncode == 0, again.stderr
    assert (out / "report.html").exists()
    steps = [line.split(",")[0] for line in metrics.read_text().splitlines()]
    assert len(steps) == len(set(steps))
