"""A recipe -> a run: everything that a stage and its hooks need is made here, once, and handed in."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from seethink.config import Recipe
from seethink.core.console import console, progress_bar, say
from seethink.core.errors import UserError
from seethink.core.exits import RunStopped
from seethink.core.files import write_json
from seethink.core.redact import visible
from seethink.core.types import Sample
from seethink.data.mixture import Weights, load_training, tally
from seethink.data.order import refuse_changed_data
from seethink.data.quarantine import FILE as QUARANTINE
from seethink.data.quarantine import Quarantine
from seethink.dist.agreement import agree, from_main
from seethink.dist.generator import DealtGenerator, MainGenerator
from seethink.dist.rewarder import MainRewarder
from seethink.dist.world import is_distributed, is_main, join_ranks, started_as_rank, world_size
from seethink.eval.task import Task
from seethink.eval.tasks.source import eval_reading, load_source_task
from seethink.generate.conversations import introduced, with_environment
from seethink.generate.make import make_generator
from seethink.generate.protocol import Generator
from seethink.models.load import LoadedModel, default_device, load_recipe_model
from seethink.models.lora import require_base
from seethink.models.scorer import TokenScorer
from seethink.rewards.golds import read_gold
from seethink.rewards.rewarder import Rewarder
from seethink.rl.ahead import Ahead
from seethink.rl.batching import Batcher
from seethink.rl.rollout import PromptSource, Rollouts
from seethink.runs.checkpoint import Checkpoint
from seethink.runs.folder import refuse_foreign_folder, sign
from seethink.runs.lock import FolderLock
from seethink.runs.reading import DONE
from seethink.runs.rng import seed_everything
from seethink.runs.trackers import require_installed
from seethink.train.beginning import Beginning, begin, too_few_to_select
from seethink.train.engine import rollout_generator
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
from seethink.train.hooks.samples import SampleCount
from seethink.train.hooks.validation import Validation
from seethink.train.hooks.watchdogs import Watchdogs
from seethink.train.loop import Loop, Status
from seethink.train.memory import TokenBudget
from seethink.train.optim import require_states
from seethink.train.policy import Policy
from seethink.train.ppo import Critic
from seethink.train.sft import Sft, total_steps, validation_loss
from seethink.train.signals import StopSignals
from seethink.train.step import Stage
from seethink.train.traces import load_traces
from seethink.train.videos import refuse_videos


def train(
    recipe: Recipe, *, resume: bool = False, allow: Sequence[str] = (), function_folder: Path | None = None
) -> Path:
    """Run one recipe; returns the folder of the checkpoint it ends with.

    With `resume` the run goes on from its newest checkpoint; keys named in `allow` may differ from those it was started
    with. A finished run is left as it is, unless such a change gives it more to train. `reward.function` may lie in
    `function_folder`. Raises UserError for a recipe, model, data set or folder that cannot be used, RunStopped where a
    signal ended the run and StoppedByWatchdog where a watchdog did; the run is saved before either.
    """
    if recipe.cluster.trainers > 1 and not (started_as_rank() or is_distributed()):
        raise UserError(
            f"cluster.trainers is {recipe.cluster.trainers}: start the recipe with `seethink launch`, or train in this "
            "process alone with cluster.trainers=1"
        )
    opened = open_folder(recipe, resume=resume, allow=allow)
    with join_ranks(recipe.cluster.timeout_s), opened as (recipe, beginning):
        if beginning.is_end:
            assert beginning.finished is not None
            return beginning.finished
        run = train_sft if recipe.stage == "sft" else train_rl
        with MainRewarder(recipe.reward, run_folder=Path(recipe.out), function_folder=function_folder) as rewarder:
            last = run(recipe, beginning, rewarder)
        return from_main(lambda: last)


@contextmanager
def open_folder(recipe: Recipe, *, resume: bool, allow: Sequence[str]) -> Iterator[tuple[Recipe, Beginning]]:
    """(the recipe with the folder that this rank writes to, where the run begins); rank 0 prepares and locks it.

    Every other rank keeps its records in a folder of its own, which is removed in the end: it makes the same decisions
    from the same records, and writes nothing that lasts.
    """
    folder = Path(recipe.out)

    def prepare() -> Beginning:
        require_installed(recipe.log.trackers)
        require_states(recipe.optim)
        require_base(recipe.lora)
        refuse_foreign_folder(folder, resume=resume)
        stack.enter_context(FolderLock(folder))
        return begin(recipe, resume=resume, allow=allow)

    with ExitStack() as stack:
        beginning = from_main(prepare)
        if not is_main():
            console.quiet = True
            own = Path(stack.enter_context(TemporaryDirectory(prefix="seethink-rank-")))
            for record in folder.glob("*.json*"):
                shutil.copy2(record, own)
            log = recipe.log.model_copy(update={"tensorboard": False, "trackers": ()})
            recipe = recipe.model_copy(update={"out": str(own), "log": log})
        agree(True, "all")  # nobody writes before all have read
        yield recipe, beginning


def train_rl(recipe: Recipe, beginning: Beginning, rewarder: Rewarder) -> Path:
    """GRPO or PPO in a folder that is prepared; returns the last checkpoint."""
    folder, data, algorithm = Path(recipe.out), recipe.data, recipe.algorithm
    loaded = load_recipe_model(recipe, _loading_device(recipe))
    loaded.chat = introduced(recipe.tools, loaded.chat)
    reference = _reference(recipe)
    quarantine = Quarantine(folder / QUARANTINE)
    samples = load_training(data, recipe.seed, loaded.chat, quarantine, golds=read_gold, graded=True)
    refuse_changed_data(folder, samples, resuming=beginning.same_data, domains=bool(data.domain_weights))
    if (finished := from_main(lambda: beginning.finished_before(algorithm.steps))) is not None:
        return finished
    samples, held_out = hold_out(recipe, samples, loaded.chat, quarantine)
    tasks = _tasks(recipe, loaded, quarantine)
    refuse_videos(recipe, chain(samples, held_out, *(task.samples for task in tasks)))
    weights = said_weights(recipe, samples)
    source = PromptSource(samples, loaded.chat, recipe.seed, weights, kept_bytes=data.processed_bytes)
    policy = make_policy(recipe, loaded, algorithm.steps * algorithm.epochs * algorithm.minibatches)
    critic = _critic(recipe, loaded)
    with closing(rollout_generator(recipe, policy)) as own:
        generator = with_environment(recipe.tools, own, loaded.chat)
        run = _Run(recipe, policy, beginning.checkpoint, critic.state() if critic else {})
        source.position = run.state.get("position", 0)
        rollouts = Rollouts(
            source, generator, rewarder, recipe.rollout, algorithm, recipe.seed, run.probe.watched_ids
        )  # fmt: skip
        servers = own if isinstance(own, MainGenerator) else None
        stage = Grpo(
            policy, rollouts, run.budget, run.probe, critic=critic, reference=reference,
            ahead=Ahead(rollouts, servers, run.state.get("ahead")) if servers and recipe.rollout.ahead else None,
            sleep=servers.sleep if servers and recipe.vllm.sleep else None,
        )  # fmt: skip
        count = SampleCount(rollouts)
        hooks = [
            run.entropy_log(),
            EpisodeLog(folder, recipe.log, run.probe.meter, tools=recipe.tools.environment is not None),
            BlindnessGuard(recipe, policy, run.budget, generator, held_out),
            count,
            run.evaluation(tasks, generator, rewarder, lambda step: step == stage.total_steps or count.finished),
        ]
        run.loop(
            stage, hooks,
            lambda r: f"reward {r.metrics['reward/mean']:.3f}  accuracy {r.metrics['reward/accuracy']:.3f}",
        )  # fmt: skip
        return run.finish({}, run.checkpoints.path(run.step))


def train_sft(recipe: Recipe, beginning: Beginning, rewarder: Rewarder) -> Path:
    """Supervised fine-tuning in a folder that is prepared; returns the weights with the best validation loss."""
    folder, seed, best = Path(recipe.out), recipe.seed, Path(recipe.out) / "best"
    loaded = load_recipe_model(recipe, _loading_device(recipe))
    loaded.chat = introduced(recipe.tools, loaded.chat)
    quarantine = Quarantine(folder / QUARANTINE)
    traces, held_out, samples = load_traces(recipe, loaded.chat, rewarder, quarantine, same_data=beginning.same_data)
    weights = said_weights(recipe, traces.samples(range(len(traces))))
    last_step = total_steps(len(traces), recipe.sft)
    if (finished := from_main(lambda: beginning.finished_before(last_step))) is not None:
        return finished
    tasks = _tasks(recipe, loaded, quarantine)
    refuse_videos(recipe, traces.samples(range(len(traces))))
    policy = make_policy(recipe, loaded, last_step)
    own = DealtGenerator(make_generator(loaded), policy.whole_weights)
    with closing(with_environment(recipe.tools, own, loaded.chat)) as generator:
        run = _Run(recipe, policy, beginning.checkpoint, {})
        stage = Sft(policy, traces, recipe.sft, run.budget, run.probe, seed=seed, weights=weights)
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
        cluster=recipe.cluster,
        temperature=1.0 if recipe.stage == "sft" else recipe.rollout.temperature,
        entropy_gradient=recipe.stage != "sft" and recipe.algorithm.entropy_bonus > 0,
        seed=recipe.seed,
    )


def said_weights(recipe: Recipe, samples: Sequence[Sample]) -> Weights:
    """The weights of a mixture's sources, after saying what is drawn of each."""
    weights = Weights.of(recipe.data)
    for line in weights.lines(tally(samples)):
        say(visible(f"mixture: {line}"))
    return weights


def _loading_device(recipe: Recipe) -> torch.device:
    """Where a model is loaded. One that is to be sharded is in the main memory of rank 0, which gives the others their
    shares: it may not fit on one device, nor several times into a machine's memory."""
    if recipe.cluster.shard == "none" or world_size() == 1:
        return default_device()
    return torch.device("cpu" if is_main() else "meta")


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
    task = load_source_task(recipe.eval, recipe.seed, chat=loaded.chat, reading=reading, quarantine=quarantine)
    best = recipe.checkpoint.best_metric or ""
    if best.startswith("eval/") and not best.startswith(f"eval/{task.name}/"):
        raise UserError(f"checkpoint.best_metric={best!r}: no such task; there is eval/{task.name}/accuracy")
    return [task]


class _Run:
    """What the stages' runs share: the collaborators of the loop, new or restored."""

    def __init__(self, recipe: Recipe, policy: Policy, checkpoint: Checkpoint | None, others: Trained) -> None:
        self._recipe, self._policy, self._folder = recipe, policy, Path(recipe.out)
        self.checkpoints = Checkpoints(
            self._folder, recipe.checkpoint, policy, others, origin=recipe.model, stage=recipe.stage
        )
        from_main(self.checkpoints.require_room)
        self.state: dict[str, Any] = checkpoint.state if checkpoint else {}
        self.step = checkpoint.step if checkpoint else 0
        if checkpoint is None:
            seed_everything(recipe.seed)
            console.print(policy.proof.table())
        else:
            self.checkpoints.restore(checkpoint, trust_remote_code=recipe.trust_remote_code)
            say(f"resuming {self._folder} after step {self.step}")
            # Until here the folder is as it was; from here on it is a run with the recipe as it is now, and not done.
            (self._folder / DONE).unlink(missing_ok=True)
            sign(recipe, checkpoint)
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
        return Evaluation(
            self._recipe.eval, tasks, generator, self._policy, rewarder, seed=seed, is_last=is_last,
            kept_bytes=self._recipe.data.encoded_bytes,
        )  # fmt: skip

    def export_best(self, folder: Path) -> bool:
        """Export the weights as they are after the step in progress; False where the disk did not take them."""
        assert self._loop is not None
        with self._signals.held():
            return self.checkpoints.export_best(folder, self._loop.step + 1)

    def loop(self, stage: Stage, hooks: list[Hook], status: Status) -> None:
        """Run the stage to its end, with the hooks of every run around those of the stage."""
        recipe, folder, state = self._recipe, self._folder, self.state
        if self.step == 0 and (advice := too_few_to_select(recipe.checkpoint, stage.total_steps)):
            say(f"one checkpoint will stay, and `seethink select` needs two: to choose among them, {advice}", "yellow")
        every_run = [
            BadSteps(folder, recipe.optim.max_bad_steps, state.get("bad_steps", 0)),
            *hooks,
            PartsCheck(folder, self._policy, self.checkpoints.is_due, last_step=stage.total_steps),
            Watchdogs(folder, recipe.watchdogs, recipe.stage, state.get("watchdogs"), self.step),
            MetricsLog(folder, recipe, step=self.step),
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
            raise RunStopped(f"{self._signals.asked}: {self._folder} finished just then", finished=final)
        return final


def drop_later_files(folder: Path, step: int) -> None:
    """Remove what an interrupted run wrote of steps that are done again: the report must not show it twice."""
    for name, suffix in (("rollouts", "jsonl"), (BAD_STEPS, "json")):
        for path in (folder / name).glob(f"step_*.{suffix}"):
            number = re.fullmatch(r"step_(\d{6,18})", path.stem, re.ASCII)
            if number and int(number[1]) > step and path.is_file():
                path.unlink()
