"""Judges a values.json of `seethink lab report` again, with NumPy and SciPy alone: nothing of seethink is imported.

python tests/helpers/judge_values.py lab/values.json
"""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import optimize, special, stats

LOOKS = (3, 5, 8)


def main(path: Path) -> list[dict[str, Any]]:
    rows = []
    for one in json.loads(path.read_text())["experiments"]:
        for claim, found in zip(one["experiment"]["claims"], one["claims"], strict=True):
            rows.append(
                {
                    "claim": claim,
                    "failed": any(failed(one, name, bool(found["seeds"])) for name in claim["checks"]),
                    **sample(claim, found),
                }
            )
    priors = {
        scale: prior([r for r in rows if r["scale"] == scale and r["s2"] > 0]) for scale in {r["scale"] for r in rows}
    }
    for row in rows:
        interval(row, *priors[row["scale"]])
        row["verdict"] = verdict(row)
    for primary in (True, False):
        family = [r for r in rows if r["claim"]["primary"] == primary and not r["failed"] and np.isfinite(r["p"])]
        for row in family:
            bigger = [sum(o["p"] <= r["p"] for o in family) for r in family]
            row["q"] = min(
                1, *(r["p"] * len(family) / k for r, k in zip(family, bigger, strict=True) if r["p"] >= row["p"])
            )
    return rows


def failed(one: dict[str, Any], name: str, measured: bool) -> bool:
    check, values = one["experiment"]["checks"][name], list(one["checks"][name]["seeds"].values())
    if not values:
        return measured
    return np.mean(values) < check.get("at_least", -np.inf) or np.mean(values) > check.get("at_most", np.inf)


def sample(claim: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    seeds = found["seeds"]
    if claim["primary"]:
        seeds = seeds[: max([k for k in LOOKS if k <= len(seeds)], default=len(seeds))]
    left = claim["left"]
    points = left.get("eval") == "accuracy" or left.get("decoding") or left.get("regret") or left.get("hallucination")
    points = points or any(key in left for key in ("criterion", "heated", "reflection"))
    points = points or (left.get("mode") and left["column"] == "accuracy")
    other = left.get("metric") or next((k for k in ("eval", "mode", "correlation", "tokens_of") if k in left), "")
    scale = "factor" if claim["ratio"] else "points" if points else other
    x = np.array([difference(claim, one) for one in seeds])
    return {"scale": scale, "x": x, "n": len(x), "s2": x.var(ddof=1) if len(x) > 1 else 0.0, "seeds": seeds}


def difference(claim: dict[str, Any], seed: dict[str, Any]) -> float:
    if claim["ratio"]:
        return float(np.log(seed["left"] / seed["right"]))
    if seed["items"]:
        return float(sum(value * count for value, count in seed["items"]) / sum(count for _, count in seed["items"]))
    return float(seed["left"] - seed.get("right", 0.0))


def prior(rows: list[dict[str, Any]]) -> tuple[float, float, float]:
    """(d0, s0^2, d of all); d0 is found as the root of the second moment, the first one gives s0^2."""
    if len(rows) < 5:
        return 0.0, 1.0, np.inf
    d = np.array([r["n"] - 1 for r in rows])
    e = np.log([r["s2"] for r in rows]) - special.psi(d / 2) + np.log(d / 2)
    excess = e.var(ddof=1) - np.mean(special.zeta(2, d / 2))  # trigamma(x) is the Hurwitz zeta function of 2 and x
    if excess <= 0:
        return np.inf, np.exp(e.mean()), d.sum()
    log_half = optimize.bisect(lambda t: np.log(special.zeta(2, np.exp(t))) - np.log(excess), -20, 20, xtol=1e-13)
    half = np.exp(log_half)
    return 2 * half, np.exp(e.mean() + special.psi(half) - np.log(half)), d.sum()


def interval(row: dict[str, Any], d0: float, s0: float, most: float) -> None:
    claim, n, d = row["claim"], row["n"], row["n"] - 1
    row.update(value=row["x"].mean() if n else np.nan, low=np.nan, high=np.nan, p=np.nan, q=np.nan, by_items=False)
    alpha = (1 - claim["level"]) / 2
    if claim["primary"] and n in LOOKS:
        alpha = looked(alpha)[LOOKS.index(n)]
    if n > 1:
        s2, df = row["s2"], d
        if d0 and s2 > 0:
            weight = 1.0 if np.isinf(d0) else d0 / (d0 + d)
            s2, df = weight * s0 + (1 - weight) * s2, min(d0 + d, max(most, d))
        error = np.sqrt(s2 / n)
        row["low"], row["high"] = row["value"] + error * stats.t.ppf([alpha, 1 - alpha], df)
        row["p"] = 2 * stats.t.sf(abs(row["value"]) / error, df) if error > 0 else np.nan
    pairs = np.array([pair for s in row["seeds"] for pair in s["items"]])
    if len(pairs) and pairs[:, 1].sum() > 1 and not claim["ratio"]:
        total = int(pairs[:, 1].sum())
        drawn = np.random.default_rng(7).multinomial(total, pairs[:, 1] / total, 10_000) @ pairs[:, 0] / total
        low, high = np.quantile(drawn, [alpha, 1 - alpha])
        near = 0.05 * (row["high"] - row["low"])
        row["by_items"] = not (row["low"] + near <= low and row["high"] - near >= high)
        row["low"], row["high"] = np.fmin(row["low"], low), np.fmax(row["high"], high)
    of_correlation = claim["left"].get("correlation") or claim["left"].get("study") == "correlation"
    if of_correlation and not claim.get("right"):
        bounds = min(-1, row["value"]), max(1, row["value"])
        row["low"], row["high"] = np.clip([row["low"], row["high"]], *bounds)


@cache
def looked(alpha: float) -> list[float]:
    """The one-sided error of each look, by the multivariate normal distribution of the z of all looks."""
    share = np.array(LOOKS) / LOOKS[-1]
    spent = 2 * stats.norm.sf(stats.norm.isf(alpha / 2) / np.sqrt(share))
    correlation = np.sqrt(np.minimum.outer(share, share) / np.maximum.outer(share, share))
    bounds = [stats.norm.isf(spent[0])]
    for k in (2, 3):
        law = stats.multivariate_normal(cov=correlation[:k, :k], seed=1, abseps=1e-6, maxpts=30_000)
        bounds.append(optimize.bisect(lambda z: 1 - law.cdf([*bounds, z]) - spent[k - 1], 0, 8, xtol=1e-5))  # noqa: B023
    return [float(stats.norm.sf(z)) for z in bounds]


def verdict(row: dict[str, Any]) -> str:
    claim, n = row["claim"], row["n"]
    if row["failed"]:
        return "untestable"
    x, low, high = row["value"], row["low"], row["high"]
    least = np.log(claim["least"]) if claim["ratio"] else claim["least"]
    if n < 2 or (claim["primary"] and n not in LOOKS) or not np.isfinite([x, low, high]).all() or low == high:
        return "can't tell"
    kind = claim["expect"]
    if kind == "same":
        return "agrees" if max(-low, high) < least else "reversed" if low > least or high < -least else "can't tell"
    if kind.endswith("less"):
        x, low, high = -x, -high, -low
    there = low > 0 and x >= least
    if kind.startswith("not-"):
        return "reversed" if there else "agrees" if high < least else "can't tell"
    if there:
        return "agrees"
    if high < 0:
        return "reversed"
    return "can't tell" if high >= least else "too small" if low > 0 else "absent"


if __name__ == "__main__":
    for row in main(Path(sys.argv[1])):
        print(
            f"{row['verdict']:12}{row['value']:+9.4f} [{row['low']:+.4f}, {row['high']:+.4f}]  {row['claim']['text']}"
        )
