"""What a picture shows, what is asked of it, and what a teacher thinks: the data of every task family.

A scene records everything that is visible but handwriting, jitter and noise. The gold answer, the caption, the
text-only form and the perfect reader all start from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from seethink.world.v2.draws import Draws

COLUMNS = 4
"""Cells per row and per column of a picture."""
NUM_CELLS = COLUMNS**2
LEVELS = tuple(range(1, 9))
"""Difficulties. Traces grow with them."""


class Thing(NamedTuple):
    """One thing that a picture shows.

    Example: `Thing("red", 4, (5,), "digits")` is a red 4 in the second cell of the second row.
    """

    name: str
    """A colour, or what an emoji shows."""
    value: int
    """The number that is shown, which is not the true one where a scratch has changed it."""
    cells: tuple[int, ...]
    """Where it stands, in reading order: one cell, or one for each of the things that are counted."""
    show: str
    """How the number is shown: a name of `shows.SHOWS`."""
    arrow: str = ""
    """`up`, `down`, `left` or `right`: the neighbour that an arrow points to."""
    scratched: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """A question about a scene. `think` of its family makes the teacher's thought from it."""

    things: tuple[Thing, ...]
    """In reading order."""
    family: str
    task: str
    question: str
    answer: str
    """The right answer as text: a number, a colour, or colours joined by "and"."""
    used: tuple[str, ...]
    """The names that the answer needs, in the order in which the teacher reads them."""
    signs: str = ""
    """`+` or `-` between the values that are used; of `search` one `+` fewer than cards; else empty."""
    number: int = 0
    """The number that the question states: a total, a bound, or how many arrows to follow."""
    rivals: tuple[str, ...] = ()
    """Wrong answers to choose options from, as likely as the right one without the picture. Where there are none,
    options are the answers of other scenes."""
    also: tuple[str, ...] = ()
    """Other right answers. In every answer, names joined by "and" may come in any order."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Why the teacher wrote one "Wait".

    Example: `Turn("the sum misses", "4 + 9 = 13")`
    """

    cause: str
    """`the sum misses` (arithmetic) or `the looks differ` (picture)."""
    after: str
    """The statement that it doubts, as written."""


@dataclass(frozen=True, slots=True)
class Thought:
    """A teacher's thought up to the answer, with the cause of each "Wait", in order."""

    text: str
    turns: tuple[Turn, ...] = ()


@dataclass(frozen=True, slots=True)
class Domain:
    """How values look and what is asked of them."""

    name: str
    families: tuple[str, ...]
    shows: tuple[str, ...]
    """The ways in which a scene's values are shown; a scene of several has one at random for each value."""
    low: int = 1
    high: int = 9
    noun: str = "the {} card"
    """Names one value; `{}` is its colour."""
    plural: str = "cards"
    palette: str = "day"
    most: int = 8
    """Most values of one scene."""
    tasks: tuple[str, ...] = ()
    """The tasks of its families that are asked; () for all."""


Pose = Callable[["Domain", int, "Draws", "Problem | None"], Problem]
"""(domain, level, draws, a problem whose form to repeat or None) -> a problem."""


@dataclass(frozen=True, slots=True)
class Family:
    """A family of tasks.

    Example: `FAMILIES["search"].pose(DOMAINS["search"], 3, Draws(0), None).question`
    """

    tasks: tuple[str, ...]
    pose: Pose
    think: Callable[[Problem], Thought]
    """The thought has every step, and ends before the answer."""
