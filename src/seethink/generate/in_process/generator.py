"""Samples from the weights under training, in their own process; prompt and images are encoded once per group.

Letters: P prompts, G completions per prompt, R rows being decoded, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from seethink.core.types import Completion, Prompt
from seethink.data.prompts import prompt_lengths
from seethink.generate.in_process.decode_batch import DecodeBatch
from seethink.generate.in_process.rules import LogitsRule, logits_rules
from seethink.generate.in_process.sampling import Draw, completion_uniforms, sample_tokens
from seethink.generate.in_process.stateful_batch import StatefulBatch
from seethink.generate.in_process.step import Step
from seethink.generate.protocol import Sampling
from seethink.models.forward import has_latent_attention, stateful_layers
from seethink.models.load import LoadedModel
from seethink.models.small_cpu.threads import threads_for

PREFILL_ROWS = 64
"""Prompts prefilled at once."""
MOST_BATCHES = 4
"""Prompts enter while rows are free, but a step's attention is one call per batch."""
Batch = DecodeBatch | StatefulBatch
DROPPED_SHARE = 8
"""Finished rows are dropped once they are 1 / DROPPED_SHARE of a batch: dropping copies keys and values."""


class InProcessGenerator:
    """Decodes with the trained model itself: no copy of the weights, nothing to synchronise."""

    def __init__(self, loaded: LoadedModel, *, max_rows: int = 256) -> None:
        self._loaded = loaded
        self._max_rows = max_rows
        self._step: Step | None = None
        self._rules: list[LogitsRule] = []
        layers = stateful_layers(loaded.model)
        self._stateful = bool(layers) or has_latent_attention(loaded.model)
        # Llama 4 counts columns, padding too, where it scales attention: its prompts enter without any.
        self._most_prompts = 1 if "chunked_attention" in layers else PREFILL_ROWS
        self._parameters = sum(p.numel() for p in loaded.model.parameters())
        self._running: list[_Answers] = []
        self.policy_version = 0
        self.on_draw: Callable[[Draw], None] | None = None
        """Called with what every step draws, for callers that show a response while it grows."""

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[Prompt],
        group_size: int,
        sampling: Sampling,
        seed: tuple[int, ...],
        progress: Callable[[int], None] | None = None,
        *,
        places: Sequence[int] | None = None,
    ) -> list[list[Completion]]:
        was_training = self._loaded.model.training
        self._loaded.model.eval()
        self._running, self._rules = [], logits_rules(sampling.rules, self._loaded)
        self._banned, self._stop = self._ids(self._loaded.banned_ids), self._ids(self._loaded.stop_ids)
        groups: list[list[Completion]] = [[] for _ in prompts]
        # Prompts of like length enter together, so that little is padded.
        lengths = prompt_lengths(prompts)
        waiting = deque(sorted(range(len(prompts)), key=lambda i: lengths[i]))
        logits: list[Tensor] = []
        with self._loaded.autocast():
            while waiting or self._running:
                while entering := self._entering(waiting, group_size):
                    batch = self._prefill([prompts[i] for i in entering], group_size)
                    numbers = entering if places is None else [places[i] for i in entering]
                    uniforms = _uniforms(seed, numbers, group_size, sampling.max_new_tokens)
                    self._running.append(_Answers(batch, entering, group_size, uniforms))
                    logits.append(batch.first_logits)
                with threads_for(self._rows * self._parameters):
                    draw = self._draw(torch.cat(logits), sampling)
                    ended, following = self._take(draw)
                    logits = [self._advance(torch.cat(following))] if following else []
                if self.on_draw is not None:
                    self.on_draw(draw)
                for answers in ended:
                    for place, completions in answers.collect(self._loaded, self._stop, self.policy_version):
                        groups[place] = completions
                    if progress is not None:
                        progress(len(answers.places))
        self._loaded.model.train(was_training)
        return groups

    def _prefill(self, prompts: list[Prompt], group_size: int) -> Batch:
        if self._stateful:
            return StatefulBatch(self._loaded, prompts, group_size)
        return DecodeBatch.prefill(self._loaded, prompts, group_size)

    def load_weights(self, version: int) -> None:
        """The weights are the trainer's own, so only their number is noted."""
        self.policy_version = version

    def close(self) -> None:
        self._running, self._step = [], None

    def _ids(self, token_ids: tuple[int, ...]) -> Tensor:
        return torch.tensor(token_ids, dtype=torch.long, device=self._loaded.device)

    @property
    def _rows(self) -> int:
        return sum(len(a.batch.rows) for a in self._running)

    def _entering(self, waiting: deque[int], group_size: int) -> list[int]:
        """The prompts that enter now: as many as fit, once a quarter of the rows is free."""
        free = self._max_rows - self._rows
        if self._running and (len(self._running) == MOST_BATCHES or free < max(group_size, self._max_rows // 4)):
            return []
        count = min(self._most_prompts, max(1, free // group_size), len(waiting))
        return [waiting.popleft() for _ in range(count)]

    def _draw(self, logits_RV: Tensor, sampling: Sampling) -> Draw:
        """One token per row."""
        logits_RV = logits_RV.index_fill(-1, self._banned, float("-inf"))
        if self._rules:
            drawn_RT = torch.cat([a.drawn[a.batch.rows] for a in self._running])
            lengths_R = torch.cat([torch.full_like(a.batch.rows, a.length) for a in self._running])
            for rule in self._rules:
                logits_RV = rule(logits_RV.float(), drawn_RT, lengths_R)
        return sample_tokens(logits_RV, torch.cat([a.uniforms() for a in self._running]), sampling)

    def _take(self, draw: Draw) -> tuple[list[_Answers], list[Tensor]]:
        """The batches that have ended, which leave, and the tokens that the others continue with."""
        stopped = torch.isin(draw.token_ids, self._stop)
        sizes = [len(a.batch.rows) for a in self._running]
        draws = zip(self._running, draw.split(sizes), stopped.split(sizes), strict=True)
        following = [answers.take(own, stop) for answers, own, stop in draws]
        ended = [a for a, ids in zip(self._running, following, strict=True) if ids is None]
        self._running = [a for a in self._running if a not in ended]
        return ended, [ids for ids in following if ids is not None]

    def _advance(self, token_ids: Tensor) -> Tensor:
        """[R, V] logits after these tokens."""
        batches = [a.batch for a in self._running]
        if self._stateful:
            parts = token_ids.split([len(batch.rows) for batch in batches])
            return torch.cat([batch.step(ids) for batch, ids in zip(_stateful(batches), parts, strict=True)])
        if self._step is None:
            self._step = Step(self._loaded, self._attend)
        logits_RV = self._step(token_ids, torch.cat([batch.positions for batch in batches]))
        for batch in _shared(batches):
            batch.advance()
        return logits_RV

    def _attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int) -> Tensor:
        """Every batch's rows over their own keys and values."""
        batches = _shared([a.batch for a in self._running])
        if len(batches) == 1:
            return batches[0].attend(layer, query, key, value, scale, window)
        sizes = [len(batch.rows) for batch in batches]
        parts = zip(batches, *(t.split(sizes) for t in (query, key, value)), strict=True)
        return torch.cat([batch.attend(layer, *part, scale, window) for batch, *part in parts])


def _shared(batches: list[Batch]) -> list[DecodeBatch]:
    return cast("list[DecodeBatch]", batches)


def _stateful(batches: list[Batch]) -> list[StatefulBatch]:
    return cast("list[StatefulBatch]", batches)


class _Answers:
    """A batch and what its rows have drawn, numbered by prompt and sample: [P * G]."""

    def __init__(self, batch: Batch, places: list[int], group_size: int, uniforms: Tensor) -> None:
        self.batch, self.places = batch, places
        device = batch.rows.device
        self._uniforms = uniforms.to(device)
        self.drawn = torch.full(uniforms.shape, -1, device=device)
        """[P * G, T] token ids, -1 where none was drawn; a row that has ended may be decoded on until it is dropped."""
        self._group_size = group_size
        self._draws: list[tuple[Tensor, Draw]] = []
        self._alive = torch.ones(len(uniforms), dtype=torch.bool, device=device)

    @property
    def length(self) -> int:
        return len(self._draws)

    def uniforms(self) -> Tensor:
        """[R] uniforms of the next token."""
        return self._uniforms[self.batch.rows, self.length]

    def take(self, draw: Draw, stopped: Tensor) -> Tensor | None:
        """Note what was drawn; returns the tokens to continue with, or None where every row has ended."""
        self.drawn[self.batch.rows, self.length] = draw.token_ids
        self._draws.append((self.batch.rows, draw))
        self._alive = self._alive & ~stopped
        alive, rows = int(self._alive.sum()), len(self._alive)
        if alive == 0 or self.length == self.drawn.shape[1]:
            return None
        if rows - alive < max(1, rows // DROPPED_SHARE):
            return draw.token_ids
        keep = self._alive.nonzero().squeeze(1)
        self._alive = self._alive[keep]
        self.batch.select(keep)
        return draw.token_ids[keep]

    def collect(
        self, loaded: LoadedModel, stop_ids: Tensor, policy_version: int
    ) -> Iterator[tuple[int, list[Completion]]]:
        """(place of the prompt, its completions) of every prompt; all tensors are moved to the CPU at once."""
        ids = self.drawn[:, : self.length]
        columns = [ids, *(self._column(name) for name in ("logprobs", "entropies", "watched"))]
        stops = torch.isin(ids, stop_ids)
        lengths = torch.where(stops.any(1), stops.int().argmax(1) + 1, (ids >= 0).sum(1))
        rows = zip(*(t.tolist() for t in (lengths, stops.any(1), *columns)), strict=True)
        made = [
            _completion(loaded, stopped, policy_version, *(values[:length] for values in rest))
            for length, stopped, *rest in rows
        ]
        for number, place in enumerate(self.places):
            yield place, made[number * self._group_size : (number + 1) * self._group_size]

    def _column(self, name: str) -> Tensor:
        """[P * G, T] of one by-product; [P * G, 0] where it was not requested."""
        draws = [(rows, getattr(draw, name)) for rows, draw in self._draws]
        if draws[0][1] is None:
            return torch.empty(len(self.drawn), 0)
        table = torch.zeros(len(self.drawn), len(draws), dtype=draws[0][1].dtype, device=self.drawn.device)
        for step, (rows, values) in enumerate(draws):
            table[rows, step] = values
        return table


def _uniforms(seed: tuple[int, ...], numbers: Sequence[int], group_size: int, limit: int) -> Tensor:
    """[P * G, T] random numbers of the prompts with these numbers."""
    pairs = [(number, sample) for number in numbers for sample in range(group_size)]
    return torch.from_numpy(np.stack([completion_uniforms(seed, *pair, limit) for pair in pairs]))


def _completion(
    loaded: LoadedModel,
    stopped: bool,
    policy_version: int,
    ids: list[int],
    logprobs: list[float],
    entropies: list[float],
    watched: list[float],
) -> Completion:
    text = loaded.chat.decode(ids[:-1] if stopped else ids)
    return Completion(ids, logprobs, entropies, text, not stopped, policy_version, watched_mass=watched)
