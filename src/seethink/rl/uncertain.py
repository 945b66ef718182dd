"""Which tokens of a gradient step get a policy gradient: all of them, or the most uncertain ones.

Letters: R responses, T tokens of a response.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from seethink.core.types import Completion


def token_advantages(completions: Sequence[Completion], share: float) -> list[list[float]]:
    """[R][T] Advantages of tokens: the response's, and 0 where a token's entropy is below the threshold.

    The threshold is that of the most uncertain `share` of the tokens of all graded responses of a gradient step. The
    denominators of the loss still count every token. Source: arXiv 2506.01939, equation 5 (its share is 0.2).

    Args:
        completions: Responses with an advantage and entropies; one without a reward (NaN) counts for nothing.
        share: Above 0; 1 keeps every token, and needs no entropies.
    """
    if share == 1:
        return [[c.advantage] * len(c.token_ids) for c in completions]
    graded = [np.asarray(c.entropies) for c in completions if c.reward == c.reward]
    entropies = np.concatenate([*graded, np.zeros(0)])
    kept = math.ceil(share * len(entropies))
    least = np.partition(entropies, -kept)[-kept] if kept else math.inf
    return [[c.advantage if entropy >= least else 0.0 for entropy in c.entropies] for c in completions]
