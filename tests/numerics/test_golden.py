"""Ten steps of every stage equal the stored ones; see golden.py for how and when to store others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from golden import STAGES, golden_file, run_stage

TOLERANCE = {"rel": 3e-6, "abs": 1e-6}
"""The same machine repeats every bit. Another CPU adds floats in another order: with AVX-512, AVX2 or neither, and
with MKL held to SSE4.2, gradient norms differed by up to 1e-6 of their size and losses by up to 1.5e-7."""


FAST = ("sft", "grpo")
"""The stages of the fast tests."""


@pytest.mark.parametrize("stage", [s if s in FAST else pytest.param(s, marks=pytest.mark.slow) for s in STAGES])
def test_ten_steps(stage: str, tmp_path: Path) -> None:
    stored = json.loads(golden_file(stage).read_text(encoding="utf-8"))
    steps = run_stage(stage, tmp_path)
    for number, (ours, expected) in enumerate(zip(steps, stored["steps"], strict=True), start=1):
        assert ours == pytest.approx(expected, **TOLERANCE), (
            f"step {number} of {stage} left the golden file of {stored['date']} (torch {stored['versions']['torch']}, "
            f'here {torch.__version__}); if that is meant: python tests/numerics/golden.py --reason "..." {stage}'
        )


@pytest.mark.parametrize("stage", STAGES)
def test_the_files_are_worth_comparing_with(stage: str) -> None:
    """Ten different gradients, varied rewards, a reason."""
    stored = json.loads(golden_file(stage).read_text(encoding="utf-8"))
    norms = [step["optim/grad_norm"] for step in stored["steps"]]
    assert len(set(norms)) == len(norms) == 10
    assert min(norms) > 1e-3
    assert stored["reason"]
    if stage not in ("sft", "connector"):
        assert len({step["reward/mean"] for step in stored["steps"]}) > 3
