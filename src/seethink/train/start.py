"""A recipe -> a run: everything that a stage and its hooks need is made here, once, and handed in."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from seethink.config import Recipe
from seethink.core.console import console, progress_bar
from seethink.core.exits import RunStopped
from seethink.core.files import write_json
from seethink.data.lengths import load_fitting
from seethink.data.order import refuse_changed_data
from seethink.data.quarantine import FILE as QUARANTINE
from seethink.data.quarantine import Quarantine
from seethink.dist.agreement import agree, from_main
from seethink.dist.generator import DealtGenerator
from seethink.dist.rewarder import MainRewarder
from seethink.dist.world import is_main, join_ranks
from seethink.eval.task import Task
from seethink.eval.tasks.source import eval_reading, load_source_task
from seethink.generate.make import make_generator
from seethink.generate.protocol import Generator
from seethink.models.load import LoadedModel, load_recipe_model
from seethink.models.scorer import TokenScorer
from seethink.rewards.golds import read_gold
from seethink.rewards.rewarder import Rewarder
from seethink.rl.batching import Batcher
from seethink.rl.rollout import PromptSource, Rollouts
from seethink.runs.checkpoint import Checkpoint
from seethink.runs.folder import DONE, final_model, is_allowed, prepare_folder, refuse_changes
from seethink.runs.lock import FolderLock
from seethink.runs.rng import seed_everything
from seethink.train.entropies import EntropyProbe
from seethink.train.grpo import Grpo
from seethink.train.hook import Hook
from seethink.train.hooks.bad_steps import FOLDER as BAD_STEPS
from seethink.train.hooks.bad_steps import BadSteps
from seethink.train.hooks.blindness import BlindnessGuard, hold_out
from seethink.train.hooks.checkpoints import Checkpoints, Trained
from seethink.train.hooks.entropy import EntropyLog
from seethink.train.hooks.evaluation import Evaluation
from seethink.train.hooks.metrics import MetricsLog
from seethink.train.hooks.parts import PartsCheck
from seethink.train.hooks.rollouts import EpisodeLog
from seethink.train.hooks.validation import Validation
from seethink.train.hooks.watchdogs import Watchdogs
from seethink.train.loop import Loop, Status
from seethink.train.memory import TokenBudget
from seethink.train.policy import Policy
from seethink.train.ppo import Critic
from seethink.train.sft import Sft, total_steps, validation_loss
from seethink.train.signals import StopSignals
from seethink.train.step import Stage
from seethink.train.traces import load_traces


def train(
    recipe: Recipe, *, resume: bool = False, allow: Sequence[str] = (), function_folder: Path | None = None
) -> Path:
    """Run one recipe; returns the folder of the checkpoint it ends with.

    With `resume` the run goes on from its newest checkpoint, and a finished one is left as it is; keys named in `allow`
    may differ from those it was started with. `reward.function` may lie in `function_folder`. Raises UserError for a
    recipe, model, data set or folder that cannot be used, RunStopped where a signal ended the run and StoppedByWatchdog
    where a watchdog did; the run is saved before either.
    """
    with join_ranks(recipe.cluster.timeout_s), open_folder(recipe, resume=resume, allow=allow) as opened:
        if opened.finished is not None:
            return opened.finished
        recipe, checkpoint = opened.recipe, opened.checkpoint
        run = train_sft if recipe.stage == "sft" else train_rl
        same_data = checkpoint is not None and not is_allowed("data", allow)
        with MainRewarder(recipe.reward, run_folder=Path(recipe.out), function_folder=function_folder) as rewarder:
            last = run(recipe, checkpoint, rewarder, same_data=same_data)
        return from_main(lambda: last)


@dataclass(frozen=True, slots=True)
class _Opened:
    recipe: Recipe
    """With the folder that this rank writes to."""
    checkpoint: Checkpoint | None
    finished: Path | None


@contextmanager
def open_folder(recipe: Recipe, *, resume: bool, allow: Sequence[str]) -> Iterator[_Opened]:
    """The run folder, prepared and locked by rank 0.

    Every other rank keeps its records in a folder of its own, which is removed in the end: it makes the same decisions
    from the same records, and writes nothing that lasts.
    """
    folder = Path(recipe.out)

    def prepare() -> tuple[Checkpoint | None, Path | None]:
        stack.enter_context(FolderLock(folder))
        finished = final_model(folder) if resume else None
        if finished is not None:
            refuse_changes(recipe, allow)
            return None, finished
        return prepare_folder(recipe, resume=resume, allow=allow), None

    with ExitStack() as stack:
        checkpoint, finished = from_main(prepare)
        if not is_main():
            console.quiet = True
            own = Path(stack.enter_context(TemporaryDirectory(prefix="seethink-rank-")))
            for record in folder.glob("*.json*"):
                shutil.copy2(record, own)
            log = recipe.log.model_copy(update={"tensorboard": False})
            recipe = recipe.model_copy(update={"out": str(own), "log": log})
        agree(True, "all")  # nobody writes before all have read
        yield _Opened(recipe, checkpoint, finished)


def train_rl(recipe: Recipe, checkpoint: Checkpoint | None, rewarder: Rewarder, *, same_data: bool = False) -> Path:
    """GRPO or PPO in a folder that is prepared; returns the last checkpoint."""
    folder, data, algorithm = Path(recipe.out), recipe.data, recipe.algorithm
    loaded = load_recipe_model(recipe)
    reference = _reference(recipe)
    quarantine = Quarantine(folder / QUARANTINE)
    samples = load_fitting(
        data.train, "train", data.train_size, recipe.seed, loaded.chat, data, quarantine, golds=read_gold, graded=True
    )
    refuse_changed_data(folder, samples, resuming=same_data)
    samples, held_out = hold_out(recipe, samples, loaded.chat, quarantine)
    tasks = _tasks(recipe, loaded, quarantine)
    source = PromptSource(samples, loaded.chat, recipe.seed)
    critic = _critic(recipe, loaded)
    policy = make_policy(recipe, loaded, algorithm.steps * algorithm.epochs * algorithm.minibatches)
    with closing(DealtGenerator(make_generator(loaded, max_rows=recipe.rollout.max_rows))) as generator:
        run = _Run(recipe, policy, checkpoint, critic.state() if critic else {})
        source.position = run.state.get("position", 0)
        rollouts = Rollouts(
            source, generator, rewarder, recipe.rollout, algorithm, recipe.seed, run.probe.watched_ids
        )  # fmt: skip
        stage = Grpo(policy, rollouts, run.budget, run.probe, critic=critic, reference=reference)
        hooks = [
            run.entropy_log(),
            EpisodeLog(folder, recipe.log, run.probe.meter),
            BlindnessGuard(recipe, policy, run.budget, generator, held_out),
            run.evaluation(tasks, generator, rewarder, lambda step: step == stage.total_steps),
        ]
        run.loop(
            stage, hooks,
            lambda r: f"reward {r.metrics['reward/mean']:.3f}  accuracy {r.metrics['reward/accuracy']:.3f}",
        )  # fmt: skip
        return run.finish({}, run.checkpoints.path(run.step))


def train_sft(recipe: Recipe, checkpoint: Checkpoint | None, rewarder: Rewarder, *, same_data: bool = False) -> Path:
    """Supervised fine-tuning in a folder that is prepared; returns the weights with the best validation loss."""
    folder, seed, best = Path(recipe.out), recipe.seed, Path(recipe.out) / "best"
    loaded, quarantine = load_recipe_model(recipe), Quarantine(folder / QUARANTINE)
    traces, held_out, samples = load_traces(recipe, loaded.chat, rewarder, quarantine, same_data=same_data)
    tasks = _tasks(recipe, loaded, quarantine)
    policy = make_policy(recipe, loaded, total_steps(len(traces), recipe.sft))
    with closing(DealtGenerator(make_generator(loaded))) as generator:
        run = _Run(recipe, policy, checkpoint, {})
        stage = Sft(policy, traces, recipe.sft, run.budget, run.probe, seed=seed)
        validation = Validation(
            recipe.sft,
            lambda: validation_loss(policy, run.budget.batcher, held_out),
            lambda: run.export_best(best),
            last_step=stage.total_steps,
            state=run.state.get("stopping"),
        )

        def is_last(step: int) -> bool:
            return step == stage.total_steps or validation.finished

        hooks = [
            run.entropy_log(),
            validation,
            BlindnessGuard(recipe, policy, run.budget, generator, samples, is_last=is_last),
            run.evaluation(tasks, generator, rewarder, is_last),
        ]
        stopping = validation.stopping
        run.loop(stage, hooks, lambda r: f"loss {r.metrics['loss/total']:.3f}  best val {stopping.best:.3f}")
        return run.finish({"best_val": stopping.best, "best_step": stopping.best_step}, best)


def make_policy(recipe: Recipe, loaded: LoadedModel, gradient_steps: int) -> Policy:
    """The policy that a recipe trains, for so many optimizer steps."""
    return Policy(
        loaded,
        recipe.optim,
        total_steps=gradient_steps,
        parts=recipe.parts,
        lora=recipe.lora,
        temperature=1.0 if recipe.stage == "sft" else recipe.rollout.temperature,
        seed=recipe.seed,
    )


def _reference(recipe: Recipe) -> TokenScorer | None:
    """The starting model, frozen, where the recipe has a KL term."""
    if recipe.algorithm.kl_beta == 0:
        return None
    loaded = load_recipe_model(recipe)
    loaded.model.requires_grad_(False)
    return TokenScorer(loaded, temperature=recipe.rollout.temperature)


def _critic(recipe: Recipe, loaded: LoadedModel) -> Critic | None:
    if recipe.stage != "ppo":
        return None
    return Critic(loaded, recipe.ppo, max_grad_norm=recipe.optim.max_grad_norm, seed=recipe.seed)


def _tasks(recipe: Recipe, loaded: LoadedModel, quarantine: Quarantine) -> list[Task]:
    """What is evaluated during training."""
    if recipe.eval.data is None or recipe.eval.every == 0:
        return []
    reading = eval_reading(recipe)
    return [load_source_task(recipe.eval, recipe.seed, chat=loaded.chat, reading=reading, quarantine=quarantine)]


class _Run:
    """What the stages' runs share: the collaborators of the loop, new or restored."""

    def __init__(self, recipe: Recipe, policy: Policy, checkpoint: Checkpoint | None, others: Trained) -> None:
        self._recipe, self._policy, self._folder = recipe, policy, Path(recipe.out)
        self.checkpoints = Checkpoints(
            self._folder, recipe.checkpoint, policy, others, origin=recipe.model, stage=recipe.stage
        )
        self.state: dict[str, Any] = checkpoint.state if checkpoint else {}
        self.step = checkpoint.step if checkpoint else 0
        if checkpoint is None:
            seed_everything(recipe.seed)
            console.print(policy.proof.table())
        else:
            self.checkpoints.restore(checkpoint, trust_remote_code=recipe.trust_remote_code)
            console.print(f"resuming {self._folder} after step {self.step}")
        drop_later_files(self._folder, self.step)
        batcher = Batcher.for_model(policy.loaded, recipe.optim, groups=recipe.stage != "sft")
        self.budget = TokenBudget(batcher, policy, self.state.get("micro_tokens"))
        self.probe = EntropyProbe(policy, recipe.log.critical_words, recipe.log.critical_window)
        self._signals = StopSignals(recipe.checkpoint.grace_s)
        self._loop: Loop | None = None

    def entropy_log(self) -> EntropyLog:
        vocabulary = int(self._policy.model.config.get_text_config().vocab_size)
        return EntropyLog(
            self._folder, self._recipe.stage, self._recipe.log, vocabulary,
            step=self.step, threshold=self.state.get("entropy_threshold"),
        )  # fmt: skip

    def evaluation(
        self, tasks: list[Task], generator: Generator, rewarder: Rewarder, is_last: Callable[[int], bool]
    ) -> Evaluation:
        seed = self._recipe.seed
        return Evaluation(self._recipe.eval, tasks, generator, self._policy, rewarder, seed=seed, is_last=is_last)

    def export_best(self, folder: Path) -> bool:
        """Export the weights as they are after the step in progress; False where the disk did not take them."""
        assert self._loop is not None
        with self._signals.held():
            return self.checkpoints.export_best(folder, self._loop.step + 1)

    def loop(self, stage: Stage, hooks: list[Hook], status: Status) -> None:
        """Run the stage to its end, with the hooks of every run around those of the stage."""
        recipe, folder, state = self._recipe, self._folder, self.state
        every_run = [
            BadSteps(folder, recipe.optim.max_bad_steps, state.get("bad_steps", 0)),
            *hooks,
            PartsCheck(folder, self._policy, self.checkpoints.is_due, last_step=stage.total_steps),
            Watchdogs(folder, recipe.watchdogs, recipe.stage, state.get("watchdogs"), self.step),
            MetricsLog(folder, tensorboard=recipe.log.tensorboard, step=self.step),
        ]
        with self._signals, progress_bar(recipe.name, stage.total_steps, self.step) as advance:
            self._loop = Loop(
                stage, every_run, self.checkpoints, self._signals, step=self.step, state=self.budget.state
            )
            try:
                self._loop.run(advance, status)
            finally:
                self.step = self._loop.step

    def finish(self, summary: dict[str, Any], final: Path) -> Path:
        """Mark the run complete; `final` is the checkpoint that the next stage starts from. Raises RunStopped where
        the run was asked to stop at its very end."""
        about = {"final": str(final.relative_to(self._folder)), "step": self.step, **summary}
        write_json(self._folder / DONE, about)
        if self._signals.asked:
            raise RunStopped(f"{self._signals.asked}: {self._folder} finished just then")
        return final


def drop_later_files(folder: Path, step: int) -> None:
    """Remove what an interrupted run wrote of steps that are done again: the report must not show it twice."""
    for name in ("rollouts", BAD_STEPS):
        for path in (folder / name).glob("step_*"):
            number = path.stem.removeprefix("step_")
            if number.isdigit() and int(number) > step:
                path.unlink()
