"""Looks at a primary claim: after 3, 5 and 8 seeds, with an error that all looks together do not exceed.

Who looks three times at an interval of 5% a side is wrong more often than that. Lan and DeMets (1983) spend the error
by the share of the seeds that are there, like O'Brien and Fleming: next to nothing early, so that the last look keeps
its power. Letters: K looks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np

LOOKS = (3, 5, 8)
"""Seeds at which a primary claim is judged."""
_NODES = 400
"""Of the quadrature: the boundaries are right to 1e-4."""
_FAR = 9.0
"""Standard deviations below which nothing is."""


def look_at(seeds: int) -> int:
    """The look that so many seeds allow: the latest one that is complete; 0 before the first."""
    return max((look for look in LOOKS if look <= seeds), default=0)


@cache
def level_at(look: int, level: float) -> float:
    """The level of the interval at a look, where all looks together are to err no more often than one of `level`."""
    from scipy.special import ndtr

    bounds = boundaries([seeds / LOOKS[-1] for seeds in LOOKS], (1 - level) / 2)
    return 1 - 2 * float(ndtr(-bounds[LOOKS.index(look)]))


def spent(share: float, alpha: float) -> float:
    """The one-sided error that may be spent once this share of the seeds is there; all of `alpha` at 1."""
    from scipy.special import ndtr, ndtri

    return 2 - 2 * float(ndtr(ndtri(1 - alpha / 2) / math.sqrt(share)))


def boundaries(shares: Sequence[float], alpha: float) -> list[float]:
    """[K] z that crosses for the first time at each look with the probability that is spent there, one-sided.

    `shares` are rising, up to 1. z of a share is W(share) / sqrt(share) with W a Brownian motion, whose density over
    the paths that have not crossed is carried from look to look (Armitage, McPherson and Rowe 1969).
    """
    at, weight = np.zeros(1), np.ones(1)  # values of W and their probabilities: 0 at the beginning
    found: list[float] = []
    for before, share in pairwise([0.0, *shares]):
        step = math.sqrt(share - before)
        end = _crossing(at, weight, step, spent(share, alpha) - (spent(before, alpha) if before else 0.0))
        at, weight = _carry(at, weight, step, -_FAR * math.sqrt(share), end)
        found.append(end / math.sqrt(share))
    return found


def _crossing(at: np.ndarray, weight: np.ndarray, step: float, probability: float) -> float:
    """What W exceeds with this probability after a step of this standard deviation."""
    from scipy.optimize import brentq
    from scipy.special import ndtr

    return float(brentq(lambda end: float(weight @ ndtr((at - end) / step)) - probability, -_FAR, _FAR, xtol=1e-10))


def _carry(at: np.ndarray, weight: np.ndarray, step: float, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """W after a step, between `low` and `high`: its values and their probabilities, at Gauss-Legendre nodes."""
    nodes, node_weights = np.polynomial.legendre.leggauss(_NODES)
    to = (high - low) / 2 * nodes + (high + low) / 2
    density = np.exp(-(((to[:, None] - at) / step) ** 2) / 2) @ weight / (step * math.sqrt(2 * math.pi))
    return to, density * node_weights * (high - low) / 2
