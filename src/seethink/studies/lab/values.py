"""values.json: what the lab measured, per claim and seed. Every verdict follows from this file alone.

`seethink lab report` writes it beside the report, small enough to be committed, and `seethink lab verdicts` judges it
again. It holds the experiments as they were stated, so that a later change of their files changes no verdict.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from seethink.config import Section, explain
from seethink.core.files import finite_values, read_file, write_text
from seethink.runs.reading import parse_object
from seethink.studies.lab.reading import Reading, Unreadable
from seethink.studies.lab.schema import Claim, Experiment, LabError, load_experiments

VALUES = "values.json"
MOST_ITEMS = 1_000_000
"""Per seed, of a file that may come from anywhere: a bootstrap holds all of them in memory."""


class SeedValues(Section):
    """What one seed says about a claim."""

    seed: int = Field(ge=0, description="The seed.")
    left: float = Field(description="The value that the claim is about.")
    right: float | None = Field(None, description="The value that it is compared with.")
    items: tuple[tuple[float, Annotated[int, Field(gt=0)]], ...] = Field(
        (),
        description="Where both are means over items: [difference, on how many items], from the least; their mean is "
        "the effect. Domains are weighted in them, so that every one counts the same.",
    )

    left_newest: tuple[float, ...] | None = Field(
        None, description="Where `left` is a mean over checkpoints: the value of each, the oldest first."
    )
    right_newest: tuple[float, ...] | None = Field(None, description="The same of `right`.")

    @model_validator(mode="after")
    def _believable(self) -> Self:
        if (items := sum(count for _, count in self.items)) > MOST_ITEMS:
            raise ValueError(f"seed {self.seed} has {items:,} items; {MOST_ITEMS:,} at most are believed")
        return self

    @classmethod
    def of(cls, claim: Claim, seed: int, left: Reading, right: Reading | None) -> Self:
        """Raises Unreadable where there is nothing to compare."""
        both = left if right is None else left.less(right)
        if both.items is not None and not both.items:
            raise Unreadable("the arms have no item in common")
        counts = Counter(both.items.values()) if both.items and not claim.ratio else {}
        return cls(
            seed=seed,
            left=left.value,
            right=None if right is None else right.value,
            items=tuple((value, counts[value]) for value in sorted(counts)),
            left_newest=left.newest,
            right_newest=None if right is None else right.newest,
        )


class ClaimValues(Section):
    seeds: tuple[SeedValues, ...] = Field((), description="Those for which everything was measured.")
    why: str = Field("", description="What the first of the other seeds lacks.")

    @model_validator(mode="after")
    def _every_seed_once(self) -> Self:
        if len({one.seed for one in self.seeds}) < len(self.seeds):
            raise ValueError("a seed is there twice")
        return self


class CheckValues(Section):
    seeds: dict[int, float] = Field({}, description="Seed -> the check's value.")
    why: str = Field("", description="What the first of the other seeds lacks.")


class ExperimentValues(Section):
    experiment: Experiment = Field(description="As it was stated, without its arms.")
    scale: str = Field(description="At which it ran.")
    seeds: int = Field(gt=0, description="That were asked for.")
    claims: tuple[ClaimValues, ...] = Field(description="One for each claim, in their order.")
    checks: dict[str, CheckValues] = Field({}, description="By name.")

    @property
    def measured(self) -> set[int]:
        """The seeds of which there is any value."""
        of_claims = {one.seed for claim in self.claims for one in claim.seeds}
        return of_claims.union(*(check.seeds for check in self.checks.values()))

    @model_validator(mode="after")
    def _all_claims(self) -> Self:
        if len(self.claims) != len(self.experiment.claims):
            raise ValueError(f"{len(self.experiment.claims)} claims, and values of {len(self.claims)}")
        if lacking := self.experiment.used_checks.keys() - self.checks.keys():
            raise ValueError(f"check {min(lacking)!r} has no values")
        return self


class LabValues(Section):
    lab_values: Literal[1] = Field(1, description="Version of the format.")
    facts: dict[str, str] = Field({}, description="Date, machine, commit and time.")
    experiments: tuple[ExperimentValues, ...] = Field(description="In the order of the paper.")


def write_values(path: Path, values: LabValues) -> None:
    """One line for each claim and check, so that a change of one is seen as such."""
    write_text(path, _text(values.model_dump(mode="json", exclude_none=True), depth=5) + "\n")


def read_values(path: Path) -> LabValues:
    """Raises LabError where the file cannot be used."""
    try:
        return LabValues.model_validate(parse_object(read_file(path)))
    except FileNotFoundError:
        raise LabError(f"{path} does not exist; `seethink lab report` writes such a file") from None
    except ValidationError as error:
        said = "; ".join(explain(e) for e in error.errors()[:3])
    except (OSError, ValueError) as error:
        said = " ".join(str(error).split())
    raise LabError(f"{path} is not a values.json of `seethink lab report`: {said}")


def join_values(parts: Sequence[LabValues]) -> LabValues:
    """Results of several machines or days as one: other experiments, or other seeds of the same ones.

    Raises LabError where a seed of an experiment is in two of them, or an experiment was not stated alike in both.
    """
    found: dict[str, ExperimentValues] = {}
    for one in (one for part in parts for one in part.experiments):
        name = one.experiment.name
        found[name] = _join(found[name], one) if name in found else one
    order = {name: place for place, name in enumerate(load_experiments())}
    names = sorted(found, key=lambda name: order.get(name, len(order)))
    facts: dict[str, list[str]] = {}
    for key, value in (pair for part in parts for pair in part.facts.items()):
        facts.setdefault(key, []).append(value)
    return LabValues(
        experiments=tuple(found[name] for name in names),
        facts={key: " and ".join(dict.fromkeys(values)) for key, values in facts.items()},
    )


def _join(first: ExperimentValues, second: ExperimentValues) -> ExperimentValues:
    name = first.experiment.name
    if (first.experiment, first.scale) != (second.experiment, second.scale):
        raise LabError(f"experiment {name!r} has other claims, checks or another scale in another file; join like ones")
    if twice := first.measured & second.measured:
        raise LabError(f"seed {min(twice)} of experiment {name!r} is in two files; each seed counts once")
    return first.model_copy(
        update={
            "seeds": first.seeds + second.seeds,
            "claims": tuple(
                ClaimValues(seeds=tuple(sorted((*a.seeds, *b.seeds), key=lambda s: s.seed)), why=a.why or b.why)
                for a, b in zip(first.claims, second.claims, strict=True)
            ),
            "checks": {
                check: CheckValues(seeds=a.seeds | second.checks[check].seeds, why=a.why or second.checks[check].why)
                for check, a in first.checks.items()
            },
        }
    )


def _text(value: Any, depth: int, indent: str = "") -> str:
    """JSON with a line for each entry down to `depth`, and everything deeper on one line."""
    if not depth or not isinstance(value, dict | list) or not value:
        return json.dumps(finite_values(value))
    deeper = indent + " "
    if isinstance(value, Mapping):
        lines = [f"{deeper}{json.dumps(key)}: {_text(one, depth - 1, deeper)}" for key, one in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    return "[\n" + ",\n".join(deeper + _text(one, depth - 1, deeper) for one in value) + f"\n{indent}]"
