"""Scores: accuracy over items, and the composites of MMBench, HallusionBench, WeMath and MMMU-Pro.

Letters: N items, K runs, U units, G groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from seethink.eval.bench.benchmark import Component, Item, Parts


def by_item(items: Sequence[Item], right_NK: np.ndarray) -> Parts:
    """Accuracy: every item counts once; broken down by category."""
    component = Component("accuracy", 1.0, right_NK, np.arange(len(items)))
    return Parts((component,), by_category(items, right_NK))


def by_category(items: Sequence[Item], right_NK: np.ndarray, prefix: str = "") -> dict[str, np.ndarray]:
    """[K] accuracy in each category, in the order in which they first appear; {} for one alone."""
    places = _places([item.category for item in items])
    if len(places) < 2:
        return {}
    return {f"{prefix}{name}": mean_over(right_NK[rows]) for name, rows in places.items()}


def circular(items: Sequence[Item], right_NK: np.ndarray) -> Parts:
    """MMBench: a question is right where it is right under every rotation of its options (its group `question`)."""
    component = all_right("circular", 1.0, items, right_NK, lambda item: item.groups["question"])
    return Parts((component,), {"plain accuracy": mean_over(right_NK), **by_category(items, right_NK)})


def hallusion(items: Sequence[Item], right_NK: np.ndarray) -> Parts:
    """HallusionBench: the mean of accuracy over questions, over figures and over questions asked of all figures.

    fAcc: every question about a figure is right; qAcc: a question is right about every figure. Keys hold the
    category, without which figures of different categories would be taken for one. Clusters are sets of figures.
    """
    sets = _numbers([item.groups["set"] for item in items])
    components = (
        Component("aAcc", 1 / 3, right_NK, sets),
        all_right("fAcc", 1 / 3, items, right_NK, lambda item: item.groups["figure"], sets),
        all_right("qAcc", 1 / 3, items, right_NK, lambda item: item.groups["question"], sets),
    )
    figures = {component.name: mean_over(component.values) for component in components}
    return Parts(components, figures)


def wemath(items: Sequence[Item], right_NK: np.ndarray) -> Parts:
    """WeMath: groups of two or three steps and the problem that needs them all (`multi`).

    Strict: complete mastery where all steps and the problem are right; inadequate generalisation (worth half) where
    only the problem is wrong; insufficient knowledge where a step and the problem are wrong; rote memorisation where
    the problem is right without a step. Loose: rote memorisation only where no step is right. Of the published
    formula, 1 - (0.5 IG + IK + RM) / 525, this is what is left of whole groups; on a part of the 525 the published
    formula credits absent groups.
    """
    groups = _places([item.groups["steps"] for item in items])
    table: dict[str, list[np.ndarray]] = {"steps all": [], "steps any": [], "multi": []}
    for name, rows in groups.items():
        multi = [row for row in rows if items[row].groups["part"] == "multi"]
        steps = [row for row in rows if items[row].groups["part"] != "multi"]
        if len(multi) != 1 or len(steps) not in (2, 3):
            raise ValueError(f"group {name} has {len(steps)} steps and {len(multi)} problems; it needs all of them")
        table["multi"].append(right_NK[multi[0]])
        table["steps all"].append(_all(right_NK[steps]))
        table["steps any"].append(1 - _all(1 - right_NK[steps]))
    every, some, multi_GK = (np.array(table[key]) for key in ("steps all", "steps any", "multi"))
    classes = {
        "CM": every * multi_GK, "IG": every * (1 - multi_GK), "IK": (1 - every) * (1 - multi_GK),
        "RM": (1 - every) * multi_GK,
    }  # fmt: skip
    strict = classes["CM"] + 0.5 * classes["IG"]
    loose_mastery = some * multi_GK
    clusters = np.arange(len(groups))
    loose = Component("loose", 0.0, loose_mastery + 0.5 * classes["IG"], clusters)
    figures = {f"{name} strict": mean_over(values) for name, values in classes.items()}
    figures |= {"CM loose": mean_over(loose_mastery), "RM loose": mean_over((1 - some) * multi_GK)}
    figures |= {"loose": mean_over(loose.values), "RM rate strict": _rate(classes["RM"], classes["CM"])}
    sizes = ("S1", "S2", "S3")
    kinds = _places([item.category for item in items])
    figures |= {name: mean_over(right_NK[kinds[name]]) for name in sizes if name in kinds}
    return Parts((Component("strict", 1.0, strict, clusters), loose), figures)


def mmmu_pro(items: Sequence[Item], right_NK: np.ndarray) -> Parts:
    """MMMU-Pro: the mean of the ten-option questions and of the same questions shown as a picture (`vision`).

    The four-option questions are reported and count nothing. One question's variants are one cluster.
    """
    clusters = _numbers([item.groups["question"] for item in items])
    places = _places([item.groups["variant"] for item in items])
    weights = {"standard 10": 0.5, "vision": 0.5, "standard 4": 0.0}
    components = tuple(Component(name, weights[name], right_NK[rows], clusters[rows]) for name, rows in places.items())
    return Parts(components, {c.name: mean_over(c.values) for c in components})


def all_right(
    name: str,
    weight: float,
    items: Sequence[Item],
    right_NK: np.ndarray,
    key: Callable[[Item], str],
    clusters: np.ndarray | None = None,
) -> Component:
    """A unit for each key: right where all its items are. Units belong to the `clusters` [N] of their first item."""
    groups = _places([key(item) for item in items])
    values = np.array([_all(right_NK[rows]) for rows in groups.values()])
    first = [rows[0] for rows in groups.values()]
    return Component(name, weight, values, np.arange(len(groups)) if clusters is None else clusters[first])


def mean_over(values: np.ndarray) -> np.ndarray:
    """[K] mean over the first axis without the NaN values; NaN where there is no other."""
    known = np.isfinite(values)
    counts = known.sum(0)
    sums = np.where(known, values, 0.0).sum(0)
    return np.asarray(np.divide(sums, counts, out=np.full(values.shape[1:], np.nan), where=counts > 0))


def _all(right: np.ndarray) -> np.ndarray:
    """[K] 1 where all are right, 0 where one is known to be wrong, else NaN."""
    product: np.ndarray = np.where((right == 0).any(0), 0.0, right.min(0))
    return product


def _rate(part: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[K] part / (part + other); NaN where both are 0."""
    a, b = mean_over(part), mean_over(other)
    return np.asarray(np.divide(a, a + b, out=np.full(a.shape, np.nan), where=(a + b) > 0))


def _places(keys: Sequence[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for place, key in enumerate(keys):
        found.setdefault(key, []).append(place)
    return found


def _numbers(keys: Sequence[str]) -> np.ndarray:
    """[N] a number for each different key."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(key, len(known)) for key in keys], dtype=int)
