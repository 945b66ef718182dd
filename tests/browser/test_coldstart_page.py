"""The page of a cold start in a real browser: it shows itself, and hostile texts stay texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.asking import by_number, file_of, number_of, picture, problem, problems, thought
from helpers.command_line import run_command
from helpers.rows import write_jsonl
from helpers.scripted_openai import Ask, ScriptedOpenAI, says

pytestmark = [pytest.mark.browser, pytest.mark.slow]
HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>\u202egnp.exe"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coldstart")
    problems(folder, 9)
    rows = [problem(n, domain=HOSTILE if n == 2 else "maths") for n in range(9)]
    rows[2]["question"] += f" {HOSTILE}"
    (folder / "8.png").write_bytes(file_of(picture(8, 1200)))
    faults = {
        1: lambda ask: says(thought(1, 0), tokens=9),
        2: lambda ask: says(f"<think>{HOSTILE}</think>{thought(2).rpartition('>')[2]}"),
        3: lambda ask: says("<think>" + "So, so. " * 60 + f"</think>{thought(3).rpartition('>')[2]}"),
    }

    def script(ask: Ask) -> Any:
        return by_number(faults)(ask) if number_of(ask) in faults else says(thought(number_of(ask)), tokens=9)

    with ScriptedOpenAI(script) as server:
        words = ["--teacher", server.base_url, "--model", HOSTILE, "--samples", "2"]
        source = write_jsonl(folder / "rows.jsonl", rows)
        assert run_command("coldstart", str(source), "-o", str(folder / "out"), *words).returncode == 0
    return folder / "out" / "report.html"


def test_the_page_shows_funnel_and_traces(visit: Any, page: Path) -> None:
    one = visit(page)
    assert "7" in one.text("#funnel")
    assert "repeats itself" in one.text("#funnel")
    assert one.text("#v-place") == "1 of 9"
    assert one.page.is_hidden(".scale")
    one.page.select_option("#v-source", "wrong answer")
    assert one.text("#v-place") == "1 of 1"
    assert "wrong answer" in one.text("#v-completions")
    assert one.page.locator("#v-completions article").count() == 2
    assert one.page.locator("#v-filters button").count() == 0, "no filter of reinforcement learning"
    one.page.click("#v-reset")
    one.page.fill("#v-search", "picture 8")
    one.page.press("#v-search", "Enter")
    assert one.text("#v-place") == "1 of 1"
    assert one.page.eval_on_selector("#v-question img", "(image) => image.complete && image.naturalWidth > 0")


def test_hostile_texts_are_shown_as_they_are(visit: Any, page: Path) -> None:
    one = visit(page)
    one.page.fill("#v-search", "onerror")
    one.page.press("#v-search", "Enter")
    assert "<img src=x onerror=alert(1)>" in one.text("#v-question")
    assert "⟨U+202E⟩" in one.text("#v-question")
    assert one.page.locator("img[src=x]").count() == 0
    assert "<script>alert(2)</script>" in one.text(".facts")


@pytest.mark.parametrize("width", [390, 1180])
def test_nothing_is_wider_than_the_window(visit: Any, page: Path, width: int) -> None:
    one = visit(page, viewport={"width": width, "height": 800})
    assert one.page.evaluate("document.documentElement.scrollWidth") <= width
