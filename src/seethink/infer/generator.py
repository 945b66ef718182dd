"""Sampling from the weights that are trained: in-process, prompt and image encoded once per group.

Letters: P prompts, G completions per prompt, R rows being decoded (<= P * G), T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from seethink.data.groups import left_pad, next_positions
from seethink.data.prompts import prompt_lengths
from seethink.infer.cache import GroupCache
from seethink.models.attention import grouped_queries
from seethink.models.forward import hidden_states, output_head
from seethink.models.load import LoadedModel
from seethink.models.parts import family_of
from seethink.types import Completion, Prompt

PREFILL_ROWS = 64
"""Prompts prefilled at once."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw tokens. `temperature=0` is greedy."""

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0


class Generator(Protocol):
    """What a rollout needs of a decoder; it does not matter where the decoder runs."""

    def generate(
        self,
        prompts: Sequence[Prompt],
        group_size: int,
        sampling: Sampling,
        seed: tuple[int, ...],
        progress: Callable[[int], None] | None = None,
    ) -> list[list[Completion]]:
        """`group_size` completions of each prompt, [P][G]."""
        ...


def completion_uniforms(seed: tuple[int, ...], prompt: int, sample: int, count: int) -> np.ndarray:
    """[count] uniforms in [0, 1) of one completion: a function of (seed, prompt, sample) alone."""
    return np.random.default_rng([*seed, prompt, sample]).random(count)


class InProcessGenerator:
    """Decodes with the trained model itself: no copy of the weights, nothing to synchronise."""

    def __init__(self, loaded: LoadedModel, *, max_rows: int = 256) -> None:
        self._loaded = loaded
        self._max_rows = max_rows
        self.policy_version = 0

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[Prompt],
        group_size: int,
        sampling: Sampling,
        seed: tuple[int, ...],
        progress: Callable[[int], None] | None = None,
    ) -> list[list[Completion]]:
        was_training = self._loaded.model.training
        self._loaded.model.eval()
        groups: list[list[Completion]] = [[] for _ in prompts]
        chunk = min(PREFILL_ROWS, max(1, self._max_rows // group_size))
        # Prompts of like length share a chunk, so that little is padded.
        lengths = prompt_lengths(prompts)
        order = sorted(range(len(prompts)), key=lambda i: lengths[i])
        for start in range(0, len(order), chunk):
            places = order[start : start + chunk]
            uniforms = np.stack(
                [
                    completion_uniforms(seed, place, sample, sampling.max_new_tokens)
                    for place in places
                    for sample in range(group_size)
                ]
            )
            with self._loaded.autocast(), grouped_queries(self._loaded.model):
                rows = self._decode([prompts[i] for i in places], group_size, sampling, uniforms)
            for number, place in enumerate(places):
                groups[place] = rows[number * group_size : (number + 1) * group_size]
            if progress is not None:
                progress(len(places))
        self._loaded.model.train(was_training)
        return groups

    def _decode(
        self, prompts: list[Prompt], group_size: int, sampling: Sampling, uniforms: np.ndarray
    ) -> list[Completion]:
        """One completion per row of `uniforms` [P * G, T], prompts in order."""
        state = _Rows.prefill(self._loaded, prompts, group_size, sampling.max_new_tokens)
        uniforms_RT = torch.from_numpy(uniforms).to(self._loaded.device)
        draws: list[_Draw] = []
        for step in range(sampling.max_new_tokens):
            draw = sample_tokens(state.logits, uniforms_RT[state.rows, step], sampling)
            draws.append(_Draw(state.rows, *draw))
            if not state.advance(draw[0], last=step + 1 == sampling.max_new_tokens):
                break
        return self._collect(draws, len(uniforms))

    def _collect(self, draws: list[_Draw], count: int) -> list[Completion]:
        """Per-step draws -> per-row completions, one transfer for all."""
        shape, device = (count, len(draws)), self._loaded.device
        ids = torch.full(shape, -1, device=device)
        logps, entropies = torch.zeros(shape, device=device), torch.zeros(shape, device=device)
        for step, draw in enumerate(draws):
            ids[draw.rows, step] = draw.token_ids
            logps[draw.rows, step] = draw.logprobs
            entropies[draw.rows, step] = draw.entropies
        lengths = (ids >= 0).sum(1).tolist()
        packed = zip(lengths, ids.tolist(), logps.tolist(), entropies.tolist(), strict=True)
        return [self._completion(n, *(values[:n] for values in rest)) for n, *rest in packed]

    def _completion(self, length: int, ids: list[int], logps: list[float], entropies: list[float]) -> Completion:
        stopped = bool(ids) and ids[-1] in self._loaded.stop_ids
        text = self._loaded.chat.decode(ids[:-1] if stopped else ids)
        return Completion(ids, logps, entropies, text, not stopped, self.policy_version)


@dataclass(slots=True)
class _Draw:
    """What one step drew for the rows still running; all [R]."""

    rows: Tensor
    token_ids: Tensor
    logprobs: Tensor
    entropies: Tensor


def sample_tokens(logits_RV: Tensor, uniforms_R: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor, Tensor]:
    """(token ids, log-probs, entropies), each [R], by inverse transform of one uniform per row.

    Log-probs and entropies are those of the whole distribution at the sampling temperature, before top-p; greedy
    decoding reports them at temperature 1.
    """
    logp_RV = (logits_RV.float() / (sampling.temperature or 1.0)).log_softmax(-1)
    probs_RV = logp_RV.exp()
    entropies = -(probs_RV * logp_RV.clamp_min(torch.finfo(torch.float32).min)).sum(-1)
    if sampling.temperature == 0:
        ids = logits_RV.argmax(-1)
    else:
        ids = _inverse_transform(_nucleus(probs_RV, sampling.top_p), uniforms_R)
    return ids, logp_RV.gather(-1, ids[:, None]).squeeze(-1), entropies


def _nucleus(probs_RV: Tensor, top_p: float) -> Tensor:
    """Zero outside the smallest set of tokens whose probability reaches top_p."""
    if top_p >= 1:
        return probs_RV
    ranked, order = probs_RV.sort(-1, descending=True)
    outside = ranked.cumsum(-1) - ranked >= top_p
    return torch.zeros_like(probs_RV).scatter(-1, order, ranked.masked_fill(outside, 0.0))


def _inverse_transform(probs_RV: Tensor, uniforms_R: Tensor) -> Tensor:
    """The token in whose slice of the cumulative distribution the uniform falls; never one of probability 0."""
    cumulative = probs_RV.double().cumsum(-1)
    drawn = uniforms_R.to(cumulative)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, drawn, right=True).squeeze(-1).clamp_max(probs_RV.shape[-1] - 1)


class _Rows:
    """The rows being decoded: cache, mask, positions and the next logits. Finished rows leave."""

    def __init__(self, loaded: LoadedModel, cache: GroupCache, mask: Tensor, positions: Tensor, logits: Tensor) -> None:
        self._loaded, self._cache, self._mask = loaded, cache, mask
        self._positions = positions
        self._rope = family_of(loaded.model).positions == "M-RoPE"
        self.rows = torch.arange(len(mask), device=mask.device)
        """Numbers of the rows still running."""
        self.logits = self._allowed(logits)

    @classmethod
    def prefill(cls, loaded: LoadedModel, prompts: list[Prompt], group_size: int, max_new_tokens: int) -> _Rows:
        """Left-padded prompts once through the model, then every row `group_size` times."""
        prefix = left_pad(prompts, loaded.chat.pad_id).to(loaded.device)
        cache = GroupCache(group_size, max_new_tokens)
        mask = prefix.attention_mask
        hidden = hidden_states(
            loaded.model, prefix.input_ids, prefix.position_ids, prefix.mm_kwargs, attention_mask=mask, cache=cache
        )
        logits = output_head(loaded.model)(hidden[:, -1])
        cache.fork()
        following = next_positions(prefix)
        return cls(loaded, cache, *(t.repeat_interleave(group_size, 0) for t in (mask, following, logits)))

    def advance(self, token_ids: Tensor, *, last: bool) -> bool:
        """Feed the drawn tokens and compute the next logits; False when no row runs on."""
        running = ~torch.isin(token_ids, torch.tensor(self._loaded.stop_ids, dtype=torch.long, device=token_ids.device))
        if last or not running.any():
            return False
        if not running.all():
            self._keep(running)
            token_ids = token_ids[running]
        self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=1)
        # Without padding every key is visible and the model needs no mask.
        padded = bool((self._mask == 0).any())
        positions = self._positions[:, None]
        hidden = hidden_states(
            self._loaded.model,
            token_ids[:, None],
            positions.expand(3, -1, -1) if self._rope else positions,
            {},
            attention_mask=self._mask if padded else None,
            cache=self._cache,
        )
        self._positions = self._positions + 1
        self.logits = self._allowed(output_head(self._loaded.model)(hidden[:, -1]))
        return True

    def _keep(self, running: Tensor) -> None:
        self.rows, self._mask, self._positions = (
            self.rows[running],
            self._mask[running],
            self._positions[running],
        )
        self._cache.select(running)

    def _allowed(self, logits_RV: Tensor) -> Tensor:
        banned = torch.tensor(self._loaded.banned_ids, dtype=torch.long, device=logits_RV.device)
        return logits_RV.index_fill(-1, banned, float("-inf"))
