"""Which tokens of a gradient step get a policy gradient: all of them, or those of the highest entropy or image KL.

Letters: R responses, T tokens of a response.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from seethink.core.types import Completion

TokenMeasure = Literal["entropy", "image"]


def token_advantages(
    completions: Sequence[Completion], share: float, measure: TokenMeasure = "entropy"
) -> list[list[float]]:
    """[R][T] Advantages of tokens: the response's, and 0 where a token's measure is below the threshold.

    The threshold is that of the highest `share` of the tokens of all graded responses of a gradient step. The
    denominators of the loss still count every token. Sources: for entropies arXiv 2506.01939, equation 5 (its share is
    0.2); for the dependence on the image the token filter of arXiv 2510.09285, without its weights of whole responses.

    Args:
        completions: Responses with an advantage and the measure; one without a reward (NaN) counts for nothing.
        share: Above 0; 1 keeps every token, and needs no measure.
        measure: `entropy` or `image`: `Completion.entropies` or `Completion.image_kl`.
    """
    if share == 1:
        return [[c.advantage] * len(c.token_ids) for c in completions]
    measured = [c.entropies if measure == "entropy" else c.image_kl for c in completions]
    graded = [np.asarray(m) for m, c in zip(measured, completions, strict=True) if c.reward == c.reward]
    values = np.concatenate([*graded, np.zeros(0)])
    kept = math.ceil(share * len(values))
    least = np.partition(values, -kept)[-kept] if kept else math.inf
    return [[c.advantage if v >= least else 0.0 for v in m] for m, c in zip(measured, completions, strict=True)]
