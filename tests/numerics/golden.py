"""Ten steps of every stage on a random nano model, pinned down in tests/data/golden/*.json.

A change of training code that moves a number is seen by test_golden.py. If the change is meant, write the files anew

    python tests/numerics/golden.py --reason "why the numbers change" [STAGE ...]

and commit them with it: the reason, the date and the versions are kept in each file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from contextlib import redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
import transformers

from helpers.nano import GOLDEN, make_samples, nano_recipe, save_nano
from seethink import __version__
from seethink.train.hooks.metrics import MetricsLog
from seethink.train.start import train
from seethink.train.step import StepResult
from seethink.world.make import write_parquet

STEPS = 10
SFT = ("sft.epochs=2", "sft.batch_size=4", "sft.val_every=5", "reward.function=helpers.nano:always_correct")
RL = (
    f"algorithm.steps={STEPS}",
    "rollout.prompts_per_step=3",
    "rollout.group_size=4",
    "rollout.max_new_tokens=12",
    "reward.function=helpers.nano:likes_e",
)
STAGES: dict[str, tuple[str, ...]] = {
    "sft": (*SFT, "optim.schedule=cosine", "optim.warmup_ratio=0.2"),
    "connector": (*SFT, 'parts.train=["connector"]'),
    "grpo": RL,
    "grpo_off_policy": (*RL, "algorithm.epochs=2", "algorithm.kl_beta=0.05", "algorithm.aggregation=token"),
    "ppo": RL,
}
"""On-policy GRPO is the paper's. Its loss is the mean advantage, about 0 by construction; the gradient norm tells."""
KEYS = ("loss/total", "optim/grad_norm", "loss/val", "loss/value", "reward/mean")


def run_stage(stage: str, folder: Path) -> list[dict[str, float]]:
    """The metrics in KEYS of every step, at full precision; all on one thread of the CPU."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with mock.patch("seethink.models.load.default_device", return_value=torch.device("cpu")):
            return _train(stage, folder)
    finally:
        torch.set_num_threads(threads)


def _train(stage: str, folder: Path) -> list[dict[str, float]]:
    steps: list[dict[str, float]] = []
    measure = MetricsLog.measure

    def spy(log: MetricsLog, step: int, result: StepResult) -> dict[str, float]:
        steps.append({key: result.metrics[key] for key in KEYS if key in result.metrics})
        return measure(log, step, result)

    save_nano(folder / "model")
    write_parquet(make_samples([1, 0, 2, 1, 1] * 4), folder / "train.parquet")
    write_parquet(make_samples([1, 0, 1], seed=1), folder / "val.parquet")
    kind = {"connector": "sft", "grpo_off_policy": "grpo"}.get(stage, stage)
    data = (f"data.train={folder}/train.parquet", f"data.val={folder}/val.parquet", "data.val_size=1", "optim.lr=1e-5")
    recipe = nano_recipe(folder / "model", *data, *STAGES[stage], stage=kind, out=str(folder / "run"))
    with mock.patch.object(MetricsLog, "measure", spy):
        train(recipe)
    assert len(steps) == STEPS
    return steps


def golden_file(stage: str) -> Path:
    return GOLDEN / f"{stage}.json"


def write_golden(stage: str, reason: str) -> None:
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        steps = run_stage(stage, Path(folder))
    record: dict[str, Any] = {
        "stage": stage,
        "reason": reason,
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {
            "seethink": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "steps": steps,
    }
    golden_file(stage).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reason", required=True, help="why the numbers change")
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(STAGES)}; default: all")
    arguments = parser.parse_args()
    for stage in arguments.stages or STAGES:
        write_golden(stage, arguments.reason)
        print(f"wrote {golden_file(stage)}")


if __name__ == "__main__":
    main()
