"""The second world as data: `world2:DOMAINS[:FORM][?OPTIONS]` sources.

- DOMAINS: names or groups, separated by commas; the groups are core, cold, rl, tuning, held, captions, other and all.
- FORM: none for questions alone (RL, evaluation), or one of FORMS.
- OPTIONS: `stage=base|coldstart|rl|tuning|eval` (default eval), `levels=1-4`, `leaps=0.6` (the share of traces that
  leap from the readings to the answer), and the damage and the denials of the first world (`image=blank&share=0.1`,
  `denials=0.2`). Where denials are asked for, a trace about a damaged picture denies as well.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np

from seethink.core.errors import UserError
from seethink.core.types import Sample
from seethink.world.damage import Damage, parse_damage, read_share
from seethink.world.digits import SPLITS, Split
from seethink.world.v2 import forms
from seethink.world.v2.domains import DOMAINS, GROUPS, refusal
from seethink.world.v2.draws import Draws
from seethink.world.v2.items import STAGES, Item, Key, make_item
from seethink.world.v2.scene import LEVELS

PREFIX = "world2:"
NO_DAMAGE = Damage()
FORMS = {
    "traces": "the question, with the teacher's trace",
    "answers": "the question, with a direct answer",
    "captions": "what the picture shows, in words",
    "probes": "a question that reads one value, with its answer",
    "text": "the question after a caption, without the picture, with a direct answer",
    "worked": "as text, with the teacher's working",
}

OPTIONS = "stage, levels, leaps"
ASKED_AS = {"captions": ":captions", "probes": ":probes", "text": ":text", "worked": ":text"}
"""How evaluation asks the items of a form; the others are asked as questions about pictures."""


@dataclass(frozen=True, slots=True)
class Source:
    """A source that has been read. Example: `parse("world2:rl:traces?stage=coldstart&levels=1-4")`"""

    domains: tuple[str, ...]
    form: str = ""
    stage: str = "eval"
    levels: tuple[int, ...] = LEVELS
    leaps: float = 0.0
    """The share of traces that leap from the readings to the answer, as an able teacher's do."""
    damage: Damage = NO_DAMAGE


def parse(source: str) -> Source:
    """Raises UserError that says what may stand where."""
    head, _, options = source.removeprefix(PREFIX).partition("?")
    names, _, form = head.partition(":")
    domains = tuple(dict.fromkeys(each for name in names.split(",") for each in GROUPS.get(name, (name,))))
    for name in domains:
        if name not in DOMAINS:
            known = ", ".join((*DOMAINS, *GROUPS))
            raise UserError(f"{source!r}: no domain {name!r}; choose from {known}")
    if form and form not in FORMS:
        raise UserError(
            f"{source!r}: no form {form!r} after the domains; choose from {', '.join(FORMS)}, or leave it out"
        )
    own = dict(option.partition("=")[::2] for option in options.split("&") if option)
    stage, levels = own.pop("stage", "eval"), _levels(source, own.pop("levels", ""))
    if stage not in STAGES:
        raise UserError(f"{source!r}: no stage {stage!r}; choose from {', '.join(STAGES)}")
    if why := refusal(stage, form, domains):
        raise UserError(f"{source!r}: the domain {why}")
    for name in ("leaps", "denials"):
        if name in own and form != "traces":
            raise UserError(f"{source!r}: {name} are a share of the traces: world2:cold:traces?{name}=0.6")
    try:
        leaps = read_share("leaps", own.pop("leaps", "0"))
        damage = parse_damage("&".join(f"{name}={value}" for name, value in own.items()))
    except ValueError as error:
        raise UserError(f"{source!r}: {error} (there are {OPTIONS}, too)") from None
    return Source(domains, form, stage, levels, leaps, damage)


def _levels(source: str, text: str) -> tuple[int, ...]:
    """`3` or `2-5`; "" for all."""
    if not text:
        return LEVELS
    low, _, high = text.partition("-")
    ends = [int(end) for end in (low, high or low) if end.isdigit()]
    if len(ends) != 2 or not LEVELS[0] <= ends[0] <= ends[1] <= LEVELS[-1]:
        raise UserError(f"{source!r}: levels={text!r}: expected a level from 1 to 8 or a range such as 2-5")
    return tuple(range(ends[0], ends[1] + 1))


def one_domain(source: str, domain: str) -> str:
    """The source of a single domain as evaluation reads it: with its options, and with a form that asks otherwise.

    The options of traces are left out.

    >>> one_domain("world2:all:traces?levels=1-4", "dice"), one_domain("world2:all:probes", "dice")
    ('world2:dice?levels=1-4', 'world2:dice:probes')
    """
    head, _, rest = source.partition("?")
    options = without_traces(rest)
    form = ASKED_AS.get(head.removeprefix(PREFIX).partition(":")[2], "")
    return f"{PREFIX}{domain}{form}{'?' * bool(options)}{options}"


def without_traces(options: str) -> str:
    """The options of a source less those that are about its traces.

    >>> without_traces("levels=1-4&leaps=0.5")
    'levels=1-4'
    """
    return "&".join(option for option in options.split("&") if not option.startswith(("leaps=", "denials=")))


def samples(source: str, split: str, size: int, seed: int) -> list[Sample]:
    """`size` samples with domains and levels in turn, every second one of each multiple choice. Raises UserError.

    Item i of a domain and level depends on (seed, stage, split, domain, level, i) alone.
    """
    own = parse(source)
    known = next((each for each in SPLITS if each == split), None)
    if known is None:
        raise UserError(f"the world has the splits {', '.join(SPLITS)}, not {split!r}")
    return [_sample(own, known, i, seed) for i in range(size)]


def _sample(source: Source, split: Split, number: int, seed: int) -> Sample:
    turn, at = divmod(number, len(source.domains))
    index, level = divmod(turn, len(source.levels))
    key = Key(seed, source.stage, split, source.domains[at], source.levels[level], index)
    leaps = source.leaps > 0 and Draws("leap", *key).chance(source.leaps)
    item = make_item(key)
    sample = to_sample(item, "leaps" if leaps else source.form)
    if source.damage == NO_DAMAGE or not sample.images:
        return sample
    place = [seed, STAGES.index(source.stage), SPLITS.index(split), list(DOMAINS).index(key.domain), key.level, index]
    denies = source.damage.denials > 0
    # A trace names one answer, where several may be right.
    damaged = source.damage.apply(replace(sample, answer=item.answer), denies, np.random.default_rng(place))
    if damaged.response != sample.response:
        damaged = replace(damaged, meta=damaged.meta | {"turns": []})
    return replace(damaged, answer=sample.answer)


def to_sample(item: Item, form: str = "") -> Sample:
    """An item in one of its forms, or in `leaps`, a trace without a step.

    Its id names the item, from which `items.item_of` makes it again.
    """
    sample = Sample(
        id=item.key.id,
        question=item.problem.question,
        images=(item.image,) if form not in ("text", "worked") else (),
        answer=json.dumps(item.answers) if len(item.answers) > 1 else item.answer,
        choices=item.choices,
        domain=item.key.domain,
        difficulty=str(item.key.level),
        meta={"task": f"{item.problem.family}/{item.problem.task}", "content": item.content},
    )
    if form == "traces":
        causes = [{"cause": turn.cause, "after": turn.after} for turn in item.thought.turns]
        return replace(sample, response=item.trace, meta=sample.meta | {"turns": causes})
    if form == "leaps":
        return replace(sample, response=forms.leap(item), meta=sample.meta | {"turns": []})
    if form == "answers":
        return replace(sample, response=forms.direct(item.answer))
    if form == "captions":
        text = forms.caption(item.problem.things)
        return replace(sample, question=forms.DESCRIBE, answer=text, choices=(), response=text)
    if form == "probes":
        probes = forms.probes(item)
        probe = probes[item.key.number % len(probes)]
        meta = sample.meta | {"name": probe.name, "place": probe.place}
        answer = forms.direct(probe.answer)
        return replace(sample, question=probe.question, answer=probe.answer, choices=(), response=answer, meta=meta)
    if form in ("text", "worked"):
        response = forms.direct(item.answer) if form == "text" else forms.worked(item)
        return replace(sample, question=forms.text_question(item), response=response)
    return sample
