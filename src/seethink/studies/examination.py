"""`seethink world examine`: what a model's thinking on the second world is worth.

Accuracy by domain and level, why wrong responses are wrong, and how often "Wait" follows a wrong and a right first
attempt.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from seethink.config import EvalConfig
from seethink.core.console import console
from seethink.core.errors import UserError
from seethink.core.files import claim_file, finite_values, json_with, write_json
from seethink.core.statistics import Interval, bootstrap_mean, clustered
from seethink.core.types import Completion
from seethink.data.prompts import PromptList
from seethink.eval.runner import evaluate_modes
from seethink.eval.tasks.source import load_source_task
from seethink.generate.make import make_generator
from seethink.models.load import load_model
from seethink.rewards.rewarder import command_rewarder
from seethink.world.v2.items import Item, item_of
from seethink.world.v2.mistakes import KINDS, mistake
from seethink.world.v2.said import Attempt, first_attempts
from seethink.world.v2.source import ASKED_AS, PREFIX, parse

Graded = tuple[Item, str, bool]
"""(item, response, whether it is right)."""


@dataclass(frozen=True, slots=True)
class Examination:
    """Of the responses to the items of one domain, or of all (`all`); intervals are 95% bootstraps over items."""

    domain: str
    responses: int
    accuracy: Interval
    by_level: dict[str, Interval]
    mistakes: dict[str, float]
    """The share of all responses that are wrong for each of KINDS."""
    wait_after_wrong: Interval
    """P(Wait | the first attempt is wrong); `n` counts items with such an attempt."""
    wait_after_right: Interval


def examine(
    model: str, data: str, *, size: int, samples: int, max_new_tokens: int, seed: int, out: Path | None
) -> list[Examination]:
    """Ask the model `size` items per domain, print tables, and write `out` as JSON.

    Without `samples`, one greedy response per item. Raises UserError for other data than the second world's.
    """
    if not data.startswith(PREFIX) or ASKED_AS.get(parse(data).form):
        raise UserError(f"--data {data!r} are not questions about the second world: give {PREFIX}DOMAINS[?OPTIONS]")
    if out is not None:
        claim_file(out, json_with("examinations", "data"), "a result of `seethink world examine`")
    config = EvalConfig(data=data, size=size, samples=samples, greedy=not samples, max_new_tokens=max_new_tokens)
    loaded = load_model(model)
    task = load_source_task(config, seed, chat=loaded.chat)
    prompts = PromptList(task.samples, loaded.chat)
    with command_rewarder(None) as rewarder:
        (score,) = evaluate_modes(task, make_generator(loaded), prompts, rewarder, config, seed=seed, label=model)
    found = examined([(item_of(s.id), group) for s, group in zip(task.samples, score.responses, strict=True)])
    console.print(accuracy_table(found), mistake_table(found))
    if out is not None:
        about = {"model": loaded.source, "data": data, "mode": score.total.mode, "seed": seed}
        write_json(out, finite_values(about | {"examinations": [asdict(one) for one in found]}))
    return found


def examined(responses: Iterable[tuple[Item, Sequence[Completion]]]) -> list[Examination]:
    """One examination of each domain, in the order of the items, and one of all; responses without a grade are left
    out."""
    graded = [
        (item, completion.text, completion.grade.accuracy == 1)
        for item, group in responses
        for completion in group
        if completion.grade is not None and completion.grade.accuracy >= 0
    ]
    domains: dict[str, list[Graded]] = defaultdict(list)
    for one in graded:
        domains[one[0].key.domain].append(one)
    return [_examination(name, own) for name, own in domains.items()] + [_examination("all", graded)]


def _examination(domain: str, graded: Sequence[Graded]) -> Examination:
    levels = sorted({item.key.level for item, *_ in graded})
    kinds = Counter(mistake(item, text) for item, text, right in graded if not right)
    attempts = [(item.key.id, one) for item, text, _ in graded for one in first_attempts(item.problem, text)]
    return Examination(
        domain,
        len(graded),
        _accuracy(graded),
        {str(level): _accuracy([one for one in graded if one[0].key.level == level]) for level in levels},
        {kind: kinds[kind] / max(1, len(graded)) for kind in KINDS},
        _waits(attempts, lambda one: not one.right),
        _waits(attempts, lambda one: one.right),
    )


def _accuracy(graded: Sequence[Graded]) -> Interval:
    return _over_items([float(right) for *_, right in graded], [item.key.id for item, *_ in graded])


def _waits(attempts: Sequence[tuple[str, Attempt]], wanted: Callable[[Attempt], bool]) -> Interval:
    own = [(id, one.waited) for id, one in attempts if wanted(one)]
    return _over_items([float(waited) for _, waited in own], [id for id, _ in own])


def _over_items(values: Sequence[float], items: Sequence[Hashable]) -> Interval:
    return bootstrap_mean(list(clustered(values, items).values()))


def accuracy_table(found: Sequence[Examination]) -> Table:
    """Accuracy by level, and P(Wait)."""
    levels = list(dict.fromkeys(level for one in found for level in one.by_level))
    table = Table("domain", title="Accuracy by level, and how often Wait follows a first attempt, %")
    for heading in ("responses", "accuracy", *levels, "Wait | wrong", "Wait | right"):
        table.add_column(heading, justify="right")
    for one in found:
        by_level = [f"{100 * one.by_level[level].value:.0f}" if level in one.by_level else "" for level in levels]
        waits = (_shown(one.wait_after_wrong), _shown(one.wait_after_right))
        table.add_row(one.domain, f"{one.responses:,}", _shown(one.accuracy), *by_level, *waits)
    return table


def _shown(interval: Interval) -> str:
    if not interval.n:
        return ""
    return f"{100 * interval.value:.1f} [{100 * interval.low:.0f}, {100 * interval.high:.0f}]"


def mistake_table(found: Sequence[Examination]) -> Table:
    """The share of responses that are wrong for each reason."""
    table = Table("domain", title="Wrong responses by reason, % of all responses")
    for kind in KINDS:
        table.add_column(kind, justify="right")
    for one in found:
        table.add_row(one.domain, *(f"{100 * one.mistakes[kind]:.1f}" for kind in KINDS))
    return table
