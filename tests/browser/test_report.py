"""The report in a real browser: what it shows, what it must not do, and how it is used."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from make_run import HOSTILE, make_rl

from seethink.report import write_report

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_every_section_is_shown(visit: Any, report: Path) -> None:
    page = visit(report).page
    assert page.inner_text("h1") == "Nano quickstart"
    assert page.locator("h2").all_inner_texts() == [
        "One question, before and after",
        "Accuracy",
        "Cold start supervised fine-tuning, 200 steps",
        "RL reinforcement learning, 30 steps",
        "Connector supervised fine-tuning, 200 steps",
        "“I cannot see the image”",
        "Rollouts",
        "Time",
        "Recipe",
    ]
    assert page.locator("svg.chart").count() >= 20
    assert page.locator("#accuracy .bar").count() == 8


def test_a_hostile_title_is_shown(visit: Any, hostile: Path) -> None:
    one = visit(hostile)
    assert one.text("h1") == HOSTILE[0]


def test_hostile_text_in_the_analyses_is_shown_literally(visit: Any, hostile: Path) -> None:
    page = visit(hostile).page
    stage = page.locator("#stage-2")
    timeline = stage.locator(".timeline")
    assert HOSTILE[1] in timeline.locator("tbody").text_content()
    assert HOSTILE[2] in timeline.locator(".said").first.text_content()
    assert HOSTILE[1] in timeline.locator("svg").text_content()
    assert timeline.locator(".legend li").first.text_content() == HOSTILE[0]
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    tables = [table.text_content() for table in stage.locator("table").all()]
    assert any(HOSTILE[1] in text and "NoThink" in text for text in tables)
    assert any(HOSTILE[2] in text and "budget 64, cut" in text for text in tables)
    assert any(HOSTILE[1] in text and "critical entropy" in text for text in tables)
    titles = stage.locator("svg title").all_text_contents()
    assert any(HOSTILE[0] in title for title in titles)
    assert page.evaluate("document.querySelectorAll('#stage-2 :is(script, img)').length") == 0


def test_injected_script_and_style_would_be_refused(chromium: Any, report: Path) -> None:
    page = chromium.new_page()
    page.goto(report.as_uri())
    page.evaluate("""() => {
        const script = document.createElement('script');
        script.textContent = 'window.injected = true';
        document.body.append(script);
        fetch('http://127.0.0.1:9/').catch(() => { window.refused = true; });
    }""")
    page.wait_for_function("window.refused === true")
    assert page.evaluate("window.injected") is None
    page.close()


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_sideways(visit: Any, report: Path, hostile: Path, width: int, scheme: str) -> None:
    for path in (report, hostile):
        options = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
        page = visit(path, **options).page
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(252, 251, 249)", "dark": "rgb(21, 23, 26)"}[scheme]


def test_without_a_viewer_the_page_still_stands(visit: Any, tmp_path: Path) -> None:
    run = make_rl(tmp_path / "grpo", random.Random(2), steps=20)
    (run / "rollouts").rename(tmp_path / "gone")
    one = visit(write_report(run))
    assert one.page.locator("#rollouts, script").count() == 0
    assert "Stage grpo: no evaluation" in one.text("#missing")
