"""Experiments -> the jobs to run: every distinct arm once per seed, parents first.

A job's key is a hash of everything its weights depend on: the resolved recipe, the parent's key or the base model's
weights, and the training code. Equal arms share a folder; an arm of other code or another recipe has another folder.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from seethink.config import Part, Recipe, load_recipe
from seethink.runs.identity import model_identity, versions
from seethink.studies.lab.scales import Scale, find_scale, why_left_out
from seethink.studies.lab.schema import EARLIER, Arm, Experiment, LabError
from seethink.studies.quickstart import recipes_folder

TRAINING_CODE = (
    "rl", "rewards", "models", "data", "world", "generate", "coldstart", "core/denials.py", "core/denial_patterns.py",
    "core/text_measures.py", "train/grpo.py", "train/sft.py", "train/policy.py", "train/optim.py", "runs/rng.py",
)  # fmt: skip
"""Code that the weights depend on. Other code, such as metrics and reports, may change without retraining an arm."""
IRRELEVANT = ("out", "name", "model", "eval", "log")
"""Recipe keys that weights do not depend on; the model is covered by the parent's key."""
MEASURED_BY = {
    "eval": ("eval",), "mode": ("modes",), "regret": ("select",), "correlation": ("select",), "tokens_of": ("select",),
    "hallucination": ("hallucination",), "decoding": ("decodings",), "study": ("select", "forks"),
    "heated": ("causal",), "reflection": ("reflection",),
}  # fmt: skip
"""Source of a term -> the measurements that it needs. Metrics need none: training writes them."""


@dataclass
class Job:
    """One arm with one seed."""

    key: str
    folder: Path
    stage: str | None
    seed: int
    recipe: Recipe | None
    """None for a base model."""
    model: str
    """The base model of an untrained arm."""
    parent: Job | None = None
    collect: dict[str, Any] | None = None
    """How its training data are made of its parent's answers; None: they are those of its recipe."""
    undo: tuple[Part, ...] = ()
    """In place of training: the parts of its parent that are put back to what the parent started from."""
    measurements: dict[str, dict[str, Any]] = field(default_factory=dict)
    """`eval`, `decodings`, `modes`, `select`, `forks`, `causal`, `reflection`, `hallucination` -> its settings."""
    names: set[str] = field(default_factory=set)
    """The `experiment/arm` pairs that use this job."""
    train_s: float = 0.0
    """Expected seconds on one core."""

    @property
    def label(self) -> str:
        return self.folder.name


@dataclass
class Plan:
    scale_name: str
    scale: Scale
    seeds: range
    experiments: list[Experiment]
    jobs: dict[str, Job] = field(default_factory=dict)
    """By key, parents before children."""
    arms: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """Experiment -> arm -> one key per seed."""

    def seconds(self, job: Job) -> float:
        return job.train_s + sum(self.measure_seconds(job).values())

    def measure_seconds(self, job: Job) -> dict[str, float]:
        """Measurement -> expected seconds on one core."""
        seconds = {name: self.scale.seconds[name] for name in job.measurements}
        if "eval" in seconds:
            seconds["eval"] *= 1 + job.measurements["eval"]["earlier"] / self.scale.eval.samples
        return seconds


def make_plan(experiments: Iterable[Experiment], scale: str, seeds: int, out: Path, first_seed: int = 0) -> Plan:
    """Plan the jobs of all experiments, with `seeds` seeds from `first_seed` on.

    Raises LabError for an unknown scale or what cannot run at it, and RecipeError for an arm whose recipe is refused.
    """
    plan = Plan(scale, find_scale(scale), range(first_seed, first_seed + seeds), list(experiments))
    for experiment in plan.experiments:
        if why := why_left_out(experiment, plan.scale):
            raise LabError(f"experiment {experiment.name!r} cannot run at the scale {scale!r}: {why}")
        used = {name for term in experiment.terms for name in term.arms}
        plan.arms[experiment.name] = {
            name: [_add_job(plan, experiment, name, seed, out).key for seed in plan.seeds]
            for name in experiment.arms
            if name in used
        }
        _add_measurements(plan, experiment)
    return plan


def _add_job(plan: Plan, experiment: Experiment, name: str, seed: int, out: Path) -> Job:
    arm = experiment.arms[name]
    parent = _add_job(plan, experiment, arm.parent, seed, out) if arm.parent else None
    recipe = None if arm.stage is None else _recipe(plan.scale, arm, seed)
    model = plan.scale.models[arm.model] if arm.model else ""
    origin = parent.key if parent else model_identity(model)
    collect = {"seed": seed, **plan.scale.own.model_dump(mode="json")} if arm.traces == "own" else None
    key = job_key(recipe, origin, seed, {"collect": collect, "undo": arm.undo})
    job = plan.jobs.get(key)
    if job is None:
        folder = out / "arms" / f"{arm.stage or model or 'parts'}-s{seed}-{key}"
        job = Job(key, folder, arm.stage, seed, recipe, model, parent, collect, arm.undo)
        if arm.stage is not None:
            job.train_s = plan.scale.seconds[arm.stage] * arm.cost * (arm.length if arm.stage == "rl" else 1.0)
            job.train_s += plan.scale.seconds["own"] if collect is not None else 0.0
        plan.jobs[key] = job
    job.names.add(f"{experiment.name}/{name}")
    return job


def _recipe(scale: Scale, arm: Arm, seed: int) -> Recipe:
    """`model` and `out` are filled in when the job starts."""
    file, *given = scale.recipes[arm.stage or ""]
    words = [f"seed={seed}", "log.tensorboard=false", *given]
    if arm.stage == "rl":
        words.append(f"algorithm.steps={scale.steps(arm.length)}")
    words += [f"data.train_size={scale.own.rows}"] if arm.traces is not None else []
    if arm.difficulty:
        names = [name for one in arm.difficulty for name in scale.questions.difficulties[one]]
        words.append(f"algorithm.curriculum={json.dumps([[0.0, names]])}")
    if arm.denials:
        train = load_recipe(recipes_folder() / file, words).data.train
        options = "&" if "?" in train else "?"
        words.append(f"data.train={json.dumps(f'{train}{options}denials={arm.denials}')}")
    prompts = [word for word in words if word.startswith("rollout.prompts_per_step=")]
    most = int(prompts[-1].partition("=")[2]) if prompts else None
    words += [_fitting(word, most) for word in arm.set]
    recipe = load_recipe(recipes_folder() / file, words)
    if not arm.equal_samples:
        return recipe
    samples = recipe.algorithm.steps * recipe.rollout.prompts_per_step * recipe.rollout.group_size
    return load_recipe(recipes_folder() / file, [*words, f"algorithm.samples={samples}"])


def _fitting(override: str, prompts: int | None) -> str:
    """Lower algorithm.minibatches to the prompts per step, of which a tiny scale has few."""
    key, _, value = override.partition("=")
    if key == "algorithm.minibatches" and prompts is not None:
        return f"{key}={min(int(value), prompts)}"
    return override


def _add_measurements(plan: Plan, experiment: Experiment) -> None:
    for term in experiment.terms:
        needed = MEASURED_BY.get(term.source, ())
        for job in (plan.jobs[key] for name in term.arms for key in plan.arms[experiment.name][name]):
            job.measurements |= {name: _settings(plan.scale, name, job) for name in needed}


def _settings(scale: Scale, measurement: str, job: Job) -> dict[str, Any]:
    """The same items for every arm of a seed, so that arms compare item by item."""
    if measurement == "eval":
        sizes = {scale.questions.inside: scale.eval.inside, scale.questions.outside: scale.eval.outside}
        answers = scale.eval.model_dump(include={"samples", "max_new_tokens"})
        return {"seed": job.seed, "sizes": sizes, **answers, "earlier": EARLIER if job.stage == "rl" else 0}
    data = scale.questions.inside if measurement in ("forks", "reflection") else scale.questions.both
    settings = {"seed": job.seed, "data": data, "size": scale.probe, "max_new_tokens": scale.eval.max_new_tokens}
    if measurement == "reflection":
        return settings | {"start": _parent(job).label}
    if measurement == "forks":
        return settings | {"reference": _first_trained(job).label}
    return settings | ({"budgets": list(scale.budgets)} if measurement == "modes" else {})


def _parent(job: Job) -> Job:
    """Raises LabError where it is a base model."""
    if job.parent is None or job.parent.recipe is None:
        raise LabError(f"{', '.join(sorted(job.names))}: reflection is measured from a trained parent on")
    return job.parent


def _first_trained(job: Job) -> Job:
    """The cold start that the arm comes from. Raises LabError where it comes from a base model at once."""
    found = [parent for parent in ancestors(job) if parent.recipe is not None]
    if not found:
        raise LabError(f"{', '.join(sorted(job.names))}: forks are those of the arm's cold start, and it has none")
    return found[-1]


def job_key(recipe: Recipe | None, origin: str | None, seed: int, besides: dict[str, Any] | None = None) -> str:
    """12 hexadecimal digits. The seed is part of the key even of a base model, whose evaluation depends on it."""
    about: dict[str, Any] = {"origin": origin, "seed": seed, "versions": versions(), "code": code_fingerprint()}
    if recipe is not None:
        about["recipe"] = {k: v for k, v in recipe.as_table().items() if k not in IRRELEVANT}
    about |= {name: value for name, value in (besides or {}).items() if value}
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]


@cache
def code_fingerprint() -> str:
    """A hash of the code that weights depend on, without comments, docstrings and layout."""
    digest = hashlib.sha256()
    root = Path(str(files("seethink")))
    for name in TRAINING_CODE:
        place = root / name
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            tree = _without_docstrings(ast.parse(file.read_text(encoding="utf-8")))
            digest.update(file.relative_to(root).as_posix().encode() + b"\0" + ast.dump(tree).encode())
    return digest.hexdigest()


def _without_docstrings(tree: ast.Module) -> ast.Module:
    """Remove strings that stand alone: docstrings, and notes below fields."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body if not _is_text(line)]  # type: ignore[attr-defined]
    return tree


def _is_text(line: ast.AST) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)


def descendants(jobs: Sequence[Job], job: Job) -> list[Job]:
    """The jobs that need `job`, directly or not; `job` itself is left out."""
    return [other for other in jobs if job in ancestors(other)]


def ancestors(job: Job) -> list[Job]:
    return [] if job.parent is None else [job.parent, *ancestors(job.parent)]
