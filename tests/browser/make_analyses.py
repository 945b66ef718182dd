"""Writes what the paper's analyses leave in a run's folder: entropies, alarms, modes, and a ranking of checkpoints."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from make_run import DOMAINS, HOSTILE

from seethink.core.sketch import Sketch

THRESHOLD = 1.9
CRITERIA = ("critical_entropy", "entropy_mean", "reward", "accuracy", "last")


def make_analyses(stage: Path, steps: int = 120, hostile: bool = False) -> Path:
    """All four files in the folder of a stage that has trained for `steps` steps."""
    rng = np.random.default_rng(3)
    _lines(stage / "entropy.jsonl", [_entropy_row(step, step / steps, rng) for step in range(1, steps + 1)])
    _lines(stage / "watchdogs.jsonl", _alarms(steps, hostile))
    _write(stage / "modes.json", {"model": "grpo/best", "seed": 0, "rows": _modes(hostile)})
    _write(stage / "select.json", _selection(rng, hostile))
    return stage


def _entropy_row(step: int, done: float, rng: np.random.Generator) -> dict[str, Any]:
    """The paper's 6.5: the mean falls while the tail grows."""

    def group(size: int, scale: float, tail: float) -> dict[str, Any]:
        values = rng.gamma(0.5, 2 * scale, size)
        values = np.where(rng.random(size) < tail, rng.uniform(THRESHOLD, 4, size), np.minimum(values, THRESHOLD))
        sketch = Sketch.of(values)
        quantiles = {f"p{share}": sketch.quantile(share / 100) for share in (10, 50, 90, 99)}
        error = float(values.std(ddof=1)) / math.sqrt(size)
        share = float((values > THRESHOLD).mean())
        return {"count": size, "mean": sketch.mean, "se": error, "quantiles": quantiles, "tail_share": share,
                "histogram": sketch.as_json()}  # fmt: skip

    level, tail = 0.35 - 0.18 * done, 0.005 + 0.02 * done
    groups = {"all": group(4000, level, tail), "critical": group(60, 1.1 - 0.3 * done, 0.1)}
    groups |= {"following": group(500, 0.6 - 0.2 * done, 2 * tail)}
    groups |= {"correct": group(2500, 0.8 * level, tail), "wrong": group(1500, 1.3 * level, tail)}
    groups |= {f"position_{place}": group(400, level * (0.6 + place / 10), tail) for place in range(10)}
    return {"step": step, "stage": "grpo", "threshold": THRESHOLD, "words": ["Wait", "Hmm"], "groups": groups}


def _alarms(steps: int, hostile: bool) -> list[dict[str, Any]]:
    rows = [
        {"step": steps // 3, "name": "entropy_surge", "value": 0.61, "threshold": 0.5, "action": "warn",
         "message": "mean entropy 0.61 nats is above 0.5, twice that of the first steps"},
        {"step": steps // 2, "name": "grad_norm_anomaly", "value": 9.3, "threshold": 6.0, "action": "checkpoint",
         "message": "gradient norm 9.3 is 6.8 median deviations above the median of the last 50 steps"},
        {"step": steps // 2 + 1, "name": "grad_norm_anomaly", "value": 8.1, "threshold": 6.0, "action": "warn",
         "message": "gradient norm 8.1"},
        {"step": steps, "name": "reward_collapse", "value": 0.21, "threshold": 0.4, "action": "stop",
         "message": "reward 0.21 fell below half of its best"},
    ]  # fmt: skip
    if hostile:
        rows[0] |= {"name": HOSTILE[1], "message": HOSTILE[2], "action": HOSTILE[0]}
        rows[1] |= {"value": HOSTILE[0], "threshold": None}
    return rows


def _modes(hostile: bool) -> list[dict[str, Any]]:
    variants: list[tuple[str, int | None, bool, float, float]] = [
        ("slow", None, False, 0.70, 48.2), ("nothink", None, False, 0.41, 8.3), ("nowait", None, False, 0.66, 43.9),
    ]  # fmt: skip
    for budget, closed, cut in ((8, 0.40, 0.02), (16, 0.47, 0.11), (32, 0.60, 0.52), (64, 0.69, 0.68)):
        variants += [("budget", budget, True, closed, budget + 6), ("budget", budget, False, cut, budget)]
    rows = []
    for mode, budget, forced, accuracy, tokens in variants:
        for domain in ("all", *DOMAINS[:2]):
            n = 200 if domain == "all" else 100
            row = {"mode": mode, "budget": budget, "forced": forced, "domain": domain, "accuracy": accuracy, "n": n}
            row |= {"se": math.sqrt(accuracy * (1 - accuracy) / n), "tokens_mean": tokens, "tokens_se": 0.6}
            row |= {"truncated_share": 0.0 if forced else 0.12, "effect": accuracy - 0.7, "low": accuracy - 0.75}
            rows.append(row | {"high": accuracy - 0.65} if mode != "slow" else row | {"effect": None, "low": None})
    if hostile:
        rows[0]["mode"] = HOSTILE[1]
        rows[-1]["domain"] = HOSTILE[2]
    return rows


def _selection(rng: np.random.Generator, hostile: bool) -> dict[str, Any]:
    names = [HOSTILE[0] if hostile else "step_000025", *(f"step_{step:06d}" for step in (50, 75, 100)), "best"]
    good = np.array([0.40, 0.47, 0.52, 0.55, 0.54])

    def values(centre: np.ndarray, spread: float) -> dict[str, Any]:
        drawn = centre + rng.normal(0, spread / 3, len(centre))
        return {name: {"value": float(value), "low": float(value - spread), "high": float(value + spread)}
                for name, value in zip(names, drawn, strict=True)}  # fmt: skip

    centres = {"critical_entropy": 0.5 + good, "entropy_mean": 0.7 - good, "reward": 0.4 + good / 2, "accuracy": good,
               "last": np.arange(5.0)}  # fmt: skip
    criteria = {
        name: {"better": "higher", "chosen": names[3], "values": values(centres[name], 0.05)} for name in CRITERIA
    }
    criteria["last"]["chosen"] = names[-1]
    correlations = [
        {"criterion": name, "target": target, "pearson": 0.9 - 0.3 * place, "pearson_low": 0.3 - 0.4 * place,
         "pearson_high": 0.99 - 0.05 * place, "spearman": 0.8 - 0.3 * place, "spearman_low": 0.1 - 0.4 * place,
         "spearman_high": 0.95, "n": 5}
        for place, name in enumerate(CRITERIA) for target in ("in_domain", "out_of_domain")
    ]  # fmt: skip
    if hostile:
        criteria["last"]["chosen"] = correlations[0]["criterion"] = HOSTILE[1]
    targets = {"in_domain": {"values": values(good + 0.2, 0.04)}, "out_of_domain": {"values": values(good, 0.04)}}
    return {"by": "critical_entropy", "chosen": names[3], "criteria": criteria, "targets": targets,
            "correlations": correlations}  # fmt: skip


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def _lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
