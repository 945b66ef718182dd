"""What keeping a frozen vision encoder's features saves: GRPO steps with and without, the same images seen again.

    python benchmarks/vision_cache.py --model mid --pixels 280

Steps alternate; a step is decoding and one update of connector and language model, on prompts of one image each. With
the cache, decoding encodes the images and training finds them (`first`), or both find them (`again`, a second epoch).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from step_models import SHAPES, make_cell, model_folder
from step_work import make_rows

from seethink.config import Recipe, make_recipe
from seethink.core.types import Prompt, RolloutGroup, Sample
from seethink.generate.make import make_generator
from seethink.generate.protocol import Sampling
from seethink.models.load import load_model
from seethink.rl.rollout import Episode
from seethink.train.grpo import update
from seethink.train.policy import Policy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(SHAPES), default="mid")
    parser.add_argument("--pixels", type=int, default=280, help="a side, a multiple of 28")
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--response", type=int, default=32)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    tokens = (args.pixels // 28) ** 2 + 24
    cell = make_cell(args.model, args.group, tokens, args.response, args.prompts, (args.pixels, 1))
    with tempfile.TemporaryDirectory() as folder:
        sides = {name: Side(str(model_folder(Path(folder), cell)), mb, args) for name, mb in (("off", 0), ("on", 512))}
    rows = make_rows(cell, args.prompts * (args.repeats + 1))
    seconds: dict[str, list[float]] = {"off": [], "first": [], "again": []}
    for repeat in range(args.repeats + 1):
        part = rows[repeat * args.prompts : (repeat + 1) * args.prompts]
        samples = [Sample(str(i), row.text, tuple(row.images)) for i, row in enumerate(part)]
        for label, side in (("off", "off"), ("first", "on"), ("again", "on")):
            taken = sides[side].step(samples)
            if repeat:  # the first warms up
                seconds[label].append(taken)
    for label, values in seconds.items():
        print(f"{label:6} {statistics.median(values):8.3f} s a step, n = {len(values)}")
    print(f"ratio to off: first {_ratio(seconds, 'first'):.2f}, again {_ratio(seconds, 'again'):.2f}")


def _ratio(seconds: dict[str, list[float]], label: str) -> float:
    return statistics.median(seconds["off"]) / statistics.median(seconds[label])


class Side:
    """A model that trains with or without the cache."""

    def __init__(self, folder: str, megabytes: int, args: argparse.Namespace) -> None:
        self.args, self.loaded = args, load_model(folder)
        self.loaded.stop_ids = ()
        self.recipe = _recipe(folder, megabytes)
        self.policy = Policy(self.loaded, self.recipe, 1_000_000)
        self.generator = make_generator(self.loaded)

    def step(self, samples: list[Sample]) -> float:
        prompts: list[Prompt] = [self.loaded.chat.prompt(sample) for sample in samples]
        started = time.perf_counter()
        groups = self.generator.generate(prompts, self.args.group, Sampling(self.args.response), (0,))
        for group in groups:
            for place, completion in enumerate(group):
                completion.reward, completion.advantage = 0.0, (-1.0) ** place
        pairs = zip(prompts, groups, strict=True)
        update(self.policy, self.recipe, Episode([RolloutGroup(*p) for p in pairs], self.args.response), None, None)
        return time.perf_counter() - started


def _recipe(folder: str, megabytes: int) -> Recipe:
    table = {
        "name": "bench",
        "stage": "grpo",
        "model": folder,
        "out": "unused",
        "data": {"train": "world:math"},
        "parts": {"train": ["connector", "language"], "vision_cache_mb": megabytes},
    }
    return make_recipe(table)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
