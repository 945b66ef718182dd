"""The whole pipeline: cold start -> RL -> connector tuning, an evaluation after each stage, then the report.

Every stage starts from the final checkpoint of the stage before. A second call continues where the first stopped.
"""

from __future__ import annotations

import json
import platform
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers

from seethink.config import FOREIGN, EvalConfig, Recipe, load_recipe
from seethink.core.console import console
from seethink.core.cores import available_cores
from seethink.core.errors import UserError
from seethink.core.files import claim_file, json_with, write_json
from seethink.core.version import __version__
from seethink.data.prompts import PromptList
from seethink.data.quarantine import FILE, Quarantine
from seethink.dist.placing import launch_recipe
from seethink.dist.servers import server_count
from seethink.eval.presentation import write_evaluation
from seethink.eval.runner import evaluate_modes
from seethink.eval.task import Task
from seethink.eval.tasks.source import eval_reading, load_source_task
from seethink.generate.make import make_generator
from seethink.models.load import LoadedModel, load_recipe_model
from seethink.rewards.rewarder import Rewarder
from seethink.runs.folder import seconds_so_far
from seethink.runs.lock import FolderLock
from seethink.runs.reading import final_model, read_object
from seethink.studies.own_traces import OwnTraces, with_own_traces
from seethink.train.start import train
from seethink.world.scenes import OTHER_DOMAINS
from seethink.world.v2.domains import GROUPS


@dataclass(frozen=True)
class Stage:
    name: str
    """The name in the report."""
    folder: str
    recipe: str
    """File name in the recipes folder."""
    own: str = ""
    """Where the stage trains on the model's own verified answers: the source of the questions."""


@dataclass(frozen=True)
class Pipeline:
    """The stages of a quickstart, and the domains that its report counts as RL's own and as others."""

    stages: tuple[Stage, ...]
    in_domain: tuple[str, ...]
    out_of_domain: tuple[str, ...]
    command: str
    runs: Path
    """Accuracies of several quickstarts, made by benchmarks/quickstart_runs.py."""


PROCESSES = 2
"""That train, on a CPU that has cores for them. What they sample is what one process samples."""
EVALUATION_SEED = 0
"""Of the test items and of the draws in answering them: runs with other seeds are measured by the same test."""
ASKED = 2
"""Questions per row that is trained on: a model answers some of them wrongly."""
OWN_SETTINGS = ("coldstart.max_tokens=160", "coldstart.val_share=0.1", "sft.max_repetition=0.6")
QUICKSTART1 = Pipeline(
    (
        Stage("cold start", "coldstart", "nano-coldstart.toml"),
        Stage("RL", "grpo", "nano-grpo.toml"),
        Stage("connector", "connector", "nano-connector.toml"),
    ),
    ("math",),
    OTHER_DOMAINS,
    command="seethink quickstart --world 1",
    runs=Path(__file__).with_name("quickstart1_runs.json"),
)
QUICKSTART = Pipeline(
    (
        Stage("cold start", "coldstart", "nano2-coldstart.toml"),
        Stage("RL", "grpo", "nano2-grpo.toml"),
        Stage(
            "connector",
            "connector",
            "nano2-connector.toml",
            own="world2:cold,tuning?stage=tuning",
        ),
    ),
    GROUPS["rl"],
    (*GROUPS["core"], *GROUPS["tuning"], *GROUPS["held"]),
    command="seethink quickstart",
    runs=Path(__file__).with_name("quickstart_runs.json"),
)
PIPELINES = {1: QUICKSTART1, 2: QUICKSTART}
"""By the number of the world."""


def recipes_folder() -> Path:
    """The shipped recipes: inside an installed package, or beside the sources."""
    here = Path(__file__).resolve().parents[1]
    return here / "recipes" if (here / "recipes").is_dir() else here.parents[1] / "recipes"


def run_pipeline(out: Path, seed: int, overrides: list[str], pipeline: Pipeline = QUICKSTART) -> Path:
    """Train and evaluate every stage under `out`; returns the path of report.html."""
    from seethink.report.page import claim_report

    _refuse_other_stages(overrides, pipeline)
    words = [*_processes(), *overrides]
    plan = {stage: _planned(stage, out, seed, words) for stage in pipeline.stages}
    claim_file(out / "pipeline.json", json_with("stages", "command"), "of a pipeline")
    claim_report(out / "report.html")
    with FolderLock(out, "--out "):
        return _run_stages(out, plan, pipeline, "" if overrides else spread_note(pipeline.runs))


def spread_note(runs: Path) -> str:
    """How far one quickstart may lie from another, in words, from the runs that are stored."""
    stored = json.loads(runs.read_text(encoding="utf-8"))
    differ = "seeds and threads" if len({run["machine"] for run in stored["runs"]}) > 1 else "seeds"
    values = {group: [run[group]["RL"] for run in stored["runs"]] for group in ("In-domain", "Out-of-domain")}
    said = " and ".join(f"{min(v):.1f} to {max(v):.1f} % {group.lower()}" for group, v in values.items())
    return (
        f"One run is one draw: {len(stored['runs'])} quickstarts (their {differ} differ, {stored['date']}) ended RL "
        f"at {said}; the standard errors here are over items alone."
    )


def _run_stages(out: Path, plan: dict[Stage, _Planned], pipeline: Pipeline, note: str) -> Path:
    from seethink.report import write_report

    started = time.perf_counter()
    first = plan[pipeline.stages[0]].recipe
    evaluator = _Evaluator(first)
    console.rule("base")
    evaluator.run(first.model, "base", out / "base")
    model = first.model
    for stage, planned in plan.items():
        console.rule(stage.name)
        model = str(_train(stage, planned, model))
        evaluator.run(model, stage.name, out / stage.folder)
    _describe(out, pipeline, first.cluster.trainers, time.perf_counter() - started, note)
    return write_report(out)


def _train(stage: Stage, planned: _Planned, model: str) -> Path:
    """Train one stage from `model`, in this process or in those that its recipe asks for.

    Raises SystemExit where processes of their own ended otherwise than well; they have said why.
    """
    recipe = planned.recipe.model_copy(update={"model": model})
    own = []
    if stage.own:
        asked = OwnTraces(stage.own, ASKED * (recipe.data.train_size or 1), OWN_SETTINGS)
        recipe = with_own_traces(recipe, Path(recipe.out).with_name(f"{stage.folder}-data"), asked, recipe.seed)
        own = [f"data.train={json.dumps(recipe.data.train)}", f"data.val={json.dumps(recipe.data.val)}"]
    if recipe.cluster.trainers == 1 and not server_count(recipe):
        return train(recipe, resume=True)
    code = launch_recipe(recipe, [*planned.words, *own, f"model={json.dumps(model)}", "--resume"])
    last = final_model(Path(recipe.out))
    if code or last is None:
        raise SystemExit(code or 1)
    return last


def _processes() -> list[str]:
    """An override, which others may win over.

    On two cores two processes take two thirds of the time of one, or less, also beside another job (docs/nano.md).
    """
    return [] if torch.cuda.is_available() or available_cores() < PROCESSES else [f"cluster.trainers={PROCESSES}"]


def _refuse_other_stages(overrides: list[str], pipeline: Pipeline) -> None:
    folders = [stage.folder for stage in pipeline.stages]
    for override in overrides:
        stage, colon, word = override.partition("=")[0].partition(":")
        if colon and (stage not in folders or not word):
            raise UserError(
                f"{override!r} is for no stage of the quickstart: write STAGE:KEY=VALUE with one of "
                f"{', '.join(folders)}"
            )


class _Planned(NamedTuple):
    recipe: Recipe
    words: list[str]
    """Of `seethink train`: the recipe's file and what overrides it."""


def _planned(stage: Stage, out: Path, seed: int, overrides: list[str]) -> _Planned:
    """The shipped recipe, moved under `out`.

    An override `grpo:KEY=VALUE` is for that stage alone; another one is for every stage that reads its section.
    """
    path = recipes_folder() / stage.recipe
    foreign = FOREIGN[load_recipe(path).stage]
    own = [o.removeprefix(f"{stage.folder}:") for o in overrides if o.startswith(f"{stage.folder}:")]
    shared = [o for o in overrides if ":" not in o.partition("=")[0]]
    common = [o for o in shared if o.partition(".")[0] not in foreign]
    folder = json.dumps(str(out / stage.folder))
    words = [f"out={folder}", f"seed={seed}", *common, *own]
    return _Planned(load_recipe(path, words), [str(path), *words])


class _Evaluator:
    """Evaluates checkpoints on the same items, whose images are processed once."""

    def __init__(self, recipe: Recipe) -> None:
        self._config: EvalConfig = recipe.eval
        self._recipe = recipe
        self._task: Task | None = None
        self._prompts: PromptList | None = None

    def run(self, model: str, label: str, out: Path) -> None:
        if self._is_done(out / "eval.json"):
            return
        loaded = load_recipe_model(self._recipe.model_copy(update={"model": model}))
        task, prompts = self._items(loaded, out)
        with Rewarder(self._recipe.reward, run_folder=out) as rewarder:
            generator = make_generator(loaded)
            scores = evaluate_modes(task, generator, prompts, rewarder, self._config, seed=EVALUATION_SEED, label=label)
        write_evaluation(
            out, task, prompts, scores, label=label, model=loaded.source, seed=EVALUATION_SEED, settings=self._config
        )  # fmt: skip

    def _is_done(self, path: Path) -> bool:
        """Raises UserError where an evaluation is there that asked otherwise: a table must not mix the two."""
        stored = read_object(path)
        asked = {"seed": EVALUATION_SEED, "settings": self._config.model_dump()}
        if stored and any(stored.get(key, value) != value for key, value in asked.items()):
            raise UserError(
                f"{path} is of another seed or other [eval] settings ({stored['seed']}, {stored.get('settings')}): "
                "choose another --out, or delete the file to evaluate again"
            )
        return bool(stored)

    def _items(self, loaded: LoadedModel, out: Path) -> tuple[Task, PromptList]:
        if self._task is None or self._prompts is None:
            reading, quarantine = eval_reading(self._recipe), Quarantine(out / "eval" / FILE)
            self._task = load_source_task(
                self._config, EVALUATION_SEED, chat=loaded.chat, reading=reading, quarantine=quarantine
            )
            self._prompts = PromptList(self._task.samples, loaded.chat)
        self._prompts.chat = loaded.chat
        return self._task, self._prompts


def _describe(out: Path, pipeline: Pipeline, trainers: int, seconds: float, note: str) -> None:
    """Write pipeline.json: what the report needs to know about the whole pipeline."""
    path = out / "pipeline.json"
    stored = read_object(path)
    before = {key: value for key, value in stored.items() if isinstance(value, int | float)}
    threads = max(1, torch.get_num_threads() // trainers)
    content: dict[str, Any] = {
        "title": "seethink quickstart",
        "stages": [{"name": "base", "dir": "base"}, *({"name": s.name, "dir": s.folder} for s in pipeline.stages)],
        "note": note,
        "in_domain": list(pipeline.in_domain),
        "out_of_domain": list(pipeline.out_of_domain),
        # A call that finds everything done must replace neither time nor machine of the call that did the work.
        "seconds": max(round(seconds), before.get("seconds", 0)),
        "training_seconds": round(sum(seconds_so_far(out / s.folder) for s in pipeline.stages)),
        "peak_memory_mb": max(peak_memory_mb(), before.get("peak_memory_mb", 0)),
        "machine": f"{platform.machine()}, {trainers} x {threads} threads, {platform.system()}",
        "versions": {
            "seethink": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "command": pipeline.command,
    }
    if stored.get("training_seconds") == content["training_seconds"]:
        content |= {key: stored[key] for key in ("machine", "versions") if key in stored}
    write_json(path, content)


def peak_memory_mb() -> int:
    """The highest resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak / (1024**2 if sys.platform == "darwin" else 1024))
