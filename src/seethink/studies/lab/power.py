"""Before a run: the smallest effect of each claim that a number of seeds is likely to find.

An effect is found where its interval excludes no effect. By symmetry, where `least` is no smaller than what is found, a
claim whose effect is truly nothing is as likely to be seen short of `least`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from seethink.studies.lab.looks import LOOKS, level_at, look_at
from seethink.studies.lab.moderation import NO_PRIOR, Prior
from seethink.studies.lab.results import fit_scales, judged_effects
from seethink.studies.lab.scales import Scale
from seethink.studies.lab.schema import Claim, Experiment, Term
from seethink.studies.lab.table import bar, number
from seethink.studies.lab.values import LabValues
from seethink.studies.lab.verdict import factor

POWER = 0.8
"""How likely the effect is to be found."""
MOST_SEEDS = 30
"""Above which one does not look for enough seeds."""
PROBE_SAMPLES = 2
"""Responses per item, where modes, hallucination and raised temperatures are measured."""


@dataclass(frozen=True)
class Spread:
    """Standard deviation of a claim's effect from seed to seed; of a ratio that of its logarithm."""

    value: float
    """NaN where it is not known."""
    source: str
    prior: Prior = NO_PRIOR
    """Which the later interval will be moderated by."""


UNKNOWN = Spread(math.nan, "")


def least_effect(spread: Spread, seeds: int, level: float, power: float = POWER) -> float:
    """The true effect whose interval over so many seeds excludes zero, on its own side, with the given probability.

    By the noncentral t distribution; of a ratio the logarithm. NaN below two seeds, or with an unknown spread.
    """
    from scipy.special import nctdtrinc, stdtrit

    if seeds < 2 or not math.isfinite(spread.value):
        return math.nan
    df = spread.prior.shrink(1.0, seeds - 1)[1]
    away = float(nctdtrinc(df, 1 - power, float(stdtrit(df, (1 + level) / 2))))
    return away * spread.value / math.sqrt(seeds)


def claims_least(claim: Claim, spread: Spread, seeds: int) -> float:
    """Of a claim, judged as the lab does: a primary one at its latest look; `same` needs both sides at once."""
    judged = look_at(seeds) if claim.primary else seeds
    if judged < 2:
        return math.nan
    level = level_at(judged, claim.level) if claim.primary else claim.level
    return least_effect(spread, judged, level, (1 + POWER) / 2 if claim.expect == "same" else POWER)


def seeds_needed(claim: Claim, spread: Spread) -> int | None:
    """The fewest seeds with which `least` is found; None where that takes more than there are looks, or than 30."""
    least = math.log(claim.least) if claim.ratio else claim.least
    tried = LOOKS if claim.primary else range(2, MOST_SEEDS + 1)
    return next((n for n in tried if claims_least(claim, spread, n) <= least), None)


# --- spreads


def measured_spreads(values: LabValues) -> dict[tuple[str, str], Spread]:
    """(experiment, text of the claim) -> its spread in earlier results, moderated as its interval was."""
    priors, found = fit_scales(values), {}
    for experiment, claim, effects in judged_effects(values):
        if len(effects) > 1 and all(map(math.isfinite, effects)):
            mean = sum(effects) / len(effects)
            variance = sum((x - mean) ** 2 for x in effects) / (len(effects) - 1)
            prior = priors.get(claim.scale, NO_PRIOR)
            value = math.sqrt(prior.shrink(variance, len(effects) - 1)[0])
            found[experiment.name, claim.text] = Spread(value, f"{len(effects)} seeds", prior)
    return {key: spread for key, spread in found.items() if spread.value > 0}


def item_spread(claim: Claim, scale: Scale) -> Spread:
    """What the items alone do where half of the answers are right; seeds that differ for other reasons do more."""
    each = [one for term in claim.terms for one in ([term, _subtracted(term)] if term.minus else [term])]
    terms = [_item_variance(term, scale) for term in each]
    return UNKNOWN if claim.scale != "points" or math.nan in terms else Spread(math.sqrt(sum(terms)), "items alone")


def _subtracted(term: Term) -> Term:
    """What a gain is over: the model that was there before RL, of which there is one."""
    return term.model_copy(update={"newest": 1})


def _item_variance(term: Term, scale: Scale) -> float:
    """Of a share over domains of the same weight; NaN where the number of answers is not known beforehand."""
    questions = scale.questions
    domains, named = questions.domains(term.domain), questions.difficulties
    share = len(named[term.difficulty]) / sum(map(len, named.values())) if term.difficulty else 1
    if term.eval == "accuracy":
        items = [scale.eval.inside if d in questions.domains("in") else scale.eval.outside for d in domains]
        answers = [_answers(term, scale.eval.samples) * size * share for size in items]
    elif term.decoding:
        answers = [scale.probe * share for _ in domains]
    elif term.mode or term.hallucination == "share" or term.heated in ("plain", "forks", "elsewhere"):
        answers = [float(PROBE_SAMPLES * scale.probe) for _ in domains]
    else:
        return math.nan
    return 0.25 * sum(1 / max(1, n) for n in answers) / len(domains) ** 2


def _answers(term: Term, samples: int) -> float:
    """Answers to an item whose mean is as uncertain as the value: earlier checkpoints give one each."""
    return term.newest**2 / (1 / samples + term.newest - 1)


# --- the table


def power_table(experiments: Iterable[Experiment], seeds: int, scale: Scale, values: LabValues | None) -> Table:
    measured = measured_spreads(values) if values else {}
    table = Table("experiment", "claim", title=f"What {seeds} seeds can show")
    for heading in ("counts from", "spread of a seed", f"found with {POWER:.0%}", "seeds needed"):
        table.add_column(heading, justify="right")
    enough = total = 0
    for experiment in experiments:
        for claim in experiment.claims:
            spread = measured.get((experiment.name, claim.text)) or item_spread(claim, scale)
            needed, total = seeds_needed(claim, spread), total + 1
            enough += needed is not None and needed <= seeds
            table.add_row(experiment.name, *map(Text, _cells(claim, spread, seeds, needed)))
        table.add_section()
    table.caption = (
        f"{enough} of {total} claims can be decided with {seeds} seeds. Found: the smallest true effect whose interval "
        "excludes no effect that often. Items alone: where half of the answers are right; real spreads are larger."
    )
    return table


def _cells(claim: Claim, spread: Spread, seeds: int, needed: int | None) -> tuple[str, ...]:
    back = factor if claim.ratio else float
    least = claims_least(claim, spread, seeds)
    if not spread.source:
        return claim.marked, bar(claim), "not known", "", ""
    many = f"> {LOOKS[-1] if claim.primary else MOST_SEEDS}"
    found = bar(claim.model_copy(update={"least": back(least)})) if math.isfinite(least) else "not judged"
    size = number(claim, back(spread.value)).lstrip("+")
    return claim.marked, bar(claim), f"{size} ({spread.source})", found, str(needed or many)
