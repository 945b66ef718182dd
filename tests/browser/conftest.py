"""Chromium, two reports, and visits that fail the test where the page did something beyond showing itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from make_analyses import make_analyses
from make_run import make_pipeline
from visit import CHROMIUM, Visit

from seethink.report import write_report


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    # Of a module: playwright's event loop runs while it is open, and other files' tests want one of their own.
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _report(tmp_path_factory.mktemp("run") / "plain", 30, hostile=False)


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _report(tmp_path_factory.mktemp("run") / "hostile", 20, hostile=True)


def _report(path: Path, steps: int, hostile: bool) -> Path:
    run = make_pipeline(path, hostile=hostile, steps=steps)
    make_analyses(run / "grpo", steps, hostile)
    return write_report(run)


@pytest.fixture
def visit(chromium: Any) -> Iterator[Any]:
    visits: list[Visit] = []

    def open_page(path: Path, fragment: str = "", **options: Any) -> Visit:
        visits.append(Visit(chromium, path, fragment, **options))
        return visits[-1]

    yield open_page
    misdeeds = [misdeed for one in visits for misdeed in one.misdeeds]
    for one in visits:
        one.page.close()
    assert misdeeds == []
