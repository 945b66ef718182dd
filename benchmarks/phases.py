"""Tokens per second of each phase on the nano model: prompts, decoding, grading, forward and backward.

    python benchmarks/phases.py            # about a minute on 2 cores
    python benchmarks/phases.py --threads 1 --repeats 5

Medians over repeats; a benchmark, not a test: nothing fails when the machine is busy.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date

import torch

from seethink.config import make_recipe
from seethink.core.types import RolloutGroup
from seethink.generate.make import make_generator
from seethink.generate.protocol import Sampling
from seethink.models.load import load_model
from seethink.rewards.rewarder import Rewarder
from seethink.rl.losses import policy_loss
from seethink.rl.rollout import Episode
from seethink.studies.quickstart import peak_memory_mb
from seethink.train.grpo import microbatches
from seethink.train.policy import Policy
from seethink.world.make import world_samples


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    work()  # warm-up
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="nano")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=48, help="response length, end-of-turn ignored")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    loaded = load_model(args.model)
    loaded.stop_ids = ()  # fixed lengths, so that runs compare
    samples = world_samples("world:math", "train", args.prompts, 0)
    prompts = [loaded.chat.prompt(s) for s in samples]
    generator, sampling = make_generator(loaded), Sampling(args.tokens)
    groups = generator.generate(prompts, args.group_size, sampling, (0,))
    generated = args.prompts * args.group_size * args.tokens
    prompt_tokens = sum(len(p.input_ids) for p in prompts)

    rewarder = Rewarder(make_recipe(_recipe(args.model)).reward)
    pairs = [(p.sample, c) for p, group in zip(prompts, groups, strict=True) for c in group]
    rewarder.score(pairs)

    recipe = make_recipe(_recipe(args.model))
    policy = Policy(loaded, recipe, 1)
    episode = Episode([RolloutGroup(p, g) for p, g in zip(prompts, groups, strict=True)], args.tokens)
    completions = [c for group in groups for c in group]
    for i, completion in enumerate(completions):
        completion.advantage = 1.0 if i % 2 else -1.0
    batches = microbatches(recipe, episode, completions, list(range(len(completions))), loaded)

    def train() -> None:
        policy.forward_backward(
            batches,
            lambda out, b: policy_loss(
                out.logprobs, out.logprobs.detach(), b.advantages[b.loss_mask], b.weights[b.loss_mask]
            ),
        )

    trained = sum(int((b.sequence_ids >= 0).sum()) for b in batches)
    rows = [
        ("images and prompts", prompt_tokens, lambda: [loaded.chat.prompt(s) for s in samples]),
        ("decode", generated, lambda: generator.generate(prompts, args.group_size, sampling, (0,))),
        ("grade", generated, lambda: rewarder.score(pairs)),
        ("forward + backward", trained, train),
    ]
    print(
        f"{date.today()}  {platform.machine()}  {args.threads} threads  torch {torch.__version__}  model {args.model}"
    )
    print(f"{args.prompts} prompts x {args.group_size}, {args.tokens} tokens each, median of {args.repeats}\n")
    print(f"{'phase':<20}{'tokens':>9}{'seconds':>10}{'tokens/s':>11}")
    for name, tokens, work in rows:
        seconds = median_seconds(work, args.repeats)
        print(f"{name:<20}{tokens:>9,}{seconds:>10.3f}{tokens / seconds:>11,.0f}")
    print(f"\npeak memory {peak_memory_mb():,} MB")


def _recipe(model: str) -> dict[str, object]:
    data = {"train": "world:math", "train_size": 16}
    return {"name": "bench", "stage": "grpo", "model": model, "out": "unused", "data": data}


if __name__ == "__main__":
    main()
