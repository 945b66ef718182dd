"""Sampling from the weights that are trained: in-process, prompt and image encoded once per group.

Letters: P prompts, G completions per prompt, R rows being decoded (<= P * G), T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from seethink.data.groups import left_pad, next_positions
from seethink.data.prompts import prompt_lengths
from seethink.infer.cache import GroupCache
from seethink.infer.sampling import Draw, Sampling, completion_uniforms, sample_tokens
from seethink.models.attention import grouped_queries
from seethink.models.forward import hidden_states, output_head
from seethink.models.load import LoadedModel
from seethink.models.parts import family_of
from seethink.types import Completion, Prompt

PREFILL_ROWS = 64
"""Prompts prefilled at once."""


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
        draws: list[tuple[Tensor, Draw]] = []
        drawn_RT = torch.full(uniforms.shape, -1, device=self._loaded.device)
        for step in range(sampling.max_new_tokens):
            logits, rows = state.logits, state.rows
            for rule in sampling.rules:
                logits = rule(logits.float(), drawn_RT[rows], torch.full_like(rows, step))
            draw = sample_tokens(logits, uniforms_RT[rows, step], sampling)
            drawn_RT[rows, step] = draw.token_ids
            draws.append((rows, draw))
            if not state.advance(draw.token_ids, last=step + 1 == sampling.max_new_tokens):
                break
        return self._collect(draws, len(uniforms))

    def _collect(self, draws: list[tuple[Tensor, Draw]], count: int) -> list[Completion]:
        """Per-step draws -> per-row completions, one transfer for all."""
        shape, device = (count, len(draws)), self._loaded.device
        ids = torch.full(shape, -1, device=device)
        logps, entropies, watched = (torch.zeros(shape, device=device) for _ in range(3))
        for step, (rows, draw) in enumerate(draws):
            ids[rows, step] = draw.token_ids
            logps[rows, step] = draw.logprobs
            entropies[rows, step] = draw.entropies
            if draw.watched is not None:
                watched[rows, step] = draw.watched
        lengths = (ids >= 0).sum(1).tolist()
        watching = bool(draws) and draws[0][1].watched is not None
        columns = [t.tolist() for t in (ids, logps, entropies, watched[:, : len(draws) * watching])]
        packed = zip(lengths, *columns, strict=True)
        return [self._completion(n, *(values[:n] for values in rest)) for n, *rest in packed]

    def _completion(
        self, length: int, ids: list[int], logps: list[float], entropies: list[float], watched: list[float]
    ) -> Completion:
        stopped = bool(ids) and ids[-1] in self._loaded.stop_ids
        text = self._loaded.chat.decode(ids[:-1] if stopped else ids)
        made = Completion(ids, logps, entropies, text, not stopped, self.policy_version)
        made.watched_mass = watched
        return made


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
