"""Supervised fine-tuning on verified traces. Cold start trains every part; connector-only tuning is the same step
with `parts.train = ["connector"]` (paper 3.2, 3.4)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from itertools import compress
from typing import Any

import torch
from torch import Tensor

from seethink.config import EnvironmentName, SftConfig
from seethink.core.types import Completion, Microbatch, Prompt, Sample
from seethink.data.chat import Chat
from seethink.data.mixture import Weights
from seethink.data.prompts import KEPT_BYTES, PromptList
from seethink.dist.agreement import joined_rows
from seethink.environments.calls import CallError
from seethink.environments.make import ENVIRONMENTS
from seethink.generate.conversations import played, played_length
from seethink.models.scorer import TokenOutputs
from seethink.rl.batching import Batcher, given_conversations
from seethink.rl.losses import sft_loss
from seethink.rl.packing import PackedSequence
from seethink.train.entropies import EntropyProbe
from seethink.train.faults import offenders, sample_records
from seethink.train.memory import TokenBudget
from seethink.train.policy import Policy
from seethink.train.step import Record, StepResult

VALIDATED_AT_ONCE = 512
"""Traces whose pixels exist at one time."""


class Traces:
    """Prompts and the responses to imitate, tokenized; images are processed when a step asks for them."""

    def __init__(
        self,
        samples: list[Sample],
        chat: Chat,
        max_length: int,
        environment: EnvironmentName | None = None,
        *,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        """Traces over `max_length` are left out, and with an environment those whose calls it cannot answer."""
        self._chat, self._environment = chat, environment
        limit = max_length if chat.context is None else min(max_length, chat.context)
        fits = [0 < length <= limit for length in map(self._length, samples)]
        self._prompts = PromptList(list(compress(samples, fits)), chat, kept_bytes=kept_bytes)

    def __len__(self) -> int:
        return len(self._prompts)

    def batch(self, places: Iterable[int]) -> list[PackedSequence]:
        """The traces at these places; every token of the model's has the same weight."""
        return given_conversations([(prompt, self._played(prompt)) for prompt in (self._prompts[i] for i in places)])

    def _played(self, prompt: Prompt) -> Completion:
        """The trace, with what the environment answers to its calls."""
        trace = prompt.sample.response or ""
        if self._environment is None:
            return Completion(self._chat.response_ids(trace), [], [], trace, False, 0)
        return played(prompt, trace, ENVIRONMENTS[self._environment](), self._chat)

    def _length(self, sample: Sample) -> int:
        """Tokens of prompt and trace; 0 where a call cannot be answered."""
        if self._environment is None:
            return self._chat.prompt_length(sample) + len(self._chat.response_ids(sample.response or ""))
        try:
            return played_length(sample, sample.response or "", ENVIRONMENTS[self._environment](), self._chat)
        except CallError:
            return 0

    def samples(self, places: Iterable[int]) -> list[Sample]:
        return [self._prompts.samples[i] for i in places]


class Sft:
    """The steps of supervised fine-tuning: every epoch takes the traces in another order."""

    def __init__(
        self,
        policy: Policy,
        traces: Traces,
        sft: SftConfig,
        budget: TokenBudget,
        probe: EntropyProbe,
        *,
        seed: int,
        weights: Weights = Weights(),  # noqa: B008
    ) -> None:
        self.policy, self._traces, self._budget, self._probe = policy, traces, budget, probe
        self._batch_size, self._weights = sft.batch_size, weights
        self._draws = weights.draws(traces.samples(range(len(traces))), seed)
        self._steps_per_epoch = math.ceil(len(traces) / sft.batch_size)
        self.total_steps = total_steps(len(traces), sft)

    def step(self, number: int) -> StepResult:
        """One optimizer step on the next traces."""
        epoch, batch = divmod(number, self._steps_per_epoch)
        places = self._draws.epoch(epoch)[batch * self._batch_size : (batch + 1) * self._batch_size]
        result = self.learn(places)
        result.metrics |= self._weights.counted(self._traces.samples(places))
        return result

    def learn(self, places: list[int]) -> StepResult:
        """`update` on the traces at these places, with micro-batches that fit into memory."""
        sequences = self._traces.batch(places)
        result = self._budget.run(
            lambda batcher: update(self.policy, batcher, sequences, self._probe),
            self.policy.forget_gradients,
            longest=max(map(len, sequences)),
        )
        result.blame = lambda: self._records(places, sequences)
        return result

    def state(self) -> dict[str, Any]:
        return {}

    def _records(self, places: list[int], sequences: list[PackedSequence]) -> list[Record]:
        batches = self._budget.batcher.batches(sequences)
        return sample_records(self._traces.samples(places), offenders(batches, self.policy.logprobs(batches)))


def total_steps(traces: int, sft: SftConfig) -> int:
    """Optimizer steps of the whole stage."""
    return sft.epochs * math.ceil(traces / sft.batch_size)


def update(policy: Policy, batcher: Batcher, sequences: list[PackedSequence], probe: EntropyProbe) -> StepResult:
    """One optimizer step."""
    started = time.perf_counter()
    forced = probe.teacher_forced([s.own_ids for s in sequences])
    tokens = policy.forward_backward(policy.deal(batcher, sequences), forced.watch(response_loss))
    stepped, fault = policy.optimizer_step()
    seconds = time.perf_counter() - started
    trained = sum(len(s) for s in sequences)
    metrics = {
        "loss/total": float(tokens["loss/total"].sum()),
        **stepped,
        "time/train_s": seconds,
        "throughput/trained_tokens_per_s": trained / seconds,
    }
    return StepResult(metrics, forced.tokens(tokens), [fault] if fault else [])


def response_loss(outputs: TokenOutputs, batch: Microbatch) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy of the responses' tokens, for `Policy.forward_backward`."""
    return sft_loss(outputs.logprobs, batch.weights[batch.loss_mask]), {}


def validation_loss(policy: Policy, batcher: Batcher, traces: Traces) -> float:
    """Mean cross-entropy over the validation responses' tokens."""
    logprobs: list[Tensor] = []
    for start in range(0, len(traces), VALIDATED_AT_ONCE):
        sequences = traces.batch(range(start, min(start + VALIDATED_AT_ONCE, len(traces))))
        batches = policy.deal(batcher, sequences)
        logprobs += [found for batch, found in zip(batches, policy.logprobs(batches), strict=True) if not batch.idle]
    own = {"logprobs": torch.cat(logprobs)} if logprobs else {}
    return -float(joined_rows(own)["logprobs"].mean())
