"""Provoked, then mended: a nano model that learned from its teacher to say "I can't see the image", and two cures.

    python benchmarks/hallucination.py --work runs/hallucination --seeds 2

Trains what is missing (a cold start, then about 8 minutes a seed on one core), measures, and prints Markdown.

After the shipped cold start, per seed: more SFT on traces of which some deny to see (`unfiltered`); the same with such
traces dropped (`filtered`); RL from `unfiltered` with the plain reward (`rl`) and with a penalty (`rl_penalty`).
"""

from __future__ import annotations

import argparse
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from seethink.config import load_recipe
from seethink.eval.hallucination import Number
from seethink.studies.hallucination.responses import measure_hallucination
from seethink.studies.quickstart import recipes_folder, train_stage
from seethink.world.damage import KINDS

PLACES = ("before", "inside", "after", "elsewhere")

HABIT = (
    "data.train=world:all:traces?denials=0.2&image=blank&share=0.05", "data.train_size=1600", "data.val_size=100",
    "sft.epochs=4", "sft.patience=100",
)  # fmt: skip
RL = (
    "algorithm.steps=30", "rollout.prompts_per_step=6", "optim.lr=1e-4", "data.train_size=2000",
    "rollout.max_new_tokens=64", "checkpoint.every=1000",
)  # fmt: skip


@dataclass(frozen=True)
class Arm:
    recipe: str
    parent: str
    """The arm whose model it starts from; "" for the base model."""
    overrides: tuple[str, ...]


ARMS = {
    "cold": Arm("nano-coldstart.toml", "", ()),
    "unfiltered": Arm("nano-coldstart.toml", "cold", (*HABIT, "sft.drop_hallucinated=false")),
    "filtered": Arm("nano-coldstart.toml", "cold", (*HABIT, "sft.drop_hallucinated=true")),
    "rl": Arm("nano-grpo.toml", "unfiltered", RL),
    "rl_penalty": Arm("nano-grpo.toml", "unfiltered", (*RL, "reward.hallucination_penalty=0.5")),
}


def trained(name: str, seed: int, work: Path) -> Path:
    """The arm's model, its parent trained first; what is finished is left as it is. All seeds share one cold start."""
    arm = ARMS[name]
    seed = seed if arm.parent else 0
    model = str(trained(arm.parent, seed, work)) if arm.parent else "nano"
    own = [f"out={json.dumps(str(work / f'{name}-{seed}'))}", f"model={json.dumps(model)}", f"seed={seed}"]
    blind = ["blindness.every=0"] if arm.parent else []
    recipe = load_recipe(recipes_folder() / arm.recipe, [*own, "log.tensorboard=false", *blind, *arm.overrides])
    return train_stage(recipe, resume=True)


def row(name: str, seed: int, model: Path, data: str = "world:math", size: int = 150) -> str:
    (finding, *_), _ = measure_hallucination(str(model), data, size=size, samples=2, max_new_tokens=64)

    def percent(number: Number) -> str:
        return "" if math.isnan(number.value) else f"{100 * number.value:.1f} ± {100 * number.se:.1f} ({number.n})"

    shown = (finding.share, finding.accuracy_with, finding.accuracy_without)
    entropy = " / ".join(f"{finding.entropy[kind].value:.2f}" for kind in PLACES) if finding.entropy else ""
    return f"| {name} | {seed} | `{data}` | {' | '.join(map(percent, shown))} | {entropy} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/hallucination"), help="folder for the runs")
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    lines = [
        "| arm | seed | items | with statement, % (n) | accuracy with | without "
        "| entropy before / in / after / elsewhere |"
    ]
    lines += ["|---|---:|---|---:|---:|---:|---:|"]
    for seed in range(args.seeds):
        models = {name: trained(name, seed, args.work) for name in ARMS}
        lines += [row(name, seed, models[name]) for name in ARMS if ARMS[name].parent]
        lines += [row("unfiltered", seed, models["unfiltered"], f"world:math?image={kind}", 60) for kind in KINDS]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
