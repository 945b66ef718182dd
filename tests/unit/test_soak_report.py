"""The soak's report: a leak is called one, a flat run is not, and the picture is well-formed."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from soak_report import write_report


def found(megabytes_an_hour: float) -> dict[str, Any]:
    """Two hours, a step every six seconds."""
    rng = np.random.default_rng(0)
    steps, samples = [], []
    for step in range(1200):
        t = 6.0 * step
        memory = 7e8 + megabytes_an_hour * 1e6 * t / 3600 + rng.normal(0, 2e5)
        steps.append(dict.fromkeys(("rss", "pss", "uss"), memory) | {"t": t, "cpu": 5.0 * step} | {"seconds": 6.0})
        steps[-1]["tokens"] = 30.0
        samples.append({"t": t, "rss": memory, "handles": 7, "threads": 4, "children": 0})
    about = {"date": "today", "machine": "here", "threads": "1", "versions": {}, "overrides": []}
    return {"about": about, "steps": steps, "samples": samples}


@pytest.mark.parametrize(("rate", "verdict"), [(0.0, "flat"), (3.0, "GROWS")])
def test_a_slope_is_told(rate: float, verdict: str, tmp_path: Path) -> None:
    text = write_report(found(rate), tmp_path / "soak.md")
    for name in ("| resident", "| lowest resident"):
        assert next(line for line in text.splitlines() if line.startswith(name)).endswith(f"| {verdict} |")
    assert "| open file handles | 7 | 7 to 7 | flat |" in text
    svg = ET.parse(tmp_path / "soak.svg").getroot()
    assert len(svg.findall("{*}g/{*}svg")) == 4


def test_what_the_allocator_keeps_for_a_while_is_not_what_is_held(tmp_path: Path) -> None:
    """Levels that come and stay for minutes, but go once in a window."""
    seen = found(0.0)
    for number, step in enumerate(seen["steps"]):
        step["rss"] += 0.0 if number % 50 == 7 else 1e6 * (number // 100)
    lines = write_report(seen, tmp_path / "soak.md").splitlines()
    assert next(line for line in lines if line.startswith("| lowest resident")).endswith("| flat |")
    assert next(line for line in lines if line.startswith("| resident")).endswith("| GROWS |")
