"""A lab's folder as `seethink lab run` leaves it, with made-up measurements: lab.json, and the files of its arms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from seethink.studies.lab.schema import load_experiments

ACCURACY = {"cold": 0.45, "rl": 0.55, "sft": 0.5}
"""Of arms with other names: 0.52."""
DOMAINS = ("math", "dice", "charts")
CLIPPED, CRITICAL = 0.004, 260


def make_lab(out: Path, *names: str, seeds: int = 3, items: int = 20, first_seed: int = 0) -> Path:
    """The folder of a lab in which these experiments ran; every arm answered `items` items of three domains."""
    experiments = load_experiments()
    entries: dict[str, Any] = {}
    for name in names:
        used = {arm for term in experiments[name].terms for arm in term.arms}
        entries[name] = {"scale": "nano", "seeds": seeds, "arms": {}}
        for arm in sorted(used):
            chosen = range(first_seed, first_seed + seeds)
            rows = [{"folder": f"arms/{arm}-s{seed}", "seed": seed, "state": "trained"} for seed in chosen]
            entries[name]["arms"][arm] = rows
            for row in rows:
                _write_arm(out / str(row["folder"]), arm, row["seed"], items)
    facts = {"Date": "2026-11-29", "Machine": "made up"}
    (out / "lab.json").write_text(json.dumps({"facts": facts, "experiments": entries}))
    return out


def _write_arm(folder: Path, arm: str, seed: int, items: int) -> None:
    (folder / "eval").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, *arm.encode()])
    share = ACCURACY.get(arm, 0.52) + rng.normal(0, 0.02)
    rows = [
        {
            "id": f"{domain}-{i}",
            "domain": domain,
            "difficulty": ("easy", "normal", "hard")[i % 3],
            "accuracy": float(rng.binomial(2, share)) / 2,
            "tokens": 30.0,
        }
        for domain in DOMAINS
        for i in range(items)
    ]
    _write_lines(folder / "eval" / "items.jsonl", rows)
    earlier = [
        {"checkpoint": f"step_{step:06d}", **row, "accuracy": float(rng.random() < share)}
        for step in (80, 90)
        for row in rows
    ]
    _write_lines(folder / "eval" / "earlier.jsonl", earlier)
    shares = {"greedy": share, "pass@8": min(1.0, share + 0.3)}
    tried = [
        {key: row[key] for key in ("id", "domain", "difficulty")}
        | {key: float(rng.random() < chance) for key, chance in shares.items()}
        for row in rows
    ]
    _write_lines(folder / "decodings.jsonl", tried)
    lift = 0.3 if arm == "rl" else 0.28
    steps = [
        {
            "step": step,
            "reward/mean": 0.3 + lift * step / 20 + float(rng.normal(0, 0.01)),
            "optim/grad_norm": float(rng.lognormal(0, 0.2)),
            "response/repetition": float(rng.uniform(0.01, 0.03)),
            "loss/clip_fraction": CLIPPED,
            "entropy/critical_count": CRITICAL,
        }
        for step in range(1, 21)
    ]
    _write_lines(folder / "metrics.jsonl", steps)
    (folder / "select.json").write_text(json.dumps(_selection(rng)))


def _selection(rng: np.random.Generator) -> dict[str, Any]:
    names = [f"step_{i}" for i in (5, 10, 15, 20)]
    values = {name: {"value": float(rng.uniform(0.4, 0.6)), "low": None, "high": None, "n": 12} for name in names}
    targets = {name: {"values": values} for name in ("in_domain", "out_of_domain")}
    criteria = {
        name: {"chosen": str(rng.choice(names)), "values": {n: {"count": int(rng.integers(2, 9))} for n in names}}
        for name in ("critical_entropy", "reward", "uncertain_reward", "accuracy")
    }
    criteria["last"] = {"chosen": names[-1], "values": {}}
    correlation = {"criterion": "critical_entropy", "target": "out_of_domain", "pearson": float(rng.uniform(-1, 1))}
    return {"criteria": criteria, "targets": targets, "correlations": [correlation]}


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
