"""The recorded series that the watchdogs are tested on: short real nano runs that go well, and that do not.

    python benchmarks/watchdog_series.py --work runs/series              # everything, about 25 minutes on one core
    python benchmarks/watchdog_series.py --work runs/series --only longer

Every run starts from one cold start of `recipes/nano-coldstart.toml` (trained first where it is missing). Its metrics,
less what no watchdog reads, go to `tests/data/watchdogs/NAME.jsonl`; the first line says how the run was made and which
watchdogs must bark. A run that is ruined by its own reward has that reward here, as a `reward.function`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from seethink.analysis.text_stats import foreign_scripts
from seethink.config import load_recipe
from seethink.pipeline import recipes_folder, train_stage
from seethink.train.metrics import read_metrics
from seethink.types import Grade, Sample, Verdict

ROOT = Path(__file__).resolve().parents[1]
SERIES = ROOT / "tests" / "data" / "watchdogs"
KEPT = (
    "reward/mean", "reward/accuracy", "reward/format", "entropy/mean", "optim/grad_norm", "response/repetition",
    "response/compression", "response/length_mean", "response/truncated_share", "response/mixed_script_share",
    "blindness/logprob_t_blank", "blindness/logprob_t_shuffled", "blindness/accuracy_t_blank",
    "blindness/accuracy_t_shuffled", "loss/total",
)  # fmt: skip
SHORT = (
    "algorithm.steps=30", "rollout.prompts_per_step=6", "optim.lr=1e-4", "data.train_size=2000",
    "blindness.every=5", "blindness.samples=16", "blindness.action=warn", "checkpoint.every=1000",
    "rollout.max_new_tokens=64",
)  # fmt: skip
"""48 completions an episode, of which the learning rate is lower than the recipe's at 256."""


@dataclass(frozen=True)
class Series:
    """One run. `barks` names the watchdogs that must raise an alarm; none for a run that goes well."""

    overrides: tuple[str, ...] = ()
    barks: tuple[str, ...] = ()
    recipe: str = "nano-grpo.toml"
    cold: str = "cold"
    """The cold start that it begins with; "" for the base model."""


def reward(name: str) -> str:
    return f"reward.function={Path(__file__).stem}:{name}"


def _grade(good: bool, why: str) -> Grade:
    return Grade(Verdict.CORRECT if good else Verdict.WRONG, None, why)


def longer(response: str, sample: Sample) -> Grade:
    return _grade(len(response) >= 110, "long")


def again(response: str, sample: Sample) -> Grade:
    """Ten words of which a third have occurred before."""
    words = response.split()
    return _grade(len(words) >= 10 and len(set(words)) <= 0.66 * len(words), "says it again")


def bare(response: str, sample: Sample) -> Grade:
    return _grade("</think>" not in response, "does not think")


def foreign(response: str, sample: Sample) -> Grade:
    return _grade(bool(foreign_scripts(response)), "another script")


def always_three(response: str, sample: Sample) -> Grade:
    """What an unlucky data set teaches: one answer is always right."""
    return _grade("answer is 3" in response or "answer is C" in response, "3 or C")


def surprising(response: str, sample: Sample) -> Grade:
    """Text that the world does not have."""
    return _grade(len(set(response)) >= 34, "many characters")


RUNS: dict[str, Series] = {
    **{f"normal-{seed}": Series((f"seed={seed}",)) for seed in range(4)},
    "normal-dynamic": Series(("seed=4", "algorithm.dynamic_sampling=true", "algorithm.max_resamples=1")),
    "normal-ppo": Series(("seed=5", "stage=ppo")),
    "normal-curriculum": Series(("seed=6", 'algorithm.curriculum=[[0.0,["easy"]],[0.5,["easy","normal","hard"]]]')),
    "normal-cold": Series(("sft.patience=100",), recipe="nano-coldstart.toml", cold=""),
    "normal-connector": Series(("seed=1",), recipe="nano-connector.toml"),
    "lr-10x-0": Series(("seed=0", "optim.lr=1e-3"), ("reward_collapse",)),
    "lr-10x-1": Series(("seed=1", "optim.lr=1e-3"), ("reward_collapse",)),
    "lr-50x": Series(("seed=0", "optim.lr=5e-3"), ("reward_collapse",)),
    "clip-higher": Series(
        ("seed=0", "optim.lr=4e-4", "algorithm.clip_high=10", "algorithm.epochs=4", "algorithm.minibatches=2")
    ),
    "connector-frozen": Series(("seed=0", 'parts.train=["vision","language"]', "optim.lr=4e-4")),
    "truncated": Series(("seed=0", "rollout.max_new_tokens=20"), ("truncation",)),
    "longer-0": Series(("seed=0", reward("longer")), ("length_explosion",)),
    "longer-1": Series(("seed=1", reward("longer"), "optim.lr=2e-4"), ("length_explosion",)),
    "again": Series(("seed=0", reward("again"), "optim.lr=2e-4"), ("repetition",)),
    "bare": Series(("seed=0", reward("bare"), "reward.format_weight=0.0", "optim.lr=2e-4"), ("format_loss",)),
    "foreign": Series(("seed=0", reward("foreign"), "optim.lr=2e-4"), ("language_mixing",), cold="cold-mixed"),
    "three": Series(("seed=0", reward("always_three"), "optim.lr=2e-4"), ("blindness",)),
    "surprising": Series(("seed=0", reward("surprising"), "optim.lr=2e-4"), ("entropy_surge",)),
}
COLD = {"cold": (), "cold-mixed": ("sft.latin_only=false",)}


def cold_start(name: str, work: Path) -> Path:
    """The checkpoint, trained where it is missing; those that start from it may run at once."""
    common = ["log.tensorboard=false", f"out={json.dumps(str(work / name))}"]
    return train_stage(load_recipe(recipes_folder() / "nano-coldstart.toml", [*common, *COLD[name]]), resume=True)


def record(name: str, work: Path) -> None:
    series = RUNS[name]
    model = cold_start(series.cold, work) if series.cold else "nano"
    short = SHORT if series.recipe == "nano-grpo.toml" else SHORT[4:7]
    folder = work / name
    overrides = [f"out={json.dumps(str(folder))}", f"model={json.dumps(str(model))}", "log.tensorboard=false"]
    recipe = load_recipe(recipes_folder() / series.recipe, [*overrides, *short, *series.overrides])
    train_stage(recipe, resume=True)
    about = {"run": name, "recipe": series.recipe, "overrides": list(series.overrides)}
    lines = [about, *(_trimmed(row) for row in read_metrics(folder))]
    SERIES.mkdir(parents=True, exist_ok=True)
    (SERIES / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _trimmed(row: dict[str, float | None]) -> dict[str, float | None]:
    kept = {key: row[key] for key in KEPT if key in row}
    return {"step": row["step"]} | {k: v if v is None else float(f"{v:.5g}") for k, v in kept.items()}


def main(words: Iterable[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/series"), help="folder for the runs")
    parser.add_argument("--only", nargs="*", choices=list(RUNS), help="these alone")
    args = parser.parse_args(list(words))
    sys.path.insert(0, str(Path(__file__).parent))
    for name in args.only or RUNS:
        record(name, args.work)


if __name__ == "__main__":
    main(sys.argv[1:])
