"""The keys of an experiment's TOML file. Unknown keys are refused, and every file is checked when the lab starts."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Literal, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from seethink.config import Part, Section, explain
from seethink.core.errors import UserError

S = TypeVar("S", bound=Section)
T = TypeVar("T")
LAB = files("seethink.studies.lab")
MARK = "\u25c6"
"""Of primary claims."""
EARLIER = 2
"""Checkpoints before an RL arm's last one that are evaluated besides, by one answer to each item (`newest`)."""
Group = Literal["in", "out", "all"]
"""Domains: RL trains on those that are `in`; `out` are the others that are evaluated. Each has the same weight."""
Difficulty = Literal["easy", "normal", "hard"]
"""What the data call so is the scale's to say."""


class LabError(UserError):
    """An experiment that cannot be read or run; the message says what to do."""


class Arm(Section):
    """A model and how it was trained."""

    parent: str | None = Field(None, description="Arm that training starts from: of this file, or of shared.toml.")
    model: str | None = Field(
        None, description="In place of a parent: a packaged base model, by its role among the scale's `models`."
    )
    stage: Literal["coldstart", "rl", "tune", "distil"] | None = Field(
        None, description="Which recipe trains it (scales.toml); none: the model as it is."
    )
    set: tuple[str, ...] = Field((), description="Recipe overrides of this arm, as on the command line.")
    traces: Literal["own", "teacher"] | None = Field(
        None,
        description="own: train on verified answers of the parent, as `own` of the scale has them; teacher: on as many "
        "of the recipe's; none: the recipe's.",
    )
    undo: tuple[Part, ...] = Field(
        (), description="In place of a stage: the parent with these parts put back to what its training started from."
    )
    denials: float = Field(
        0.0, ge=0, le=1, description="Of coldstart: this share of the recipe's traces deny to see what they answer."
    )
    difficulty: tuple[Difficulty, ...] = Field((), description="Of RL: questions of these alone.")
    length: float = Field(1.0, gt=0, le=4, description="RL steps, as a share of the scale's.")
    equal_samples: bool = Field(
        False, description="Of RL: end when a plain arm of this length has sampled as many completions, dropped ones "
        "included, in place of after as many steps.",
    )  # fmt: skip
    cost: float = Field(1.0, gt=0, description="Time of a step against a plain one, for the plan.")

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.parent is None) == (self.model is None):
            raise ValueError("give either parent or model")
        if self.undo and (self.parent is None or self.stage is not None or self.set):
            raise ValueError("undo is of an arm with a parent, and without a stage of its own")
        if self.stage is None and not self.undo and (self.parent is not None or self.set):
            raise ValueError("an arm without a stage is a base model: give model alone")
        if self.equal_samples and self.stage != "rl":
            raise ValueError("equal_samples is of arms of stage rl")
        if self.difficulty and self.stage != "rl":
            raise ValueError("difficulty is of arms of stage rl")
        if self.denials and self.stage != "coldstart":
            raise ValueError("denials is of arms of stage coldstart")
        if self.traces is not None and self.stage not in ("coldstart", "tune", "distil"):
            raise ValueError("traces is of the stages that train on them: coldstart, tune and distil")
        return self


class Term(Section):
    """A value of an arm, one per seed. Exactly one of the sources is given."""

    arm: str = Field(description="The arm.")
    minus: str | None = Field(None, description="Subtract the same value of this arm: a gain.")
    eval: Literal["accuracy", "tokens"] | None = Field(None, description="Source: held-out items.")
    metric: str | None = Field(None, description="Source: a key of metrics.jsonl, over the steps of `span`.")
    mode: Literal["slow", "nothink", "nowait", "budget"] | None = Field(None, description="Source: modes.json.")
    regret: str | None = Field(
        None, description="Source: accuracy lost by choosing the checkpoint with this criterion."
    )
    correlation: str | None = Field(None, description="Source: this criterion's correlation with accuracy.")
    hallucination: Literal["share", "accuracy_with", "accuracy_without"] | None = Field(
        None, description="Source: statements in the reasoning that the image cannot be seen."
    )
    tokens_of: str | None = Field(
        None, description="Source: tokens behind this criterion, of the checkpoint that has the fewest."
    )
    decoding: Literal["greedy", "pass@8"] | None = Field(
        None, description="Source: accuracy on `probe` items, greedy, or of items that one of eight samples gets right."
    )
    heated: Literal["plain", "forks", "elsewhere", "places"] | None = Field(
        None, description="Source: accuracy on `probe` items with a raised temperature at forks alone, or elsewhere "
        "alone, or nowhere; or how many forks there are.",
    )  # fmt: skip
    reflection: Literal["gap", "gap-before", "attempts"] | None = Field(
        None, description="Source: P(Wait | first attempt wrong) less P(Wait | right) on the second world, at the last "
        "checkpoint or before RL; or how many wrong or right attempts there are at the checkpoint with the fewest.",
    )  # fmt: skip
    study: Literal["correlation", "regret", "forks"] | None = Field(
        None, description="Source: checkpoints of the arm and of `runs` together (selection/study.py): the corrected "
        "correlation of their entropy at fixed forks with accuracy, what choosing by `criterion` costs on average, or "
        "how many forks there are.",
    )  # fmt: skip
    runs: tuple[str, ...] = Field((), description="Of study: the other arms.")
    criterion: Literal["fork_entropy", "reward", "uncertain_reward", "accuracy", "last", "random"] | None = Field(
        None, description="Of study = 'regret': what chooses the checkpoint."
    )
    domain: Group = Field("all", description="Of eval, decoding, mode, heated, regret, correlation and study.")
    newest: Literal[1, 3] = Field(
        1, description="Of eval, of an RL arm: its last checkpoint, or the mean of the values of its last three."
    )
    difficulty: Difficulty | None = Field(None, description="Of eval and decoding; default: all.")
    span: tuple[float, float] = Field((0.0, 1.0), description="Of metric: from and to, as shares of the steps.")
    stat: Literal["mean", "jitter", "max"] = Field(
        "mean", description="Of metric; jitter: median absolute change of its logarithm from step to step."
    )
    budget: float | None = Field(None, gt=0, le=1, description="Of mode budget: tokens, as a share of the largest.")
    column: Literal["accuracy", "tokens_mean"] = Field("accuracy", description="Of mode.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        sources = [name for name in SOURCES if getattr(self, name) is not None]
        if len(sources) != 1:
            raise ValueError(f"give exactly one of {', '.join(SOURCES)}")
        if not 0 <= self.span[0] < self.span[1] <= 1:
            raise ValueError(f"span {list(self.span)} is not [from, to] with 0 <= from < to <= 1")
        of_checkpoints = self.regret or self.correlation or self.study in ("correlation", "regret")
        if of_checkpoints and self.domain == "all":
            raise ValueError("regret and correlation are of domain 'in' or 'out'")
        if (self.study == "regret") != (self.criterion is not None):
            raise ValueError("study = 'regret' and criterion go together")
        if bool(self.runs) != (self.study is not None) or (self.runs and self.minus):
            raise ValueError("study and runs go together, and without minus")
        if self.newest > 1 and self.eval is None:
            raise ValueError("newest is of eval")
        if (self.mode == "budget") != (self.budget is not None):
            raise ValueError("mode = 'budget' and budget go together")
        return self

    @property
    def source(self) -> str:
        return next(name for name in SOURCES if getattr(self, name) is not None)

    @property
    def arms(self) -> tuple[str, ...]:
        return (self.arm, *self.runs) if self.minus is None else (self.arm, self.minus)


SOURCES = (
    "eval",
    "metric",
    "mode",
    "regret",
    "correlation",
    "hallucination",
    "tokens_of",
    "decoding",
    "heated",
    "reflection",
    "study",
)


class Check(Section):
    """What an experiment must have done before its claims mean anything, by its mean over the seeds."""

    text: str = Field(min_length=1, description="What must hold, in a few words.")
    value: Term = Field(description="The value that shows it.")
    at_least: float | None = Field(None, description="It must reach this,")
    at_most: float | None = Field(None, description="or stay at or below this.")

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give either at_least or at_most")
        return self

    def holds(self, value: float) -> bool:
        return value >= self.at_least if self.at_least is not None else value <= (self.at_most or 0.0)


class Claim(Section):
    """A statement of the paper. The effect is `left` less (or over) `right`; `verdict.judge` has the decision rule."""

    text: str = Field(min_length=1, description="The claim, in a few words.")
    paper: str = Field(min_length=1, description="The paper's figure for it, or that it gives none.")
    paper_effect: float | None = Field(None, description="That figure in the effect's unit, where it gives one.")
    left: Term = Field(description="The value that the claim is about.")
    right: Term | None = Field(None, description="The value that it is compared with; none: with zero.")
    ratio: bool = Field(False, description="Compare by left / right; `least` is a factor above 1 then.")
    expect: Literal["more", "less", "same", "not-more", "not-less"] = Field(description="What the paper says.")
    least: float = Field(ge=0, description="The smallest effect that counts, in the number's own unit.")
    level: float = Field(0.9, gt=0.5, lt=1, description="Of the interval; 0.9 leaves 5% on the side of the claim.")
    primary: bool = Field(False, description="Named beforehand, and judged after 3, 5 and 8 seeds (`looks`).")
    checks: tuple[str, ...] = Field((), description="Checks, by name; where one fails, the claim is untestable.")

    @model_validator(mode="after")
    def _ratio_needs_two(self) -> Self:
        if self.ratio and (self.right is None or self.least < 1):
            raise ValueError("a ratio needs right, and a least of 1 or more")
        return self

    @property
    def marked(self) -> str:
        """The text, with a mark of a primary claim."""
        return f"{MARK} {self.text}" if self.primary else self.text

    @property
    def scale(self) -> str:
        """`points` for a difference of shares, `factor` for a ratio, otherwise what is measured."""
        left = self.left
        if self.ratio:
            return "factor"
        shares = (
            left.eval == "accuracy" or (left.mode is not None and left.column == "accuracy"),
            left.decoding or left.regret or left.hallucination or left.criterion,
            left.heated in ("plain", "forks", "elsewhere") or left.reflection in ("gap", "gap-before"),
        )
        return "points" if any(shares) else left.metric or left.source

    @property
    def terms(self) -> tuple[Term, ...]:
        return (self.left,) if self.right is None else (self.left, self.right)


class Experiment(Section):
    name: str = Field(pattern=r"^[a-z0-9-]+$", description="The file's name.")
    title: str = Field(min_length=1, description="A headline.")
    section: str = Field(min_length=1, description="Of the paper, or `open` for a question that it leaves open.")
    note: str = Field("", description="Where the lab's setting differs from the paper's.")
    arms: dict[str, Arm] = Field({}, description="By name; those of shared.toml need not be repeated.")
    checks: dict[str, Check] = Field({}, description="By name; those of shared.toml need not be repeated.")
    claims: tuple[Claim, ...] = Field(min_length=1, description="What is compared.")

    @property
    def used_checks(self) -> dict[str, Check]:
        """The checks that claims name."""
        return {name: self.checks[name] for claim in self.claims for name in claim.checks}

    @property
    def terms(self) -> tuple[Term, ...]:
        """Every value that a claim or its checks read."""
        claimed = [term for claim in self.claims for term in claim.terms]
        return (*claimed, *(check.value for check in self.used_checks.values()))


class Shared(Section):
    arms: dict[str, Arm] = Field(description="Arms that every experiment may use.")
    checks: dict[str, Check] = Field({}, description="Checks that every experiment may use.")


def load_experiments() -> dict[str, Experiment]:
    """All packaged experiments by name, in the order of the paper; the open questions last. Raises LabError."""
    shared = load_file(LAB / "shared.toml", Shared)
    found = [_experiment(file, shared) for file in _toml_files(LAB / "experiments")]
    return {e.name: e for e in sorted(found, key=lambda e: (e.section == "open", e.section, e.name))}


def _toml_files(folder: Traversable) -> list[Traversable]:
    return sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)


def _experiment(file: Traversable, shared: Shared) -> Experiment:
    experiment = load_file(file, Experiment)
    if f"{experiment.name}.toml" != file.name:
        raise LabError(f"{file.name}: name = {experiment.name!r} is not the file's name")
    arms = _with_shared(file.name, "arm", shared.arms, experiment.arms)
    checks = _with_shared(file.name, "check", shared.checks, experiment.checks)
    _require(file.name, "check", [name for claim in experiment.claims for name in claim.checks], checks)
    whole = experiment.model_copy(update={"arms": arms, "checks": checks})
    named = [arm.parent for arm in experiment.arms.values() if arm.parent]
    _require(file.name, "arm", named + [name for term in whole.terms for name in term.arms], arms)
    _refuse_circles(file.name, arms)
    for name, arm in experiment.arms.items():
        parent = arms[arm.parent] if arm.parent else arm
        if arm.undo and parent.stage is None:
            raise LabError(f"{file.name}: arm {name!r} undoes training, and its parent {arm.parent!r} is not trained")
        if parent is not arm and parent.undo:
            raise LabError(f"{file.name}: arm {name!r} trains on from {arm.parent!r}, which has no recipe")
    for term in whole.terms:
        if term.newest > 1 and arms[term.arm].stage != "rl":
            raise LabError(f"{file.name}: newest = {term.newest} is of RL arms, and {term.arm!r} is none")
    return whole


def _with_shared(file: str, what: str, shared: dict[str, T], own: dict[str, T]) -> dict[str, T]:
    if again := own.keys() & shared.keys():
        raise LabError(f"{file}: {what} {min(again)!r} is in shared.toml already; choose another name")
    return shared | own


def _require(file: str, what: str, names: list[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise LabError(f"{file}: no {what} {name!r}; there are {', '.join(known)}")


def _refuse_circles(file: str, arms: dict[str, Arm]) -> None:
    for start in arms:
        name: str | None = start
        for _ in arms:
            name = arms[name].parent if name else None
        if name is not None:
            raise LabError(f"{file}: arm {start!r} is its own ancestor")


def load_file(file: Traversable, model: type[S]) -> S:
    """A packaged TOML file. Raises LabError."""
    try:
        return model.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except tomllib.TOMLDecodeError as error:
        raise LabError(f"{file.name} is not a readable TOML file: {error}") from None
    except ValidationError as error:
        raise LabError(f"{file.name}: " + "; ".join(explain(e) for e in error.errors())) from None
