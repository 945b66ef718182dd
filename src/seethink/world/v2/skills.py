"""The conversations of the second nano's last phase: single steps on which long workings hang.

Where arrows lead, read from a picture, and which of some sums makes a total. Workings teach both too rarely: one token
of a search in ten depends on whether a sum hits.
"""

from __future__ import annotations

import numpy as np

from seethink.world.talk import Turn
from seethink.world.v2 import forms
from seethink.world.v2.scene import LEVELS
from seethink.world.v2.talk import Shown, drawn_item, drills, picked, practice, read_some
from seethink.world.v2.tasks.reckon import steps

SHARES = {"arrows": 0.3, "candidates": 0.1, "searches": 0.15, "drills": 0.2, "practice": 0.25}
ARROWS, SEARCHES = ("chains", "chains_dusk"), ("search", "search_dusk")
WORKED_SHARE = 0.2
"""Questions about pictures that are answered with the working: asked about a picture, the base mostly answers at once,
and thinking is left to the stages after it."""
MOST_CANDIDATES, MOST_TERM = 8, 9


def skills(rng: np.random.Generator) -> tuple[Shown, list[Turn]]:
    """A picture of arrows, candidates of a search, a search told in a text, a drill, or what the practice has."""
    match picked(rng, SHARES):
        case "arrows":
            item = drawn_item(rng, ARROWS, LEVELS)
            return item.image, [read_some(item, rng)]
        case "candidates":
            return None, [candidates(rng)]
        case "searches":
            item = drawn_item(rng, SEARCHES, LEVELS)
            return None, [(forms.after_caption(item, item.prompt), forms.worked(item))]
        case "drills":
            return drills(rng)
        case _:
            return practice(rng, WORKED_SHARE)


def candidates(rng: np.random.Generator) -> Turn:
    """`I see 3 + 8, 6 + 9, 5 + 5. Which add to 15?`, answered by `I see 3 + 8 = 11. Wait, 6 + 9 = 15, so 15.`

    Half of the questions have numbers in place of sums.
    """
    count, size = int(rng.integers(2, MOST_CANDIDATES + 1)), int(rng.integers(2, 4))
    sums = rng.integers(1, MOST_TERM + 1, (count, size)).tolist()
    totals = [sum(values) for values in sums]
    wanted = totals[int(rng.integers(count))]
    tried = totals.index(wanted) + 1
    if rng.random() < 0.5:
        shown, said = list(map(str, totals)), list(map(str, totals[:tried]))
        asked = f"Which is {wanted}?"
    else:
        shown = [" + ".join(map(str, values)) for values in sums]
        said = [", ".join(steps(values, "+" * (size - 1))) for values in sums[:tried]]
        asked = f"Which add to {wanted}?"
    return f"I see {', '.join(shown)}. {asked}", f"I see {'. Wait, '.join(said)}, so {wanted}."
