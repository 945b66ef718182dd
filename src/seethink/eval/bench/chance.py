"""What uniformly random options score."""

from __future__ import annotations

from collections.abc import Sequence

from seethink.eval.bench.benchmark import Item


def uniform(items: Sequence[Item]) -> float:
    """The mean of 1 / options; questions without options, and sets of letters, count 0."""
    return sum(_hit(item) for item in items) / max(1, len(items))


def circular(items: Sequence[Item]) -> float:
    """Every rotation of a question must be hit."""
    hits: dict[str, float] = {}
    for item in items:
        hits[item.groups["question"]] = hits.get(item.groups["question"], 1.0) * _hit(item)
    return sum(hits.values()) / max(1, len(hits))


def wemath_strict(items: Sequence[Item]) -> float:
    """All steps must be hit; then half a point, and another half where the problem is hit too."""
    steps: dict[str, float] = {}
    multi: dict[str, float] = {}
    for item in items:
        name = item.groups["steps"]
        if item.groups["part"] == "multi":
            multi[name] = _hit(item)
        else:
            steps[name] = steps.get(name, 1.0) * _hit(item)
    return sum(steps[name] * (0.5 + 0.5 * multi[name]) for name in multi) / max(1, len(multi))


def coin(items: Sequence[Item]) -> float:
    """HallusionBench with a coin for each question: questions at 1/2, figures and questions at 1/2 for each member."""
    figures: dict[str, float] = {}
    questions: dict[str, float] = {}
    for item in items:
        for table, key in ((figures, "figure"), (questions, "question")):
            table[item.groups[key]] = table.get(item.groups[key], 1.0) / 2
    parts = [sum(table.values()) / max(1, len(table)) for table in (figures, questions)]
    return (0.5 + parts[0] + parts[1]) / 3


def mmmu_pro(items: Sequence[Item]) -> float:
    """The mean of both variants that count."""
    variants = [[item for item in items if item.groups["variant"] == name] for name in ("standard 10", "vision")]
    known = [uniform(some) for some in variants if some]
    return sum(known) / max(1, len(known))


def _hit(item: Item) -> float:
    count = len(item.choices) or item.options
    return 1 / count if count and len(item.gold) == 1 else 0.0
