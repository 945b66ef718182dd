"""Items by key: seed, stage, split, domain, level and number fix picture, question and trace.

No two stages and no two splits share a scene with its question: what a scene shows and what is asked decide, by a hash,
which stage and split may draw it.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from itertools import accumulate, chain, permutations
from typing import NamedTuple

from PIL.Image import Image

from seethink.core.errors import UserError
from seethink.world.digits import SPLITS, Split
from seethink.world.questions import LETTERS
from seethink.world.v2.domains import DOMAINS, FAMILIES
from seethink.world.v2.draws import Draws
from seethink.world.v2.place import elsewhere
from seethink.world.v2.scene import LEVELS, Domain, Problem, Thought
from seethink.world.v2.shows import draw_picture

STAGES = ("base", "coldstart", "rl", "tuning", "eval")
SHARES: dict[tuple[str, Split], float] = {
    ("base", "train"): 0.33,
    ("coldstart", "train"): 0.14,
    ("rl", "train"): 0.14,
    ("tuning", "train"): 0.11,
    ("eval", "train"): 0.02,
    **{(stage, "val"): 0.01 for stage in STAGES},
    **{(stage, "test"): 0.01 for stage in STAGES[:-1]},
    ("eval", "test"): 0.17,
}
"""The share of all scenes that a stage's split owns. Evaluations read the stage `eval`."""
TRIES, PLACES = 1000, 40
"""Scenes that are posed for an item at most, and places that are tried for each."""


class Key(NamedTuple):
    """What fixes an item. Example: `Key(0, "rl", "train", "search_dusk", 3, 17)`"""

    seed: int
    stage: str
    split: Split
    domain: str
    level: int
    number: int
    """Even ones are filled in, odd ones multiple choice."""

    @property
    def id(self) -> str:
        """`search_dusk-3-rl-train-0-17`: the item's name, from which `item_of` makes it again."""
        return f"{self.domain}-{self.level}-{self.stage}-{self.split}-{self.seed}-{self.number}"


@dataclass(frozen=True)
class Item:
    """A picture with a question. The picture and the thought are made when they are first asked for."""

    key: Key
    problem: Problem
    choices: tuple[str, ...]
    content: str
    """What the picture shows and what is asked, as a hash; handwriting, noise, palette and options are left out."""

    @property
    def answer(self) -> str:
        """The letter of the right choice, or the right text."""
        return LETTERS[self.choices.index(self.problem.answer)] if self.choices else self.problem.answer

    @property
    def answers(self) -> tuple[str, ...]:
        """Every text that is right, with names joined by "and" in each order."""
        if self.choices:
            return (self.answer,)
        right = (self.problem.answer, *self.problem.also)
        return tuple(" and ".join(names) for text in right for names in permutations(text.split(" and ")))

    @property
    def prompt(self) -> str:
        """The question with its options."""
        options = "".join(f"\n{letter}. {text}" for letter, text in zip(LETTERS, self.choices, strict=False))
        return self.problem.question + options

    @cached_property
    def image(self) -> Image:
        palette = DOMAINS[self.key.domain].palette
        return draw_picture(self.problem.things, palette, self.key.split, Draws("picture", *self.key))

    @cached_property
    def thought(self) -> Thought:
        """The teacher's thought up to the answer."""
        return FAMILIES[self.problem.family].think(self.problem)

    @property
    def conclusion(self) -> str:
        """`so 13.`, or `so 13 B.`: the letter right after what it stands for, where it is learned soonest."""
        return f"so {self.problem.answer}{f' {self.answer}' if self.choices else ''}."

    @property
    def trace(self) -> str:
        """The teacher's whole response."""
        return self.concluded(self.thought.text)

    def concluded(self, thought: str) -> str:
        """The response of this thought with the right conclusion and answer."""
        return f"<think>{thought} {self.conclusion}</think>The answer is {self.answer}."


def digest(problem: Problem) -> str:
    """16 hex digits of a problem's content."""
    return _with_cells(_without_cells(problem), [thing.cells for thing in problem.things])


def _without_cells(problem: Problem) -> bytes:
    shown = [(t.name, t.value, t.show, t.arrow, t.scratched) for t in problem.things]
    return repr((problem.question, shown)).encode()


def _with_cells(content: bytes, cells: Sequence[Sequence[int]]) -> str:
    return blake2b(content + bytes(chain.from_iterable(cells)), digest_size=8).hexdigest()


def owner(content: str) -> tuple[str, Split]:
    """The stage and split that own a content, in the shares of SHARES."""
    return _OWNERS[bisect(_ENDS, int(content, 16) / 2**64)]


_OWNERS = (*SHARES, ("eval", "test"))
_ENDS = tuple(accumulate(SHARES.values()))


def make_item(key: Key) -> Item:
    """The item of a key. Raises UserError where the key names no domain, level, stage or split."""
    _check(key)
    domain, draws = DOMAINS[key.domain], Draws("item", *key)
    family = FAMILIES[draws.pick(domain.families)]
    is_choice = key.number % 2 == 1
    for _ in range(TRIES):
        problem = family.pose(domain, key.level, draws, None)
        problems = _siblings(problem, domain, key.level, draws) if is_choice and not problem.rivals else [problem]
        if problems and (found := _owned(draws.pick(problems), key, draws)):
            problem, content = found
            texts = [problem.answer, *problem.rivals] if problem.rivals else [each.answer for each in problems]
            return Item(key, problem, tuple(draws.shuffled(texts)) if is_choice else (), content)
    raise AssertionError(f"{key} owns no scene among {TRIES:,}")


def _owned(problem: Problem, key: Key, draws: Draws) -> tuple[Problem, str] | None:
    """(the problem with its things at places that the key's stage and split own, its content), or None."""
    shown = _without_cells(problem)
    for _ in range(PLACES):
        cells = elsewhere(problem.things, draws)
        content = _with_cells(shown, cells)
        if owner(content) == (key.stage, key.split):
            things = tuple(t._replace(cells=own) for t, own in zip(problem.things, cells, strict=True))
            return replace(problem, things=things), content
    return None


def _siblings(problem: Problem, domain: Domain, level: int, draws: Draws) -> list[Problem]:
    """Problems of one form, drawn together until their answers differ: 4, or fewer where so many answers are rare.

    Whichever is asked, all answers are options. The siblings are exchangeable, so that the options alone say nothing
    about which is right.
    """
    pose = FAMILIES[problem.family].pose
    for count in (4, 3, 2):
        for _ in range(12):
            drawn: dict[str, Problem] = {}
            for _ in range(count):
                sibling = pose(domain, level, draws, problem)
                if sibling.answer in drawn:
                    break
                drawn[sibling.answer] = sibling
            if len(drawn) == count:
                return list(drawn.values())
    return []


def _check(key: Key) -> None:
    known: dict[str, Iterable[object]] = {"domain": DOMAINS, "level": LEVELS, "stage": STAGES, "split": SPLITS}
    for name, values in known.items():
        if (value := getattr(key, name)) not in values:
            raise UserError(f"the world has the {name}s {', '.join(map(str, values))}, not {value!r}")


def item_of(id: str) -> Item:
    """The item of a sample's id, made again. Raises UserError for an id of another form."""
    try:
        domain, level, stage, split, seed, number = id.split("-")
        key = Key(int(seed), stage, split, domain, int(level), int(number))  # type: ignore[arg-type]
    except ValueError:
        raise UserError(f"{id!r} is no item of this world: expected DOMAIN-LEVEL-STAGE-SPLIT-SEED-NUMBER") from None
    return make_item(key)
