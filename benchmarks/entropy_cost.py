"""What measuring entropy costs of an RL step on the nano model: CPU seconds of its parts and of the whole step.

    python benchmarks/entropy_cost.py            # about a minute on a core of its own

CPU time, not the clock: other jobs on the machine slow both alike. The step is rollout, reward and update of
recipes/nano-grpo.toml; what measuring adds is the mass of critical words while decoding, and the statistics.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from datetime import date

import torch

from seethink.config import load_recipe
from seethink.generate.make import make_generator
from seethink.models.load import load_model
from seethink.rewards.rewarder import Rewarder
from seethink.rl.rollout import Episode, PromptSource, collect_episode
from seethink.studies.quickstart import recipes_folder
from seethink.train.grpo import update
from seethink.train.hooks.entropy import EntropyLog
from seethink.train.policy import Policy
from seethink.world.make import world_samples


def cpu(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--prompts", type=int, default=16, help="prompts a step; the rest is the recipe's")
    args = parser.parse_args()
    torch.set_num_threads(1)
    recipe = load_recipe(
        recipes_folder() / "nano-grpo.toml", [f"model={args.model}", f"rollout.prompts_per_step={args.prompts}"]
    )
    loaded = load_model(args.model)
    loaded.stop_ids = ()  # every response has its full length
    source = PromptSource(world_samples("world:math", "train", 512, 0), loaded.chat, 0)
    generator, rewarder = make_generator(loaded, max_rows=recipe.rollout.max_rows), Rewarder(recipe.reward)
    log, policy = EntropyLog(recipe, loaded), Policy(loaded, recipe, 10**6)
    made: list[Episode] = []

    def collect(step: int) -> None:
        made[:] = [collect_episode(recipe, source, generator, rewarder, step, log.watched_ids)]

    # What watching adds to each draw: timed on its own, as it is lost in the noise of a whole step.
    rows_decoded = min(recipe.rollout.max_rows, recipe.rollout.prompts_per_step * recipe.rollout.group_size)
    draws = recipe.rollout.max_new_tokens * recipe.rollout.prompts_per_step * recipe.rollout.group_size // rows_decoded
    probs = torch.rand(rows_decoded, int(loaded.model.config.get_text_config().vocab_size))
    kept = torch.zeros(rows_decoded, recipe.rollout.max_new_tokens)
    everyone = torch.arange(rows_decoded)

    def watch() -> None:
        for step in range(draws):
            kept[everyone, step % kept.shape[1]] = probs[:, list(log.watched_ids)].sum(-1)

    rows: dict[str, list[float]] = {"whole step": [], "mass while decoding": [], "statistics": []}
    for step in range(args.repeats + 1):
        collected, watched = cpu(lambda s=step: collect(s)), cpu(watch)
        episode = made[0]
        measured = cpu(lambda e=episode: log.step(log.meter.tokens([group.completions for group in e.groups])))
        updated = cpu(lambda e=episode: update(policy, recipe, e, None, None))
        if step:  # the first warms up
            rows["whole step"].append(collected + measured + updated)
            rows["mass while decoding"].append(watched)
            rows["statistics"].append(measured)
    whole = statistics.fmean(rows["whole step"])
    tokens = recipe.rollout.prompts_per_step * recipe.rollout.group_size * recipe.rollout.max_new_tokens
    print(f"{date.today()}  1 thread  {args.repeats} steps of {tokens:,} sampled tokens; CPU seconds, mean ± se")
    for name, values in rows.items():
        mean, se = statistics.fmean(values), statistics.stdev(values) / len(values) ** 0.5
        print(f"{name:<22}{mean:>9.4f} ± {se:.4f}  {100 * mean / whole:6.2f}% of a step")


if __name__ == "__main__":
    main()
