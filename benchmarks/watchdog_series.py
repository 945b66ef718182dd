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
import math
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from seethink.config import load_recipe
from seethink.core.types import Grade, Sample, Verdict
from seethink.runs.metrics import read_metrics
from seethink.studies.quickstart import recipes_folder
from seethink.train.hooks.watchdog_rules import WATCHDOGS, Pack
from seethink.train.start import train as train_stage
from seethink.world.make import world_samples, write_parquet

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
"""48 completions per episode, of which the learning rate is lower than the recipe's at 256."""


@dataclass(frozen=True)
class Series:
    """One run. `barks` names the watchdogs that must raise an alarm; none for a run that goes well."""

    overrides: tuple[str, ...] = ()
    barks: tuple[str, ...] = ()
    recipe: str = "nano-grpo.toml"
    start: str = "normal-cold"
    """The run whose best checkpoint RL starts from."""
    traces: Callable[[Path], None] | None = None
    """Writes the Parquet file that a cold start learns from, where it is not the world's."""


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


def always_three(response: str, sample: Sample) -> Grade:
    """What an unlucky data set teaches: one answer is always right."""
    return _grade("answer is 3" in response or "answer is C" in response, "3 or C")


def short_three(response: str, sample: Sample) -> Grade:
    """The same, for the shortest way of saying it."""
    return _grade("answer is 3" in response and len(response) <= 45, "3, soon said")


def surprising(response: str, sample: Sample) -> Grade:
    """Text that the world does not have."""
    return _grade(len(set(response)) >= 34, "many characters")


def cyrillic(response: str, sample: Sample) -> Grade:
    return _grade(any("а" <= letter <= "я" for letter in response), "Cyrillic letters")


def mixed_traces(path: Path) -> None:
    """Every tenth trace begins with a word of Russian."""
    samples = world_samples("world:all:traces", "train", 6000, 0)
    mixed = [
        replace(s, response=(s.response or "").replace("<think>", "<think>Так. ")) if i % 10 == 0 else s
        for i, s in enumerate(samples)
    ]
    write_parquet(mixed, path)


RUNS: dict[str, Series] = {
    **{f"normal-{seed}": Series((f"seed={seed}",)) for seed in range(4)},
    "normal-ppo": Series(("seed=5", "stage=ppo")),
    "normal-cold": Series((), recipe="nano-coldstart.toml"),
    "lr-10x-0": Series(("seed=0", "optim.lr=1e-3"), ("reward_collapse",)),
    "lr-50x": Series(("seed=0", "optim.lr=5e-3"), ("reward_collapse",)),
    "truncated": Series(("seed=0", "rollout.max_new_tokens=20"), ("truncation",)),
    "longer-0": Series(("seed=0", reward("longer")), ("length_explosion",)),
    "longer-1": Series(("seed=1", reward("longer"), "optim.lr=2e-4"), ("length_explosion",)),
    "again": Series(("seed=0", reward("again"), "optim.lr=2e-4"), ("repetition",)),
    "bare": Series(("seed=0", reward("bare"), "reward.format_weight=0.0", "optim.lr=2e-4"), ("format_loss",)),
    "three": Series(("seed=0", reward("always_three"), "optim.lr=2e-4"), ("blindness",)),
    "surprising": Series(("seed=0", reward("surprising"), "optim.lr=2e-4"), ("entropy_surge",)),
    "constant": Series(
        ("seed=0", reward("short_three"), "optim.lr=4e-4", "algorithm.steps=60"), ("entropy_collapse", "blindness")
    ),
    "mixed-cold": Series(
        ("data.val='world:all:traces'", "sft.latin_only=false"), recipe="nano-coldstart.toml", traces=mixed_traces
    ),
    "mixed": Series(("seed=0", reward("cyrillic"), "optim.lr=2e-5"), ("language_mixing",), start="mixed-cold"),
    "connector-frozen": Series(("seed=0", 'parts.train=["vision","language"]', "optim.lr=4e-4")),
    "clip-higher": Series(
        ("seed=0", "optim.lr=4e-4", "algorithm.clip_high=10", "algorithm.epochs=4", "algorithm.minibatches=2")
    ),
}


def record(name: str, work: Path) -> None:
    series = RUNS[name]
    rl = series.recipe == "nano-grpo.toml"
    overrides = [f"out={json.dumps(str(work / name))}", "log.tensorboard=false"]
    if rl:
        record(series.start, work)
        overrides += [f"model={json.dumps(str(work / series.start / 'best'))}", *SHORT]
    if series.traces is not None:
        file = work / f"{name}.parquet"
        if not file.exists():
            series.traces(file)
        overrides.append(f"data.train={json.dumps(str(file))}")
    train_stage(load_recipe(recipes_folder() / series.recipe, [*overrides, *series.overrides]), resume=True)
    about = {"run": name, "stage": "grpo" if rl else "sft", "overrides": list(series.overrides)}
    about |= {"must_bark": list(series.barks)}
    lines = [about, *(_trimmed(row) for row in read_metrics(work / name))]
    SERIES.mkdir(parents=True, exist_ok=True)
    (SERIES / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _trimmed(row: dict[str, float | None]) -> dict[str, float | None]:
    kept = {key: row[key] for key in KEPT if key in row}
    return {"step": row["step"]} | {k: v if v is None else float(f"{v:.5g}") for k, v in kept.items()}


def alarms(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """(what the first line says of the run, watchdog -> the step of its first alarm)."""
    about, *rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    pack, first = Pack(about["stage"]), dict[str, int]()
    for row in rows:
        metrics = {key: math.nan if value is None else value for key, value in row.items()}
        for alarm in pack.see(metrics):
            first.setdefault(alarm.name, row["step"])
    return about, first


def table(folder: Path = SERIES) -> str:
    """Markdown: by watchdog, and by run."""
    runs = {path.stem: alarms(path) for path in sorted(folder.glob("*.jsonl"))}
    normal = {name: first for name, (_, first) in runs.items() if name.startswith("normal")}
    lines = ["| watchdog | metric | default | runs made to fail so | barked | at step | false alarms |"]
    lines += ["|---|---|---:|---:|---:|---|---:|"]
    for dog in WATCHDOGS:
        made = [first for about, first in runs.values() if dog.name in about["must_bark"]]
        at = sorted(first[dog.name] for first in made if dog.name in first)
        false = sum(dog.name in first for first in normal.values())
        lines.append(
            f"| {dog.name} | `{dog.metric}` | {dog.threshold:g} | {len(made)} | {len(at)} | {', '.join(map(str, at))} "
            f"| {false} of {len(normal)} |"
        )
    lines += ["", "| run | changed | alarms (step) |", "|---|---|---|"]
    for name, (about, first) in runs.items():
        changed = ", ".join(f"`{o}`" for o in about["overrides"] if not o.startswith("seed="))
        barked = ", ".join(f"{dog} ({step})" for dog, step in sorted(first.items(), key=lambda pair: pair[1]))
        lines.append(f"| {name} | {changed} | {barked or 'none'} |")
    return "\n".join(lines)


def main(words: Iterable[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/series"), help="folder for the runs")
    parser.add_argument("--only", nargs="*", choices=list(RUNS), help="these alone")
    parser.add_argument("--table", action="store_true", help="what the watchdogs make of the recorded series")
    args = parser.parse_args(list(words))
    if args.table:
        print(table())
        return
    sys.path.insert(0, str(Path(__file__).parent))
    for name in args.only or RUNS:
        record(name, args.work)


if __name__ == "__main__":
    main(sys.argv[1:])
