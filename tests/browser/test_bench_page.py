"""The page of `seethink eval --bench` in Chromium: filters, two models side by side, hostile answers shown as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.bench_results import HOSTILE, results_in
from seethink.eval.bench.results import read_results
from seethink.report.benchmarks.page import write_bench_page
from seethink.studies.benchmarks.comparison import differences

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_two_models_side_by_side(visit: Any, tmp_path: Path) -> None:
    a = results_in(tmp_path / "a", [HOSTILE, "\\boxed{A}", "\\boxed{D}", "\\boxed{B}"])
    b = results_in(tmp_path / "b", ["\\boxed{B}", HOSTILE, "\\boxed{A}", "\\boxed{C}"])
    found = differences(read_results(a), read_results(b))
    page = visit(write_bench_page([a, b], tmp_path / "page.html", found)).page
    assert page.locator("#differences tbody tr").count() == 1
    assert page.locator("svg.chart").count() == 1
    items = page.locator(".item:visible")
    assert page.locator("#shown").inner_text() == f"{items.count()} items"
    page.select_option("#by-kind", "differ")
    assert 0 < items.count() < page.locator(".item").count()
    page.select_option("#by-kind", "")
    first = page.locator(".item", has_text="v1_0").first
    first.locator("summary").click()
    assert HOSTILE.split("\x1b")[0] in first.locator(".answers pre").first.inner_text()
    assert first.locator("img").first.evaluate("image => image.naturalWidth") == 8
    assert first.locator(".answers > div").count() == 2
    page.set_viewport_size({"width": 380, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
