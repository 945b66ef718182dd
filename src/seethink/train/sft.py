"""Supervised fine-tuning on verified traces. Cold start trains every part; connector-only tuning is the same loop
with `parts.train = ["connector"]` (paper 3.2, 3.4)."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import compress
from pathlib import Path

import torch
from torch import Tensor

from seethink.coldstart.filters import FilterReport, verify_traces
from seethink.config import Recipe
from seethink.core.console import console, progress_bar
from seethink.core.types import Microbatch, Prompt, Sample
from seethink.data.chat import Chat
from seethink.data.lengths import load_fitting
from seethink.data.order import refuse_changed_data, shuffled
from seethink.data.prompts import PromptList
from seethink.data.quarantine import FILE, DataError, Quarantine
from seethink.generate.make import make_generator
from seethink.models.load import LoadedModel, load_recipe_model
from seethink.models.scorer import TokenOutputs
from seethink.rewards.golds import read_gold
from seethink.rewards.rewarder import Rewarder
from seethink.rl.losses import sft_loss
from seethink.rl.packing import PackedSequence, pack
from seethink.runs.folder import is_allowed
from seethink.train.hooks.bad_steps import Record, offenders, sample_records
from seethink.train.hooks.blindness import Pairs, watch
from seethink.train.hooks.entropy import EntropyLog
from seethink.train.policy import Policy
from seethink.train.run import Run, prepare_folder

VALIDATED_AT_ONCE = 512
"""Traces whose pixels exist at one time."""


@dataclass
class EarlyStopping:
    """The best validation loss so far, and how many validations ago it was."""

    best: float = math.inf
    best_step: int = 0
    waited: int = 0

    def is_better(self, loss: float, step: int) -> bool:
        if loss < self.best:
            self.best, self.best_step, self.waited = loss, step, 0
            return True
        self.waited += 1
        return False


class Traces:
    """Prompts and the responses to imitate, tokenized; images are processed when a step asks for them."""

    def __init__(self, samples: list[Sample], chat: Chat, max_length: int) -> None:
        responses = [chat.response_ids(sample.response or "") for sample in samples]
        fits = [chat.prompt_length(s) + len(r) <= max_length for s, r in zip(samples, responses, strict=True)]
        self._responses = list(compress(responses, fits))
        self._prompts = PromptList(list(compress(samples, fits)), chat)

    def __len__(self) -> int:
        return len(self._responses)

    def batch(self, places: Iterable[int]) -> list[PackedSequence]:
        return [_sequence(self._prompts[i], self._responses[i]) for i in places]

    def samples(self, places: Iterable[int]) -> list[Sample]:
        return [self._prompts.samples[i] for i in places]


def train_sft(recipe: Recipe, *, resume: bool = False, allow: Sequence[str] = ()) -> Path:
    """Run the stage; returns the checkpoint with the best validation loss."""
    checkpoint = prepare_folder(recipe, resume=resume, allow=allow)
    loaded = load_recipe_model(recipe)
    same_data = checkpoint is not None and not is_allowed("data", allow)
    train, val, held_out = _load(recipe, loaded.chat, resuming=same_data)
    sft = recipe.sft
    steps_per_epoch = math.ceil(len(train) / sft.batch_size)
    with Run(recipe, loaded, sft.epochs * steps_per_epoch, checkpoint) as run:
        entropy = EntropyLog(recipe, loaded, run.state.get("entropy_threshold"))
        stopping = EarlyStopping(**run.state.get("stopping", {}))
        best = run.folder / "best"
        guard = watch(run, held_out, make_generator(loaded), lambda pairs: pair_batches(pairs, recipe, loaded))
        with progress_bar(recipe.name, run.total_steps, run.step) as advance:
            while run.step < run.total_steps and stopping.waited < sft.patience:
                epoch, batch = divmod(run.step, steps_per_epoch)
                order = shuffled(len(train), recipe.seed, epoch)[batch * sft.batch_size : (batch + 1) * sft.batch_size]
                metrics = train_on(run, train, order, entropy)
                done = run.step + 1
                if done % sft.val_every == 0 or done == run.total_steps:
                    metrics["loss/val"] = validation_loss(run.policy, recipe, val)
                    before = replace(stopping)
                    if stopping.is_better(metrics["loss/val"], done) and not run.keep_best(best):
                        # The folder holds the best of before, and so does the record.
                        stopping.best, stopping.best_step = before.best, before.best_step
                run.log(metrics | guard.check(done), entropy.record)
                run.save_if_due({"stopping": asdict(stopping), **entropy.state})
                guard.stop_if_blind()
                advance(1, f"loss {metrics['loss/total']:.3f}  best val {stopping.best:.3f}")
        run.finish({"best_val": stopping.best, "best_step": stopping.best_step}, best)
    return best


def train_on(run: Run, traces: Traces, places: list[int], entropy: EntropyLog) -> dict[str, float]:
    """One optimizer step on some of the traces, with micro-batches that fit."""
    sequences, policy = traces.batch(places), run.policy
    metrics = run.fit(lambda recipe: sft_step(policy, recipe, sequences, entropy), longest=max(map(len, sequences)))
    faults, policy.faults = policy.faults, []

    def records() -> list[Record]:
        batches = microbatches(sequences, run.recipe, run.loaded)
        return sample_records(traces.samples(places), offenders(batches, policy.score(batches)))

    return metrics | run.bad_steps.settle(run.step + 1, faults, records)


def _load(recipe: Recipe, chat: Chat, *, resuming: bool) -> tuple[Traces, Traces, list[Sample]]:
    """Verified training and validation traces, and the latter's samples; data.json says what was dropped."""
    data, seed = recipe.data, recipe.seed
    quarantine = Quarantine(Path(recipe.out) / FILE)
    train = load_fitting(data.train, "train", data.train_size, seed, chat, data, quarantine, golds=read_gold)
    source, size = data.val or data.train, data.val_size or max(1, len(train) // 20)
    if data.val is None and not source.startswith("world:"):
        train, val = train[size:], train[:size]
    else:
        val = load_fitting(source, "val", size, seed, chat, data, quarantine, golds=read_gold)
    refuse_changed_data(Path(recipe.out), [*train, *val], resuming=resuming)
    rewarder = Rewarder(recipe.reward)
    kept, report = verify_traces(train, recipe.sft, rewarder.grade, chat.response_ids)
    kept_val, _ = verify_traces(val, recipe.sft, rewarder.grade, chat.response_ids)
    traces, val_traces = (Traces(samples, chat, recipe.sft.max_length) for samples in (kept, kept_val))
    if len(traces) < len(kept):
        report.dropped["prompt_too_long"] = len(kept) - len(traces)
    _report(Path(recipe.out), report)
    if not (len(traces) and len(val_traces)):
        raise DataError(f"no trace of {data.train!r} is left after verification: {report.dropped}")
    return traces, val_traces, kept_val


def _report(folder: Path, report: FilterReport) -> None:
    (folder / "data.json").write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
    reasons = ", ".join(f"{reason} {count}" for reason, count in report.dropped.items())
    console.print(f"traces: {report.kept} of {report.read} kept" + (f"; dropped: {reasons}" if reasons else ""))


def _sequence(prompt: Prompt, response_ids: list[int]) -> PackedSequence:
    return PackedSequence(prompt.input_ids, response_ids, prompt.mm_kwargs, rope_ids=prompt.rope_ids)


def pair_batches(pairs: Pairs, recipe: Recipe, loaded: LoadedModel) -> list[Microbatch]:
    return microbatches([_sequence(*pair) for pair in pairs], recipe, loaded)


def microbatches(sequences: list[PackedSequence], recipe: Recipe, loaded: LoadedModel) -> list[Microbatch]:
    """Packed, every response token weighted equally: the loss is the mean over the step's tokens."""
    tokens = sum(len(s.response_ids) for s in sequences)
    for index, sequence in enumerate(sequences):
        sequence.weight, sequence.index = 1.0 / tokens, index
    packed = pack(
        sequences,
        pack_length=loaded.pack_length(recipe.optim.pack_length),
        micro_tokens=recipe.optim.tokens_on(loaded.device.type),
        pad_id=loaded.chat.pad_id,
    )
    return [batch.to(loaded.device) for batch in packed]


def sft_step(policy: Policy, recipe: Recipe, sequences: list[PackedSequence], entropy: EntropyLog) -> dict[str, float]:
    """One optimizer step."""
    started = time.perf_counter()
    batches = microbatches(sequences, recipe, policy.loaded)
    forced = entropy.teacher_forced([s.response_ids for s in sequences])
    tokens = policy.forward_backward(batches, forced.watch(response_loss))
    metrics = {"loss/total": float(tokens["loss/total"].sum())}
    metrics |= entropy.step(forced.tokens(tokens))
    metrics |= policy.optimizer_step()
    seconds = time.perf_counter() - started
    trained = sum(len(s) for s in sequences)
    return metrics | {"time/train_s": seconds, "throughput/trained_tokens_per_s": trained / seconds}


def response_loss(outputs: TokenOutputs, batch: Microbatch) -> tuple[Tensor, dict[str, Tensor]]:
    return sft_loss(outputs.logprobs, batch.weights[batch.loss_mask]), {}


def validation_loss(policy: Policy, recipe: Recipe, traces: Traces) -> float:
    """Mean cross-entropy over the validation responses' tokens."""
    logprobs: list[Tensor] = []
    for start in range(0, len(traces), VALIDATED_AT_ONCE):
        sequences = traces.batch(range(start, min(start + VALIDATED_AT_ONCE, len(traces))))
        logprobs += policy.score(microbatches(sequences, recipe, policy.loaded))
    return -float(torch.cat(logprobs).mean())
