"""What the base models can do, task by task: greedy, fill-in-the-blank, on held-out pictures; and without pictures.

python benchmarks/nano_scores.py                     # the packaged nano, about a minute on 2 cores
python benchmarks/nano_scores.py --model nano nano-resampler nano-qwen nano-weak
python benchmarks/nano_scores.py --model models/nano # one that you trained
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
from seethink.world.make import to_sample
from seethink.world.questions import TASKS, make_item
from seethink.world.scenes import DOMAINS
from seethink.world.talk import PRACTICE


def answers(loaded: LoadedModel, samples: list[Sample], seed: int) -> list[tuple[Sample, Completion]]:
    prompts = [loaded.chat.prompt(sample) for sample in samples]
    groups = make_generator(loaded).generate(prompts, 1, Sampling(64, temperature=0.0), (seed,))
    return [(sample, group[0]) for sample, group in zip(samples, groups, strict=True)]


def task_accuracy(loaded: LoadedModel, domain: str, difficulty: str, task: str, n: int, seed: int) -> float:
    """Share of `n` test items of one task answered correctly, without options to choose from."""
    rng = np.random.default_rng([seed, 99])
    items = [make_item(domain, difficulty, "test", rng, task=task, choice_share=0.0) for _ in range(n)]
    pairs = answers(loaded, [to_sample(item, str(i), None) for i, item in enumerate(items)], seed)
    Rewarder(RewardConfig()).score(pairs)
    return sum(c.reward_parts["accuracy"] == 1 for _, c in pairs) / n


def practice_accuracy(loaded: LoadedModel, kind: str, n: int, seed: int) -> float:
    """Share of `n` text-only questions of one kind answered word for word."""
    rng = np.random.default_rng([seed, 98])
    turns = [PRACTICE[kind](rng) for _ in range(n)]
    pairs = answers(loaded, [Sample(str(i), q, answer=a) for i, (q, a) in enumerate(turns)], seed)
    return sum(c.text == sample.answer for sample, c in pairs) / n


def row(name: str, shares: list[float]) -> str:
    return f"| {name} | " + " | ".join(f"{100 * share:.1f}" for share in shares) + " |"


def print_header(first: str, columns: list[str]) -> None:
    print(f"| {first} | " + " | ".join(columns) + " |\n|---|" + "---:|" * len(columns))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", nargs="+", default=["nano"])
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(f"n = {args.n} per cell; standard error at most {50 / math.sqrt(args.n):.1f} points")
    models = {name: load_model(name) for name in args.model}
    tasks = [(difficulty, task) for difficulty, names in TASKS.items() for task in names]
    for name, loaded in models.items():
        print(f"\n{name}:\n")
        print_header("domain", [task for _, task in tasks])
        for domain in DOMAINS:
            shares = [task_accuracy(loaded, domain, *task, args.n, args.seed) for task in tasks]
            print(row(domain, shares), flush=True)
    print("\nWithout pictures:\n")
    print_header("model", list(PRACTICE))
    for name, loaded in models.items():
        print(row(name, [practice_accuracy(loaded, kind, args.n, args.seed) for kind in PRACTICE]), flush=True)


if __name__ == "__main__":
    main()
