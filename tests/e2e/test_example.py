"""examples/grpo_loop.py runs, stays short, and takes the same step as the scaled loop."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "grpo_loop.py"


def test_it_stays_one_short_file() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 250


@pytest.mark.slow
def test_it_trains() -> None:
    sizes = ["--steps", "2", "--prompts", "3", "--group-size", "4", "--max-new-tokens", "24"]
    result = subprocess.run(
        [sys.executable, str(EXAMPLE), *sizes], capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.strip().splitlines()
    assert [line.split("  ")[0] for line in lines] == ["step 1/2", "step 2/2"]
    assert all("reward" in line and "grad_norm" in line for line in lines)
