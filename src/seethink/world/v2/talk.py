"""The conversations of the second nano's base training: captions, readings, direct answers, working in plain text.

None has the tags of a thought, a hasty leap or a trace of the cold start's own items.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from PIL.Image import Image

from seethink.world.questions import LETTERS
from seethink.world.talk import Turn
from seethink.world.v2 import forms
from seethink.world.v2.domains import GROUPS
from seethink.world.v2.items import Item, Key, make_item
from seethink.world.v2.names import COLORS
from seethink.world.v2.scene import LEVELS, Thing
from seethink.world.v2.tasks.reckon import steps

T = TypeVar("T")
Shown = Image | tuple[Thing, ...] | None
"""A picture, or what one would show, or nothing."""
OTHERS = tuple(name for name in GROUPS["cold"] if name not in GROUPS["core"])
SHARES = {GROUPS["core"]: 0.5, GROUPS["rl"]: 0.15, OTHERS: 0.2, GROUPS["tuning"]: 0.08, GROUPS["captions"]: 0.07}
"""How often a picture is of each group of domains."""
HARD = ("bars", "tables", "clocks", "shapes", "emoji")
WATCHED = {
    GROUPS["core"]: 0.3,
    GROUPS["rl"]: 0.2,
    HARD: 0.3,
    OTHERS: 0.08,
    GROUPS["tuning"]: 0.05,
    GROUPS["captions"]: 0.07,
}
"""The same in the first phase: charts, clocks and counting, which take longest to learn, come more often."""
TEXTS = {"named": 0.15, "probe": 0.05, "worked": 0.7, "direct": 0.1}
"""What a text asks of a caption: several named values, one value, the item's question with or without its working."""
WORKED_SHARE = 0.5
"""Questions about pictures that are answered with the working; the others are answered directly."""
DRILL_SHARE = 0.5
"""Texts that are one drill: which options some answers are, what has some values, or some equations. A long answer
hangs on such single words and teaches them too rarely: with fewer drills, letters of options fall back to chance."""
DRILLS = (0.4, 0.35, 0.25)
"""The shares of options, holders and equations among drills."""
MOST_TOTAL, MOST_TERM = 90, 12
"""The largest numbers left and right of a drill's sign."""
OPTIONS = (0.4, 0.4, 0.2)
"""The shares of numbers, names and pairs of names among their options."""
HELD = ("search", "sums", *OTHERS)
TOLD_SHARE = 0.35
"""Conversations about pictures that are not drawn, of the text phase."""
TEXT_SHARE, PRACTICE_SHARE = 0.4, 0.5
"""Conversations without a picture, of the language phase and of the last phase."""
FIRST_LEVELS = LEVELS[:6]
_BITS = 2**31


def watched(rng: np.random.Generator) -> Item:
    """An item of the stage `base` for the first phase."""
    return _drawn(rng, WATCHED, LEVELS)


def scene(rng: np.random.Generator, levels: tuple[int, ...] = LEVELS) -> Item:
    """An item of the stage `base`."""
    return _drawn(rng, SHARES, levels)


def text(rng: np.random.Generator, levels: tuple[int, ...] = FIRST_LEVELS) -> tuple[None, list[Turn]]:
    """A caption and one question about it, or a drill."""
    return drills(rng, levels) if rng.random() < DRILL_SHARE else (None, [_text(rng, levels)])


def drills(rng: np.random.Generator, levels: tuple[int, ...] = FIRST_LEVELS) -> tuple[None, list[Turn]]:
    """One drill. A phase of these alone comes first."""
    match int(rng.choice(len(DRILLS), p=DRILLS)):
        case 0:
            return None, [_options(rng)]
        case 1:
            return None, [_holders(drawn_item(rng, HELD, levels), rng)]
        case _:
            return None, [_equations(rng)]


def undrawn(rng: np.random.Generator) -> tuple[Shown, list[Turn]]:
    """What a picture of any level would show and the turns about it, or a text of the lower levels."""
    if rng.random() >= TOLD_SHARE:
        return text(rng)
    item = scene(rng)
    return item.problem.things, _turns(item, rng)


def conversation(rng: np.random.Generator) -> tuple[Shown, list[Turn]]:
    """A picture (or None) and the turns about it; of the lower levels."""
    return text(rng) if rng.random() < TEXT_SHARE else _about(scene(rng, FIRST_LEVELS), rng)


def practice(rng: np.random.Generator, worked: float = WORKED_SHARE) -> tuple[Shown, list[Turn]]:
    """A conversation of the phase of practice: more text, and every level. `worked` is WORKED_SHARE or another."""
    return text(rng, LEVELS) if rng.random() < PRACTICE_SHARE else _about(scene(rng), rng, worked)


def perception(rng: np.random.Generator) -> tuple[Shown, list[Turn]]:
    """A picture and what reads it, with nothing to compute, compare or choose."""
    item = scene(rng)
    caption, _, *probes = forms.turns(item)
    turns = [caption, read_some(item, rng), probes[int(rng.integers(len(probes)))]]
    return item.image, [turns[i] for i in rng.permutation(len(turns))]


def reading(rng: np.random.Generator) -> tuple[Shown, list[Turn]]:
    """As `perception`, of the lower levels and from one value to all, so that few answers can be copied from before."""
    item = scene(rng, FIRST_LEVELS)
    caption, _, *probes = forms.turns(item)
    return item.image, [probes[int(rng.integers(len(probes)))], read_some(item, rng), caption]


def _about(item: Item, rng: np.random.Generator, worked: float = WORKED_SHARE) -> tuple[Shown, list[Turn]]:
    return item.image, _turns(item, rng, worked)


def _turns(item: Item, rng: np.random.Generator, worked: float = WORKED_SHARE) -> list[Turn]:
    """Its caption, its question, a reading of some things and of one, in random order."""
    caption, question, *probes = forms.turns(item)
    if rng.random() < worked:
        question = item.prompt, forms.worked(item)
    turns = [caption] if item.key.domain in GROUPS["captions"] else [caption, question]
    turns += [read_some(item, rng), probes[int(rng.integers(len(probes)))]]
    return [turns[i] for i in rng.permutation(len(turns))]


def read_some(item: Item, rng: np.random.Generator) -> Turn:
    """Some or all of its names, in random order, and what each shows."""
    names = list(dict.fromkeys(thing.name for thing in item.problem.things))
    return forms.named(item, [names[i] for i in rng.permutation(len(names))[: int(rng.integers(len(names))) + 1]])


def _text(rng: np.random.Generator, levels: tuple[int, ...]) -> Turn:
    """A caption with a question about it."""
    item = drawn_item(rng, GROUPS["core"] if rng.random() < 0.6 else (*OTHERS, *GROUPS["tuning"]), levels)
    match picked(rng, TEXTS):
        case "named":
            question, answer = read_some(item, rng)
        case "probe":
            probes = forms.probes(item)
            probe = probes[int(rng.integers(len(probes)))]
            question, answer = probe.question, forms.direct(probe.answer)
        case kind:
            question = item.prompt
            answer = forms.worked(item) if kind == "worked" else forms.direct(item.answer)
    return forms.after_caption(item, question), answer


def _options(rng: np.random.Generator) -> Turn:
    """`Which are 5, 1, 2, 8?` and these as options, answered by `so 5 C, 1 B, 2 A, 8 D.`, as working ends."""
    names = [COLORS[i] for i in rng.permutation(len(COLORS))]
    texts = (
        [str(number) for number in rng.permutation(25)[:4]],
        names[:4],
        [f"{one} and {other}" for one, other in zip(names[:4], names[4:8], strict=True)],
    )[int(rng.choice(3, p=OPTIONS))]
    asked = [int(i) for i in rng.permutation(len(texts))]
    options = "".join(f"\n{letter}. {text}" for letter, text in zip(LETTERS, texts, strict=True))
    answer = ", ".join(f"{texts[i]} {LETTERS[i]}" for i in asked)
    return f"Which are {', '.join(texts[i] for i in asked)}?{options}", f"so {answer}."


def _holders(item: Item, rng: np.random.Generator) -> Turn:
    """A caption and `Which are 6, 9?`, answered by `so 6 teal, 9 brown.`: of all values that one name alone has."""
    caption = forms.caption(item.problem.things)
    values = [thing.value for thing in item.problem.things]
    alone = {v: t.name for v, t in zip(values, item.problem.things, strict=True) if values.count(v) == 1}
    asked = [list(alone)[i] for i in rng.permutation(len(alone))]
    if not asked:
        return _options(rng)
    answer = ", ".join(f"{value} {alone[value]}" for value in asked)
    return f"{caption} Which are {', '.join(map(str, asked))}?", f"so {answer}."


def _equations(rng: np.random.Generator) -> Turn:
    """`What are 23 + 8, 14 - 5?`, answered by `23 + 8 = 31, 14 - 5 = 9.`, as steps of working are written."""
    equations: list[str] = []
    for _ in range(int(rng.integers(1, 5))):
        total, term = int(rng.integers(MOST_TOTAL + 1)), int(rng.integers(MOST_TERM + 1))
        equations += steps([total, term], "-" if term <= total and rng.random() < 0.3 else "+")
    asked = [equation.partition(" = ")[0] for equation in equations]
    return f"What are {', '.join(asked)}?", f"{', '.join(equations)}."


def _drawn(rng: np.random.Generator, shares: dict[tuple[str, ...], float], levels: tuple[int, ...]) -> Item:
    return drawn_item(rng, picked(rng, shares), levels)


def picked(rng: np.random.Generator, shares: dict[T, float]) -> T:
    """A key, as often as its share says."""
    return list(shares)[int(rng.choice(len(shares), p=list(shares.values())))]


def drawn_item(rng: np.random.Generator, domains: tuple[str, ...], levels: tuple[int, ...]) -> Item:
    """An item of the stage `base` from one of the domains and levels."""
    domain, level = domains[int(rng.integers(len(domains)))], levels[int(rng.integers(len(levels)))]
    return make_item(Key(0, "base", "train", domain, level, int(rng.integers(_BITS))))
