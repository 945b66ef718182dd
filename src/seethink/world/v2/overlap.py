"""Do draws share items? Counted by what pictures show and what is asked, not by keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from itertools import combinations_with_replacement

from seethink.core.types import Sample
from seethink.world.v2.items import Item


def content(sample: Sample | Item) -> str:
    """What a sample shows and asks. Of other worlds' samples and of files: the pictures' pixels and the question."""
    if isinstance(sample, Item):
        return sample.content
    if "content" in sample.meta:
        return str(sample.meta["content"])
    found = blake2b(sample.question.encode(), digest_size=8)
    for picture in sample.pictures():
        found.update(picture.tobytes())
    return found.hexdigest()


def overlaps(draws: Mapping[str, Iterable[Sample | Item]]) -> dict[tuple[str, str], int]:
    """How many samples of each draw have a content that the other draw has too; (a, a) counts repeats within a.

    Example: `overlaps({"rl": rl_samples, "test": test_samples})["rl", "test"] == 0`
    """
    counts = {name: Counter(content(sample) for sample in samples) for name, samples in draws.items()}
    return {
        (a, b): sum(n - 1 for n in counts[a].values())
        if a == b
        else sum(n for key, n in counts[a].items() if key in counts[b])
        for a, b in combinations_with_replacement(counts, 2)
    }
