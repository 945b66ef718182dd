"""The conversations of the second nano's base training: captions, readings, direct answers, working in plain text.

No picture comes with working: thinking about pictures is what a cold start teaches.
"""

from __future__ import annotations

import numpy as np
from PIL.Image import Image

from seethink.world.talk import Turn
from seethink.world.v2 import forms
from seethink.world.v2.domains import GROUPS
from seethink.world.v2.items import Item, Key, make_item
from seethink.world.v2.scene import LEVELS

OTHERS = tuple(name for name in GROUPS["cold"] if name not in GROUPS["core"])
SHARES = {GROUPS["core"]: 0.5, GROUPS["rl"]: 0.15, OTHERS: 0.2, GROUPS["tuning"]: 0.1, GROUPS["captions"]: 0.05}
"""How often a picture is of each group of domains."""
TEXT_SHARE, PRACTICE_SHARE = 0.15, 0.6
"""Conversations without a picture, of the second and of the third phase."""
WORKED, RECALL = 0.75, 0.4
"""Texts whose answer comes with its working; texts of the third phase that ask for one value of the caption."""
FIRST_LEVELS = LEVELS[:4]
MOST_PROBES = 2
"""Reading questions of one conversation."""
_BITS = 2**31


def scene(rng: np.random.Generator, levels: tuple[int, ...] = LEVELS) -> Item:
    """An item of the stage `base`."""
    domains = list(SHARES)[int(rng.choice(len(SHARES), p=list(SHARES.values())))]
    return _item(rng, domains, levels)


def conversation(rng: np.random.Generator) -> tuple[Image | None, list[Turn]]:
    """A picture (or None) and the turns about it; of the lower levels."""
    if rng.random() < TEXT_SHARE:
        return None, [_text(rng, FIRST_LEVELS) for _ in range(2)]
    return _about(scene(rng, FIRST_LEVELS), rng)


def practice(rng: np.random.Generator) -> tuple[Image | None, list[Turn]]:
    """A conversation of the last phase: more text, and pictures of every level."""
    if rng.random() < PRACTICE_SHARE:
        return None, [_text(rng, FIRST_LEVELS, RECALL)]
    return _about(scene(rng), rng)


def _about(item: Item, rng: np.random.Generator) -> tuple[Image, list[Turn]]:
    """Its caption, its question with a direct answer and some readings, in random order."""
    caption, question, *probes = forms.turns(item)
    turns = [caption] if item.key.domain in GROUPS["captions"] else [caption, question]
    turns += [probes[i] for i in rng.permutation(len(probes))[:MOST_PROBES]]
    return item.image, [turns[i] for i in rng.permutation(len(turns))]


def _text(rng: np.random.Generator, levels: tuple[int, ...], recall: float = 0.0) -> Turn:
    """A caption with a question about it: one value, or the item's own with or without its working."""
    item = _item(rng, GROUPS["core"] if rng.random() < 0.6 else (*OTHERS, *GROUPS["tuning"]), levels)
    kind = rng.random()
    if kind < recall:
        probes = forms.probes(item)
        probe = probes[int(rng.integers(len(probes)))]
        return f"{forms.caption(item.problem.things)} {probe.question}", forms.direct(probe.answer)
    asked = forms.text_question(item) + item.prompt.removeprefix(item.problem.question)
    working = kind < recall + (1 - recall) * WORKED
    return asked, forms.worked(item) if working else forms.direct(item.answer)


def _item(rng: np.random.Generator, domains: tuple[str, ...], levels: tuple[int, ...]) -> Item:
    domain, level = domains[int(rng.integers(len(domains)))], levels[int(rng.integers(len(levels)))]
    return make_item(Key(0, "base", "train", domain, level, int(rng.integers(_BITS))))
