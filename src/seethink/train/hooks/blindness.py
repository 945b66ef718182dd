"""The blindness guard: does the policy see the image, on both paths, and does the image matter?

Before the first step and every `blindness.every` steps, held-out samples are asked with their true picture, with a
blank one and with another sample's. Four checks follow:

1. trainer: the gold answer's log-probs under `Policy.logprobs` move with the pixels;
2. decoder: so do the distributions that the generator samples from;
3. path: what was decoded has the same log-probs in the trainer, so that both see the same picture;
4. image: the true picture beats the blank AND the other one, in gold log-prob or in greedy accuracy.

1 to 3 are bugs of a pipeline and always stop the run; 4 may be a property of the model: `blindness.action` decides.
Before SFT it is a warning alone, as the model may never have seen such pictures. The next look decides, after
`blindness.every` steps or at the end of a shorter run.
Nothing here draws from a global random state or touches weights, so training is the same with and without it.

data/control_images.py makes the pictures; blindness_verdict.py judges.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seethink.config import Recipe
from seethink.core.console import console, say
from seethink.core.errors import UserError
from seethink.core.files import finite_or_none
from seethink.core.types import Completion, Prompt, Sample
from seethink.data.chat import Chat
from seethink.data.control_images import blanked, swapped
from seethink.data.lengths import load_fitting
from seethink.data.order import question_key, whole_questions
from seethink.data.quarantine import Quarantine
from seethink.environments.calls import CallError
from seethink.environments.make import ENVIRONMENTS
from seethink.generate.conversations import played
from seethink.generate.protocol import Generator, Sampling
from seethink.rewards.golds import bare_answers, read_gold
from seethink.rewards.rewarder import Rewarder
from seethink.rl.batching import given_conversations, given_responses
from seethink.rl.packing import PackedSequence
from seethink.rl.rollout import scheduled
from seethink.runs.metrics import append_line, keep_steps
from seethink.runs.reading import read_steps
from seethink.train.hook import Hook
from seethink.train.hooks.blindness_verdict import KINDS, Findings, View, judge, summary
from seethink.train.memory import TokenBudget
from seethink.train.policy import Policy
from seethink.train.step import StepResult
from seethink.world.make import is_world

FILE = "blindness.jsonl"
IN_DOUBT = 4
"""Before a model is called blind, it is shown so many times `blindness.samples`."""
SFT_TOKENS = 256
"""Longest answer decoded in SFT, which has no rollout length."""
OFF = "In a new run blindness.every=0 turns the guard off"
FOLLOWING = f"The records are in {FILE}; --resume looks again at this step, and goes on if it passes. {OFF}"
STREAM = 0xB11D
"""Keeps the guard's random numbers apart from those of training."""

Pairs = Sequence[tuple[Prompt, list[int]]]
"""Prompts and the ids of a response to each."""


class BlindModelError(UserError):
    """The guard stopped a run; the message names the check, the numbers and what to do."""


def hold_out(
    recipe: Recipe, samples: list[Sample], chat: Chat, quarantine: Quarantine
) -> tuple[list[Sample], list[Sample]]:
    """(samples to train on, samples for the guard), for RL. SFT has its validation samples.

    The guard's come from `data.val` or the world's own split; of a file without either, the first with images (at
    most a tenth of it) are left out of training, with every sample of the same questions.
    """
    data, wanted = recipe.data, IN_DOUBT * recipe.blindness.samples
    if recipe.blindness.every == 0:
        return samples, []
    if data.val is not None or is_world(data.train):
        source, size = data.val or data.train, data.val_size or wanted
        held_out = load_fitting(source, "val", size, recipe.seed, chat, data, quarantine, golds=read_gold, graded=True)
        return samples, held_out
    illustrated = [i for i, sample in enumerate(samples) if sample.images or sample.videos]
    keys = [question_key(sample) for sample in samples]
    held = set(whole_questions(keys, illustrated, data.val_size or min(wanted, len(samples) // 10)))
    return [s for i, s in enumerate(samples) if i not in held], [samples[i] for i in sorted(held)]


class BlindnessGuard(Hook):
    """Measures when it is due, writes `blindness.jsonl`, and stops the run where it must."""

    def __init__(
        self,
        recipe: Recipe,
        policy: Policy,
        budget: TokenBudget,
        generator: Generator,
        samples: Sequence[Sample],
        *,
        is_last: Callable[[int], bool] = lambda step: False,
    ) -> None:
        """`is_last`: whether a step is the run's last one, where a model that was blind before SFT is looked at."""
        self._recipe, self._policy, self._budget, self._generator = recipe, policy, budget, generator
        self._path = Path(recipe.out) / FILE
        # By rule alone: a verifier costs time and may answer differently when asked again.
        self._rewarder = Rewarder(recipe.reward.model_copy(update={"verifier": None}))
        chat, banned = policy.loaded.chat, set(policy.loaded.banned_ids)
        samples = samples if recipe.blindness.every else ()
        self._environment = recipe.sft.environment if recipe.stage == "sft" else None
        illustrated = [sample for sample in samples if sample.images or sample.videos]
        golds = [(sample, _gold_ids(sample, chat)) for sample in illustrated if self._plays(sample)]
        usable = [(s, ids) for s, ids in golds if ids and not set(ids) & banned]
        usable = usable[: IN_DOUBT * recipe.blindness.samples]
        self._golds = [ids for _, ids in usable]
        true = [sample for sample, _ in usable]
        self._samples: dict[str, Sequence[Sample | None]] = {
            "true": true,
            "blank": [blanked(sample) for sample in true],
            "shuffled": swapped(true, (recipe.seed, STREAM)),
        }
        self._failure: str | None = None
        self._is_last, self._was_blind = is_last, False

    def start(self, step: int) -> None:
        """Take up the records of a resumed run; measure now where none says that this step is in order."""
        every = self._recipe.blindness.every
        # A run that was stopped here goes on only if it passes now, or may go on without.
        kept = keep_steps(self._path, step, lambda record: record["step"] < step or not record.get("stopped"))
        self._was_blind = bool(kept) and kept[-1].get("verdict") == "blind"
        if every and not self._golds:
            console.print("blindness guard: not applicable, no held-out sample has an image; data.val can name some")
        if not any(record["step"] == step for record in kept):
            self.check(step)
            self.stop_if_blind()

    def measure(self, step: int, result: StepResult) -> dict[str, float]:
        return self.check(step)

    def after_step(self, step: int, *, last: bool) -> None:
        self.stop_if_blind()

    def check(self, step: int) -> dict[str, float]:
        """The metrics of a measurement, or none where it is not due. `stop_if_blind` acts on it, once they are
        written."""
        if not self._is_due(step):
            return {}
        started = time.perf_counter()
        self._generator.load_weights(self._policy.steps_done)
        views = {kind: View() for kind in KINDS}
        mismatch: list[float] = []
        everyone, first = range(len(self._golds)), self._recipe.blindness.samples
        for places in filter(len, (everyone[:first], everyone[first:])):
            self._look(places, step, views, mismatch)
            found = judge(views, float(np.mean(mismatch)), self._recipe.dtype)
            if found.verdict in ("sees", "broken"):
                break
        metrics = found.metrics | {"time/blindness_s": time.perf_counter() - started}
        self._report(step, found, metrics)
        return metrics

    def _is_due(self, step: int) -> bool:
        every = self._recipe.blindness.every
        if not every or not self._golds:
            return False
        return step % every == 0 or (self._was_blind and self._is_last(step))

    def stop_if_blind(self) -> None:
        """Raises BlindModelError where the last measurement says so."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise BlindModelError(failure)

    def _look(self, places: range, step: int, views: dict[str, View], mismatch: list[float]) -> None:
        """Add some samples to the views, and to the mismatch of decoder and trainer."""
        for kind, view in views.items():
            samples = {i: sample for i in places if (sample := self._samples[kind][i]) is not None}
            # Built anew, so that nothing between pictures and model is left out.
            prompts = [self._policy.loaded.chat.prompt(sample) for sample in samples.values()]
            pairs = [(prompt, self._golds[i]) for i, prompt in zip(samples, prompts, strict=True)]
            gold = dict(zip(samples, self._score(self._after(pairs)), strict=True))
            completions = dict(zip(samples, self._decode(prompts, step, 0.0), strict=True))
            correct = dict(zip(samples, self._correct(list(samples.values()), [*completions.values()]), strict=True))
            view.gold += [gold.get(i, np.empty(0)) for i in places]
            view.completions += [completions.get(i) for i in places]
            view.correct += [correct.get(i, math.nan) for i in places]
            if kind == "true":
                mismatch += self._path_mismatch(prompts, [*completions.values()], step)

    def _plays(self, sample: Sample) -> bool:
        """Whether the environment can answer the calls of a trace."""
        try:
            self._after([(self._policy.loaded.chat.prompt(sample), [])] if self._environment else [])
        except CallError:
            return False
        return True

    def _after(self, pairs: Pairs) -> list[PackedSequence]:
        """The pairs as sequences; of traces with calls the conversations, made with the prompt's own pictures."""
        name, chat = self._environment, self._policy.loaded.chat
        if name is None:
            return given_responses(pairs)
        return given_conversations(
            [(p, played(p, p.sample.response or "", ENVIRONMENTS[name](), chat)) for p, _ in pairs]
        )

    def _score(self, sequences: list[PackedSequence]) -> list[np.ndarray]:
        """Log-probs [N] of the model's tokens in each sequence through the trainer's batches and forward."""
        rows = [np.empty(0)] * len(sequences)
        if not sequences:
            return rows
        batches = self._budget.batcher.batches(sequences)
        for batch, logprobs in zip(batches, self._policy.logprobs(batches), strict=True):
            owners, values = batch.sequence_ids[batch.loss_mask].cpu().numpy(), logprobs.float().cpu().numpy()
            for i in np.unique(owners):
                rows[i] = values[owners == i]
        assert [len(row) for row in rows] == [len(sequence.own_ids) for sequence in sequences]
        return rows

    def _decode(self, prompts: list[Prompt], step: int, temperature: float) -> list[Completion]:
        recipe = self._recipe
        if recipe.stage == "sft":
            length = min(recipe.sft.max_response_tokens, SFT_TOKENS)
        else:
            progress = step / recipe.algorithm.steps
            length = scheduled(recipe.rollout.length_schedule, progress, recipe.rollout.max_new_tokens)
        groups = self._generator.generate(prompts, 1, Sampling(length, temperature), (recipe.seed, STREAM, step))
        return [group[0] for group in groups]

    def _correct(self, samples: list[Sample], completions: list[Completion]) -> list[float]:
        """The accuracy of each, or NaN without a gold answer or a grade."""
        asked = [i for i, sample in enumerate(samples) if sample.answer]
        grades = self._rewarder.grade([(samples[i], completions[i].text) for i in asked])
        right = [math.nan] * len(samples)
        for i, grade in zip(asked, grades, strict=True):
            right[i] = grade.accuracy
        return right

    def _path_mismatch(self, prompts: list[Prompt], completions: list[Completion], step: int) -> list[float]:
        """For each sample the mean |decoder's - trainer's log-prob| of the decoded tokens."""
        temperature = 1.0 if self._recipe.stage == "sft" else self._recipe.rollout.temperature
        if temperature != 1.0:
            # The trainer scores at the rollout's temperature, greedy decoding reports temperature 1.
            completions = self._decode(prompts, step, temperature)
        # Of a conversation the first turn: the others follow more than the prompt.
        first = [c.token_ids[: c.replies[0].at] if c.replies else c.token_ids for c in completions]
        scored = self._score(given_responses(list(zip(prompts, first, strict=True))))
        pairs = zip(scored, completions, strict=True)
        return [float(np.abs(a - c.generator_logprobs[: len(a)]).mean()) for a, c in pairs]

    def _report(self, step: int, found: Findings, metrics: dict[str, float]) -> None:
        self._was_blind = found.verdict == "blind"
        untaught = self._was_blind and step == 0 and self._recipe.stage == "sft"
        stop = found.verdict == "broken" or (
            self._was_blind and self._recipe.blindness.action == "stop" and not untaught
        )
        about = {"step": step, "verdict": found.verdict, "failed": found.failed, "notes": found.notes, "stopped": stop}
        append_line(self._path, about | {key: finite_or_none(value) for key, value in sorted(metrics.items())})
        text = summary(step, found, self._recipe.dtype)
        self._failure = f"{text}. {FOLLOWING}" if stop else None
        if untaught:
            text = f"{text}. {self._not_yet()}"
        if not stop:
            style = "yellow" if found.failed else None
            say(text, style)

    def _not_yet(self) -> str:
        guard = self._recipe.blindness
        then = "stops the run then if nothing has changed" if guard.action == "stop" else "warns again if it must"
        look = f"the guard looks again after step {guard.every}, or at the end of a shorter run, and {then}"
        return f"SFT goes on: the model may yet learn to see such pictures; {look}. {OFF}"


def _gold_ids(sample: Sample, chat: Chat) -> list[int]:
    """The response to imitate where there is one, else the answer itself without an end: it need not end a turn."""
    if sample.response:
        return chat.response_ids(sample.response)
    return chat.response_ids(bare_answers(sample.answer, sample.choices)[0])[:-1]


def read_records(folder: Path) -> list[dict[str, Any]]:
    """What the guard of a run wrote; damaged lines are named and left out."""
    return read_steps(folder / FILE)
