"""What the nano base model can do, task by task: greedy, fill-in-the-blank, on held-out pictures.

python benchmarks/nano_scores.py                     # the packaged base, about a minute on 2 cores
python benchmarks/nano_scores.py --model models/nano # one that you trained
"""

from __future__ import annotations

import argparse
import math

import numpy as np

from seethink.config import RewardConfig
from seethink.infer.generator import InProcessGenerator, Sampling
from seethink.models.load import LoadedModel, load_model
from seethink.rewards.base import Rewarder
from seethink.world.make import to_sample
from seethink.world.questions import TASKS, make_item
from seethink.world.scenes import DOMAINS


def task_accuracy(loaded: LoadedModel, domain: str, difficulty: str, task: str, n: int, seed: int) -> float:
    """Share of `n` test items of one task answered correctly, without options to choose from."""
    rng = np.random.default_rng([seed, 99])
    items = [make_item(domain, difficulty, "test", rng, task=task, choice_share=0.0) for _ in range(n)]
    prompts = [loaded.chat.prompt(to_sample(item, str(i), None)) for i, item in enumerate(items)]
    groups = InProcessGenerator(loaded).generate(prompts, 1, Sampling(64, temperature=0.0), (seed,))
    pairs = [(prompt.sample, group[0]) for prompt, group in zip(prompts, groups, strict=True)]
    Rewarder(RewardConfig()).score(pairs)
    return sum(c.reward_parts["accuracy"] == 1 for _, c in pairs) / n


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="nano")
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    loaded = load_model(args.model)
    print(f"n = {args.n} per cell; standard error at most {50 / math.sqrt(args.n):.1f} points\n")
    print("| domain | " + " | ".join(task for tasks in TASKS.values() for task in tasks) + " |")
    print("|---|" + "---:|" * sum(map(len, TASKS.values())))
    for domain in DOMAINS:
        cells = [
            f"{100 * task_accuracy(loaded, domain, difficulty, task, args.n, args.seed):.1f}"
            for difficulty, tasks in TASKS.items()
            for task in tasks
        ]
        print(f"| {domain} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
