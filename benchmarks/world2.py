"""How fast the second world draws, and how long its traces are, as tables for docs/world.md.

    python benchmarks/world2.py [--size 4000]

Seconds are CPU seconds of one thread, pictures included, after a warm-up in which masks are drawn and kept. The first
world comes last, for comparison: its pictures have a quarter of the pixels.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from seethink.world.make import world_samples
from seethink.world.v2.domains import DOMAINS
from seethink.world.v2.items import Key, make_item
from seethink.world.v2.scene import LEVELS
from seethink.world.v2.words import build_tokenizer_core

SOURCES = {
    "world2:cold?stage=base": "train",
    "world2:cold:traces?stage=coldstart": "train",
    "world2:rl?stage=rl": "train",
    "world2:tuning:traces?stage=tuning": "train",
    "world2:all": "test",
    "world:all": "train",
}


def speed(size: int) -> None:
    print("| source | split | items per CPU second |\n|---|---|---:|")
    for source, split in SOURCES.items():
        world_samples(source, split, size, 1)
        started = time.process_time()
        world_samples(source, split, size, 0)
        print(f"| `{source}` | {split} | {size / (time.process_time() - started):,.0f} |", flush=True)


def lengths(count: int) -> None:
    core = build_tokenizer_core()
    print("\n| domain | question | " + " | ".join(f"level {level}" for level in LEVELS) + " |")
    print("|---|---:|" + "---:|" * len(LEVELS))
    for domain in DOMAINS:
        cells, prompts = [], []
        for level in LEVELS:
            items = [make_item(Key(0, "base", "train", domain, level, number)) for number in range(count)]
            tokens = [len(core.encode(item.trace).ids) + 1 for item in items]
            prompts += [len(core.encode(item.prompt).ids) for item in items]
            cells.append(f"{np.mean(tokens):.0f} ({min(tokens)}-{max(tokens)})")
        print(f"| `{domain}` | {min(prompts)}-{max(prompts)} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=4000, help="items per source")
    parser.add_argument("--count", type=int, default=60, help="items per domain and level")
    arguments = parser.parse_args()
    speed(arguments.size)
    lengths(arguments.count)
