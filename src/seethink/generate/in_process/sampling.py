"""How a token is drawn: temperature, top-p and one uniform per token; entropies come as by-products.

Letters: R rows, T tokens, V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from seethink.generate.protocol import Sampling
from seethink.models.logprobs import entropy_of


class Draw(NamedTuple):
    """The tokens that one step drew; all fields are [R]."""

    token_ids: Tensor
    logprobs: Tensor
    entropies: Tensor
    watched: Tensor | None = None
    """Probability of the watched tokens together; None where nothing is watched."""

    def split(self, sizes: list[int]) -> list[Draw]:
        """The rows in turn, `sizes` of them each."""
        watched = [None] * len(sizes) if self.watched is None else self.watched.split(sizes)
        columns = (t.split(sizes) for t in (self.token_ids, self.logprobs, self.entropies))
        return [Draw(*columns) for columns in zip(*columns, watched, strict=True)]


def completion_uniforms(seed: tuple[int, ...], prompt: int, sample: int, count: int) -> np.ndarray:
    """[count] uniforms in [0, 1) of one completion: a function of (seed, prompt, sample) alone."""
    return np.random.default_rng([*seed, prompt, sample]).random(count)


def sample_tokens(logits_RV: Tensor, uniforms_R: Tensor, sampling: Sampling) -> Draw:
    """One token per row, by inverse transform of one uniform each.

    Log-probs and entropies are those of the whole distribution at the sampling temperature, before top-p; greedy
    decoding reports them at temperature 1.
    """
    logits_RV = logits_RV.float()
    if sampling.temperature not in (0, 1):
        logits_RV = logits_RV / sampling.temperature
    logp_RV = logits_RV.log_softmax(-1)
    probs_RV = logp_RV.exp()
    entropies = entropy_of(logp_RV, probs_RV)
    if sampling.temperature == 0:
        ids = logits_RV.argmax(-1)
    else:
        ids = _inverse_transform(_nucleus(probs_RV, sampling.top_p), uniforms_R)
    watched = probs_RV[:, list(sampling.watched_ids)].sum(-1) if sampling.watched_ids else None
    return Draw(ids, logp_RV.gather(-1, ids[:, None]).squeeze(-1), entropies, watched)


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
