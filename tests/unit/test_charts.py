"""Charts as drawings: places of marks, escaping, and what is left out."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "browser"))
from make_run import HOSTILE

from seethink.report.axes import tick_text
from seethink.report.charts import Mark, Panel, Series, panel_chart
from seethink.report.plots import Effect, forest, signed


def numbers(svg: str, pattern: str) -> list[float]:
    return [float(found) for found in re.findall(pattern, svg)]


def test_forest_places_effects_on_their_side_of_zero() -> None:
    svg = forest([Effect("gain", 5.0, 2.0, 8.0), Effect("loss", -5.0, -8.0, -2.0)], "n", "points", ("worse", "better"))
    zero = numbers(svg, r'class="zero" d="M([\d.]+)')[0]
    gain, loss = numbers(svg, r'<rect class="bar a" x="([\d.]+)"')
    assert gain + 4.5 - zero == pytest.approx(zero - loss - 4.5, abs=0.2)
    assert gain > zero > loss
    assert "+5.0 [+2.0, +8.0] points" in svg
    assert "−5.0 [−8.0, −2.0] points" in svg
    assert "← worse" in svg


def test_forest_shows_a_claim_beyond_every_interval_and_escapes_labels() -> None:
    svg = forest([Effect(HOSTILE[0], 1.0, 0.5, 1.5, claim=40.0)], HOSTILE[1])
    assert "<script" not in svg
    claim, end = numbers(svg, r'class="claim" d="M([\d.]+)')[0], numbers(svg, r"H([\d.]+)M")[0]
    assert claim > end
    assert claim <= 430


def test_forest_of_nothing_and_of_nan() -> None:
    assert forest([], "n") == ""
    with pytest.raises(ValueError, match="finite"):
        forest([Effect("x", float("nan"), 0, 1)], "n")


def test_numbers_with_signs() -> None:
    assert [signed(value) for value in (5.94, -9.4, 0.04, -0.0)] == ["+5.9", "−9.4", "0.0", "0.0"]
    assert "+0.40 [−0.05, +0.90]" in forest([Effect("r", 0.4, -0.05, 0.9)], "n")
    assert [tick_text(-5), tick_text(-0.5, percent=True)] == ["−5", "−50%"]


def test_marks_stand_at_their_steps_below_every_panel() -> None:
    curve = [(float(step), step / 10) for step in range(11)]
    panels = [Panel([Series("x", curve, "a")], "up"), Panel([Series("y", curve, "b")], "down", percent=True)]
    svg = panel_chart(panels, "n", [("collapse", [Mark(5, "b", HOSTILE[0])]), ("surge", [Mark(10, "e", "late")])])
    ticks = dict(re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="middle">(\d+)</text>', svg))
    places = {label: float(x) for x, label in ticks.items()}
    assert numbers(svg, r'circle class="dot ring \w" cx="([\d.]+)"') == pytest.approx(
        [(places["4"] + places["6"]) / 2, places["10"]], abs=0.1
    )
    rows = numbers(svg, r'circle class="dot ring \w" cx="[\d.]+" cy="([\d.]+)"')
    bottom = max(numbers(svg, r'class="axis" d="M46 ([\d.]+)H')[:2])
    assert bottom < rows[0] < rows[1]
    assert "<script" not in svg


def test_a_band_encloses_its_curve() -> None:
    curve = [(float(step), 1.0) for step in range(5)]
    low, high = [(x, 0.5) for x, _ in curve], [(x, 2.0) for x, _ in curve]
    svg = panel_chart([Panel([Series("x", curve, "a", (low, high))])], "n")
    trace = re.search(r'class="band a" d="M([^"]+)z"', svg)
    assert trace
    heights = [float(point.split()[1]) for point in trace[1].split("L")]
    line = float(re.search(r'class="line a" d="M[\d.]+ ([\d.]+)', svg)[1])  # type: ignore[index]
    assert max(heights[:5]) < line < min(heights[5:])
