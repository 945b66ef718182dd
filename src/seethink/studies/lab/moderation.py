"""Variances over seeds, shrunk towards what the claims on one scale have in common (Smyth 2004, as in limma).

A variance over three seeds has two degrees of freedom and may be ten times too small. Claims on one scale vary alike:
if their true variances s^2 are such that d0 s0^2 / s^2 is chi-square with d0 degrees of freedom, then the best guess of
one is (d0 s0^2 + d variance) / (d0 + d), and it has d0 + d degrees of freedom. Letters: C claims.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

FEWEST = 5
"""Claims on a scale, below which their variances are left as they are."""


@dataclass(frozen=True)
class Prior:
    """What the claims on a scale have in common."""

    df: float
    """d0: 0 leaves variances as they are; infinity makes all of them `variance`."""
    variance: float
    """s0^2"""
    most_df: float = math.inf
    """Degrees of freedom of all claims together: no guess is better than all that was measured."""

    def shrink(self, variance: float, df: float) -> tuple[float, float]:
        """(the variance guessed, its degrees of freedom). Values without any spread stay so."""
        if not self.df or not variance > 0:
            return variance, df
        shrunk = (self.df * self.variance + df * variance) / (self.df + df) if math.isfinite(self.df) else self.variance
        return shrunk, min(self.df + df, max(self.most_df, df))


NO_PRIOR = Prior(0.0, math.nan)


def fit_priors(samples: Iterable[tuple[str, Sequence[float]]]) -> dict[str, Prior]:
    """The prior of each scale, given (scale, the effects of the seeds) of each claim."""
    found: dict[str, list[tuple[float, int]]] = {}
    for scale, values in samples:
        if len(values) > 1 and all(map(math.isfinite, values)):
            found.setdefault(scale, []).append((float(np.var(values, ddof=1)), len(values) - 1))
    return {scale: fit_prior(*zip(*pairs, strict=True)) for scale, pairs in found.items()}


def fit_prior(variances: Sequence[float], dfs: Sequence[float]) -> Prior:
    """By the mean and variance of log variances (Smyth 2004, section 6.2), given [C] variances and their degrees.

    Claims without any spread do not count. With fewer than `FEWEST` others there is no prior; where the variances
    differ by no more than chance, all claims have the same one.
    """
    from scipy.special import digamma, polygamma

    pairs = [(v, d) for v, d in zip(variances, dfs, strict=True) if v > 0]
    if len(pairs) < FEWEST:
        return NO_PRIOR
    variance_C, df_C = np.array(pairs, dtype=float).T
    logs_C = np.log(variance_C) - digamma(df_C / 2) + np.log(df_C / 2)
    mean, pooled = float(logs_C.mean()), float(df_C.sum())
    beyond_chance = float(logs_C.var(ddof=1) - polygamma(1, df_C / 2).mean())
    if beyond_chance <= 0:
        return Prior(math.inf, math.exp(mean), pooled)
    half = trigamma_inverse(beyond_chance)
    return Prior(2 * half, math.exp(mean + float(digamma(half)) - math.log(half)), pooled)


def trigamma_inverse(value: float) -> float:
    """y with trigamma(y) = value > 0, which lies between 1 / value and 1 / value + 1/2.

    For 1 / y < trigamma(y) < 1 / (y - 1/2).
    """
    from scipy.optimize import brentq
    from scipy.special import polygamma

    return float(brentq(lambda y: polygamma(1, y) - value, 1 / value, 1 / value + 0.5, rtol=1e-12))
