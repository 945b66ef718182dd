"""What a base model can do on the second world: greedy, on test items.

Reading one value; direct answers by level; without a picture, answers after a caption with their equations; and drills.

python benchmarks/nano2_scores.py --model nano2               # some minutes on one core
python benchmarks/nano2_scores.py --model nano2 --size 80
"""

from __future__ import annotations

import argparse
import math

import numpy as np

from seethink.config import RewardConfig
from seethink.core.types import Completion, Sample
from seethink.generate.make import make_generator
from seethink.generate.protocol import Sampling
from seethink.models.load import LoadedModel, load_model
from seethink.rewards.rewarder import Rewarder
from seethink.world.v2.domains import GROUPS
from seethink.world.v2.said import take_apart
from seethink.world.v2.skills import candidates
from seethink.world.v2.source import samples
from seethink.world.v2.talk import drills

BANDS = ("1", "2", "3-4", "5-8")
TEXTS = (*GROUPS["core"], "dice", "shapes", "bars", "clocks")


def answers(loaded: LoadedModel, source: str, size: int, seed: int) -> list[tuple[Sample, Completion]]:
    """Test items with their greedy completions and rewards."""
    asked = samples(source, "test", size, seed)
    prompts = [loaded.chat.prompt(sample) for sample in asked]
    groups = make_generator(loaded).generate(prompts, 1, Sampling(160, temperature=0.0), (seed,))
    pairs = [(sample, group[0]) for sample, group in zip(asked, groups, strict=True)]
    Rewarder(RewardConfig()).score(pairs)
    return pairs


def drilled(loaded: LoadedModel, size: int, seed: int) -> dict[str, list[bool]]:
    """Whether whole answers to drills are right, to the last word."""
    rng = np.random.default_rng([seed, 1])
    turns = [drills(rng)[1][0] for _ in range(4 * size)] + [candidates(rng) for _ in range(size)]
    prompts = [loaded.chat.prompt(Sample(str(i), question)) for i, (question, _) in enumerate(turns)]
    groups = make_generator(loaded).generate(prompts, 1, Sampling(160, temperature=0.0), (seed,))
    right: dict[str, list[bool]] = {kind: [] for kind in ("options", "holders", "equations", "candidates")}
    for number, ((question, answer), group) in enumerate(zip(turns, groups, strict=True)):
        kind = "options" if "\n" in question else "equations" if question.startswith("What are") else "holders"
        right[kind if number < 4 * size else "candidates"].append(group[0].text == answer)
    return right


def share(pairs: list[tuple[Sample, Completion]]) -> float:
    return sum(completion.reward_parts["accuracy"] == 1 for _, completion in pairs) / len(pairs)


def row(name: str, shares: list[float]) -> str:
    return f"| {name} | " + " | ".join("-" if math.isnan(s) else f"{100 * s:.1f}" for s in shares) + " |"


def header(*columns: str) -> None:
    print(f"| {' | '.join(columns)} |\n|---|" + "---:|" * (len(columns) - 1))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--size", type=int, default=200, help="items of each number")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    loaded = load_model(args.model)

    header("domain", "read", *(f"direct, level {band}" for band in BANDS))
    for domain in GROUPS["all"]:
        read = share(answers(loaded, f"world2:{domain}:probes", args.size, args.seed))
        direct = [share(answers(loaded, f"world2:{domain}?levels={band}", args.size, args.seed)) for band in BANDS]
        print(row(f"`{domain}`", [read, *direct]), flush=True)
    print("\nWithout a picture, after a caption:\n")
    header("domain", *(f"level {band}" for band in BANDS), "equations right")
    for domain in TEXTS:
        groups = [answers(loaded, f"world2:{domain}:text?levels={band}", args.size, args.seed) for band in BANDS]
        thoughts = [take_apart(f"<think>{done.text}</think>") for pairs in groups for _, done in pairs]
        equations = [equation.holds for said in thoughts for equation in said.equations]
        right = sum(equations) / len(equations) if equations else math.nan
        print(row(f"`{domain}`", [*map(share, groups), right]), flush=True)
    for kind, right in drilled(loaded, args.size, args.seed).items():
        print(f"\nDrills, {kind}: {sum(right)} of {len(right)} answers wholly right.")
    print(f"\nn = {args.size} per number, standard error at most {50 / args.size**0.5:.1f} points.")


if __name__ == "__main__":
    main()
