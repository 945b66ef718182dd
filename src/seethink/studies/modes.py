"""One checkpoint in several inference modes: slow thinking, NoThink, NoWait, thinking budgets (paper 6.2, 6.3).

All modes answer the same items with the same random numbers, so that differences are paired. Letter: N items.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from seethink.config import EvalConfig, LogConfig, RewardConfig, make_reading, split_names
from seethink.core.errors import UserError
from seethink.core.files import write_json
from seethink.core.statistics import mean_se, paired_bootstrap
from seethink.core.types import Completion, Verdict
from seethink.data.chat import Chat
from seethink.data.prompts import PromptList
from seethink.entropy.critical import spellings, word_spans
from seethink.eval.runner import draw_graded, grade_responses
from seethink.eval.score import item_accuracy
from seethink.eval.task import Task
from seethink.eval.tasks.source import load_source_task
from seethink.generate.make import make_generator
from seethink.generate.protocol import Forbid, Generator, Rule, Sampling, ThinkingBudget
from seethink.models.load import LoadedModel, load_model
from seethink.rewards.format import CLOSE, OPEN
from seethink.rewards.rewarder import Rewarder
from seethink.studies.measurement_cache import Measured, measured_with

MODES = ("slow", "nothink", "nowait")

Values = dict[str, list[float | None]]
"""[N] of each measure; a measure is the mean over the item's completions, None where none could be graded."""


@dataclass(frozen=True, slots=True)
class ModesConfig:
    """What is compared. Everything here, with model and items, is what a measured row depends on."""

    modes: tuple[str, ...] = MODES
    budgets: tuple[int, ...] = ()
    """Thinking tokens; each budget is tried with the block closed by force, and cut off as it is."""
    samples: int = 4
    """Completions per item."""
    max_new_tokens: int = 160
    answer_tokens: int = 32
    """Room for the answer after a block that was closed at its budget."""
    words: tuple[str, ...] = ()
    """What NoWait forbids."""
    opening: str = ""
    """What a NoThink response begins with, after a template without `<think>`: see docs/modes.md."""
    temperature: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Variant:
    """One mode. `forced` is of budgets: whether `</think>` is written at the budget or the response ends there."""

    mode: str
    budget: int | None = None
    forced: bool = False

    @property
    def label(self) -> str:
        return self.mode if self.budget is None else f"{self.budget} {'closed' if self.forced else 'cut'}"


@dataclass(frozen=True, slots=True)
class ModeRow:
    """One line of modes.json: a mode on a domain ("all": on all items)."""

    mode: str
    budget: int | None
    forced: bool
    domain: str
    accuracy: float
    se: float
    n: int
    """Items; each counts once, however many its completions."""
    tokens_mean: float
    tokens_se: float
    truncated_share: float
    no_answer_share: float
    critical_mean: float
    """Critical words a response; 0 where NoWait does what it says."""
    effect: float | None
    """Accuracy less that of slow thinking on the same items, between the ends of its bootstrap interval."""
    low: float | None
    high: float | None


def compare_modes(
    loaded: LoadedModel, rewarder: Rewarder, task: Task, config: ModesConfig, measured: Measured
) -> list[ModeRow]:
    """Every mode on the same items. What `measured` has is not sampled again. Raises UserError."""
    _check(config)
    prompts, generator = PromptList(task.samples, loaded.chat), make_generator(loaded)
    about = measured_with(loaded, task.samples)
    values: dict[Variant, Values] = {}
    for sampled, derived in _draws(config):
        keys = {variant: _key(about, config, variant) for variant in derived}
        known = {variant: found for variant in derived if (found := measured.get(keys[variant])) is not None}
        if len(known) < len(derived):
            groups = _draw(loaded, task, generator, prompts, rewarder, config, sampled)
        for variant in derived:
            if variant not in known:
                known[variant] = _values(_cut(loaded, rewarder, task, groups, variant), config.words)
                measured.put(keys[variant], known[variant])
            values[variant] = known[variant]
    return [row for variant in values for row in _rows(variant, values, [s.domain for s in task.samples], config.seed)]


def _check(config: ModesConfig) -> None:
    strange = [mode for mode in config.modes if mode not in MODES]
    if strange:
        raise UserError(f"no mode {strange[0]!r}; choose of {', '.join(MODES)}")
    if not config.modes and not config.budgets:
        raise UserError("nothing to compare: name modes or budgets")
    too_long = [budget for budget in config.budgets if not 0 < budget < config.max_new_tokens]
    if too_long:
        raise UserError(
            f"a budget of {too_long[0]} is not between 0 and the longest response, {config.max_new_tokens} tokens: "
            "lower the budget or raise --max-new-tokens"
        )


def _draws(config: ModesConfig) -> list[tuple[Variant, list[Variant]]]:
    """(what is sampled, what is measured on it). A response cut at a budget is the beginning of the slow one."""
    slow, cut = Variant("slow"), [Variant("budget", budget) for budget in config.budgets]
    draws = [(slow, [*([slow] if "slow" in config.modes else []), *cut])]
    draws += [(v, [v]) for v in (Variant(mode) for mode in config.modes if mode != "slow")]
    return draws + [(v, [v]) for v in (Variant("budget", budget, forced=True) for budget in config.budgets)]


def _key(about: dict[str, Any], config: ModesConfig, variant: Variant) -> dict[str, Any]:
    """What a row depends on; the other rows that are asked for are no part of it."""
    unused = {"modes", "budgets"}
    unused |= set() if variant.mode == "nothink" else {"opening"}
    unused |= set() if variant.forced else {"answer_tokens"}
    settings = {key: value for key, value in asdict(config).items() if key not in unused}
    return {"measure": "modes", **about, "settings": settings, "variant": asdict(variant)}


def _draw(
    loaded: LoadedModel,
    task: Task,
    generator: Generator,
    prompts: PromptList,
    rewarder: Rewarder,
    config: ModesConfig,
    variant: Variant,
) -> list[list[Completion]]:
    """[N][G] graded completions of a mode that is sampled by itself."""
    rules, room = mode_rules(loaded, config, variant)
    opening = config.opening if variant.mode == "nothink" else ""
    if variant.mode == "nothink":
        prompts = PromptList(prompts.samples, loaded.chat.edited(lambda text: without_think(text) + opening))
    sampling = Sampling(room, config.temperature, rules=rules)
    return draw_graded(
        task, generator, prompts, rewarder, config.samples, sampling, config.seed, label=variant.label, opening=opening
    )


def mode_rules(loaded: LoadedModel, config: ModesConfig, variant: Variant) -> tuple[tuple[Rule, ...], int]:
    """(rules of a mode, its longest response)."""
    chat = loaded.chat
    if variant.mode == "nothink":
        return (Forbid((*spellings(chat, [OPEN]), _ids(chat, OPEN))),), config.max_new_tokens
    if variant.mode == "nowait":
        return (Forbid(tuple(spellings(chat, config.words))),), config.max_new_tokens
    if variant.budget is not None:
        close = _ids(chat, CLOSE)
        rule = ThinkingBudget(variant.budget, CLOSE, close)
        return (rule,), variant.budget + len(close) + config.answer_tokens
    return (), config.max_new_tokens


def without_think(text: str) -> str:
    """A template's text without the `<think>` that it opens the assistant's turn with; most open none."""
    before, opened, after = text.rpartition(OPEN)
    return before if opened and not after.strip() else text


def _ids(chat: Chat, text: str) -> tuple[int, ...]:
    return tuple(chat.tokenizer(text, add_special_tokens=False)["input_ids"])


def _cut(
    loaded: LoadedModel,
    rewarder: Rewarder,
    task: Task,
    groups: list[list[Completion]],
    variant: Variant,
) -> list[list[Completion]]:
    """The responses as they are, or their first `budget` tokens, graded anew."""
    if variant.budget is None or variant.forced:
        return groups
    budget = variant.budget

    def first(c: Completion) -> Completion:
        kept = c.token_ids[:budget]
        return replace(c, token_ids=kept, text=loaded.chat.decode(kept), truncated=True)

    cut = [[first(c) if len(c.token_ids) > budget else replace(c) for c in group] for group in groups]
    grade_responses(task, cut, rewarder)
    return cut


def _values(groups: list[list[Completion]], words: tuple[str, ...]) -> Values:
    """What is kept of a mode's completions."""

    def means(measure: Callable[[Completion], float]) -> list[float | None]:
        return [float(np.mean([measure(c) for c in group])) for group in groups]

    return {
        "accuracy": [item_accuracy(group) for group in groups],
        "tokens": means(lambda c: len(c.token_ids)),
        "truncated": means(lambda c: c.truncated),
        "no_answer": means(lambda c: c.grade is not None and c.grade.verdict is Verdict.NO_ANSWER),
        "critical": means(lambda c: len(list(word_spans(c.text, words)))),
    }


def _rows(variant: Variant, values: dict[Variant, Values], domains: list[str], seed: int) -> list[ModeRow]:
    """One row over all items, then one a domain."""
    return [_row(variant, values, domains, domain, seed) for domain in ("all", *dict.fromkeys(domains))]


def _row(variant: Variant, values: dict[Variant, Values], domains: list[str], domain: str, seed: int) -> ModeRow:
    places = [i for i, own in enumerate(domains) if domain in ("all", own)]

    def of(measure: str, which: Variant = variant) -> np.ndarray:
        return np.array([values[which][measure][i] for i in places], dtype=float)

    accuracy, slow = of("accuracy"), Variant("slow")
    graded = accuracy[np.isfinite(accuracy)]
    effect: tuple[float | None, float | None, float | None] = (None, None, None)
    if slow in values and variant != slow:
        theirs = of("accuracy", slow)
        both = np.isfinite(accuracy) & np.isfinite(theirs)
        found = paired_bootstrap(accuracy[both], theirs[both], seed=seed)
        effect = (found.value, found.low, found.high)
    tokens_mean, tokens_se = mean_se(of("tokens"))
    shares = (float(of(measure).mean()) for measure in ("truncated", "no_answer", "critical"))
    return ModeRow(
        variant.mode, variant.budget, variant.forced, domain, *mean_se(graded), len(graded), tokens_mean, tokens_se,
        *shares, *effect,
    )  # fmt: skip


def write_modes(path: Path, loaded: LoadedModel, data: str, config: ModesConfig, rows: Sequence[ModeRow]) -> None:
    """modes.json: what was compared, and the rows. NaN becomes null."""
    table = {"model": loaded.source, "data": data, **asdict(config), "rows": [_plain(asdict(row)) for row in rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, table)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def modes_table(rows: Sequence[ModeRow]) -> Table:
    """Accuracy of every mode, over all items and by domain, for the terminal."""
    domains = list(dict.fromkeys(row.domain for row in rows))
    table = Table("mode", title="Accuracy ± standard error, and difference to slow thinking, in %")
    for heading in (*domains, "against slow", "tokens", "truncated", "no answer", "critical words"):
        table.add_column(escape(heading), justify="right")
    by_variant: dict[Variant, list[ModeRow]] = {}
    for row in rows:
        by_variant.setdefault(Variant(row.mode, row.budget, row.forced), []).append(row)
    for variant, own in by_variant.items():
        whole = own[0]
        scores = [f"{100 * row.accuracy:.1f} ± {100 * row.se:.1f}" for row in own]
        shares = (f"{100 * whole.truncated_share:.1f}%", f"{100 * whole.no_answer_share:.1f}%")
        tokens = f"{whole.tokens_mean:.1f} ± {whole.tokens_se:.1f}"
        table.add_row(variant.label, *scores, _effect(whole), tokens, *shares, f"{whole.critical_mean:.2f}")
    return table


def _effect(row: ModeRow) -> str:
    if row.effect is None or row.low is None or row.high is None:
        return ""
    return f"{100 * row.effect:+.1f} ({100 * row.low:+.1f} to {100 * row.high:+.1f})"


def make_config(modes: str, budgets: str, words: str, **settings: Any) -> ModesConfig:
    """From the comma-separated lists of the command line. Raises UserError."""
    try:
        numbers = tuple(sorted({int(budget) for budget in split_names(budgets)}))
    except ValueError:
        raise UserError(f"--budgets {budgets!r}: expected numbers of tokens, e.g. 8,16,32") from None
    critical = split_names(words) or LogConfig().critical_words
    names = tuple(dict.fromkeys(split_names(modes)))
    return ModesConfig(names, numbers, words=critical, **settings)


def compare_file(model: str, data: str, size: int, reading: list[str], config: ModesConfig, out: Path) -> list[ModeRow]:
    """`seethink modes`: `size` items a domain of a data file or of the world; writes `out`. Raises UserError."""
    _check(config)
    read = make_reading(reading)
    loaded = load_model(model)
    with Rewarder(RewardConfig()) as rewarder:
        task = load_source_task(EvalConfig(data=data, size=size), config.seed, chat=loaded.chat, reading=read)
        rows = compare_modes(loaded, rewarder, task, config, Measured(out.with_suffix(".parts")))
    write_modes(out, loaded, data, config, rows)
    return rows
