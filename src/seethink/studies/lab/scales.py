"""How large everything is, and which world the experiments run on: the keys of scales.toml."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from seethink.config import Section
from seethink.models.load import model_path
from seethink.studies.lab.schema import LAB, Difficulty, Experiment, Group, LabError, load_file
from seethink.world.make import parse_source
from seethink.world.v2.source import PREFIX as SECOND_WORLD


class Questions(Section):
    """Held-out questions as sources, and what this world calls easy, normal and hard."""

    inside: str = Field(description="Of the domains that RL trains on.")
    outside: str = Field(description="Of the others that are evaluated.")
    both: str = Field(description="Of all of these.")
    difficulties: dict[Difficulty, tuple[str, ...]] = Field(description="Name in an experiment's file -> in the data.")

    @model_validator(mode="after")
    def _both_are_both(self) -> Self:
        if self.domains("all") != self.domains("in") + self.domains("out"):
            raise ValueError("both must name the domains of inside and outside, in this order")
        return self

    def domains(self, group: Group) -> tuple[str, ...]:
        return parse_source({"in": self.inside, "out": self.outside, "all": self.both}[group])[0]


class EvalSize(Section):
    inside: int = Field(gt=0, description="Items per in-domain domain.")
    outside: int = Field(gt=0, description="Items per out-of-domain domain.")
    samples: int = Field(gt=0, description="Responses of an arm's last checkpoint per item, at temperature 1.")
    max_new_tokens: int = Field(gt=0, description="Longest response.")


class OwnTraces(Section):
    """How a model's own answers are collected, by `seethink coldstart`."""

    source: str = Field(description="Questions.")
    questions: int = Field(gt=0, description="That are asked.")
    rows: int = Field(gt=0, description="That are trained on; the same number of the teacher's in the arm beside it.")
    set: tuple[str, ...] = Field(description="Words of `seethink coldstart`.")


class Scale(Section):
    """Times are of one core, measured; the plan adds them up."""

    models: dict[str, str] = Field(description="Role that arms name -> base model.")
    recipes: dict[str, tuple[str, ...]] = Field(description="Stage -> its recipe's file, and overrides of it.")
    rl_steps: int = Field(gt=0, description="Episodes of an RL arm of length 1.")
    questions: Questions = Field(description="Of every measurement.")
    eval: EvalSize = Field(description="Of every arm that a claim asks about.")
    own: OwnTraces = Field(description="Of every arm with traces = 'own'.")
    probe: int = Field(gt=0, description="Items per domain for decodings, modes, checkpoints and hallucination.")
    budgets: tuple[int, ...] = Field(min_length=2, description="Thinking budgets in tokens.")
    seconds: dict[str, float] = Field(description="Stage or measurement -> seconds.")

    def steps(self, length: float) -> int:
        """Episodes of an RL arm of this length."""
        return max(2, round(self.rl_steps * length))


class Scales(Section):
    scales: dict[str, Scale] = Field(description="By name.")


@cache
def load_scales() -> dict[str, Scale]:
    """By name. Raises LabError."""
    return load_file(LAB / "scales.toml", Scales).scales


def find_scale(name: str) -> Scale:
    """Raises LabError where there is none."""
    scales = load_scales()
    if name not in scales:
        raise LabError(f"--scale {name!r}: choose from {', '.join(scales)}")
    return scales[name]


def why_left_out(experiment: Experiment, scale: Scale) -> str:
    """Why the experiment cannot run at the scale; empty where it can."""
    for role in {arm.model for arm in experiment.arms.values() if arm.model}:
        if role not in scale.models:
            return f"the scale has no base model {role!r}"
        if not Path(model_path(scale.models[role])).is_dir():
            return f"the base model {scale.models[role]!r} is not packaged here"
    if any(term.reflection for term in experiment.terms) and not scale.questions.inside.startswith(SECOND_WORLD):
        return "what is said can be taken apart on the second world alone"
    return ""


# --- results, which tell neither their scale nor their world: no name means two things


@cache
def inside_domains() -> frozenset[str]:
    """What RL trains on at any scale; every other domain that was evaluated is out-of-domain."""
    return frozenset(domain for scale in load_scales().values() for domain in scale.questions.domains("in"))


@cache
def names_of(difficulty: Difficulty) -> frozenset[str]:
    """What the data of any scale call so."""
    return frozenset(name for scale in load_scales().values() for name in scale.questions.difficulties[difficulty])
