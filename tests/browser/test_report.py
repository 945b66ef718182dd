"""The report in a real browser: what it shows, what it must not do, and how it is used."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from make_run import HOSTILE, make_pipeline, make_rl

from seethink.report import write_report

CHROMIUM = which("chromium") or which("chromium-browser") or which("google-chrome")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium (Debian: apt-get install chromium)"),
]
PLACE = "#v-place"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(make_pipeline(tmp_path_factory.mktemp("run") / "plain", steps=30))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(make_pipeline(tmp_path_factory.mktemp("run") / "hostile", hostile=True, steps=20))


class Visit:
    """An open page, and all that it did beyond showing itself."""

    def __init__(self, browser: Any, path: Path, fragment: str = "", **options: Any) -> None:
        self.misdeeds: list[str] = []
        self.page = browser.new_page(**options)
        self.page.on("console", lambda message: self.misdeeds.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.misdeeds.append(f"error: {error}"))
        self.page.on("dialog", self._dialog)
        self.page.on("request", self._request)
        self.page.goto(path.as_uri() + fragment)

    def _dialog(self, dialog: Any) -> None:
        self.misdeeds.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _request(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:")) or request.url.endswith((".js", ".css")):
            self.misdeeds.append(f"request: {request.url}")

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)


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


def test_every_section_is_shown(visit: Any, report: Path) -> None:
    page = visit(report).page
    assert page.inner_text("h1") == "Nano quickstart"
    assert page.locator("h2").all_inner_texts() == [
        "Accuracy",
        "Cold start supervised fine-tuning, 200 steps",
        "RL reinforcement learning, 30 steps",
        "Connector supervised fine-tuning, 200 steps",
        "Rollouts",
        "Time",
        "Recipe",
    ]
    assert page.locator("svg.chart").count() >= 20
    assert page.locator("#accuracy .bar").count() == 8


def test_hostile_text_is_shown_and_does_nothing(visit: Any, hostile: Path) -> None:
    one = visit(hostile)
    assert one.text("h1") == HOSTILE[0]
    question = one.page.text_content("#v-question .asked")
    assert all(text in question for text in HOSTILE[:3])
    assert "␛[31mred␛[0m" in question
    assert HOSTILE[1] in one.page.text_content("#v-completions article:first-of-type .text")
    assert HOSTILE[0] in one.text("#v-completions article:first-of-type header")
    assert one.page.evaluate("document.querySelectorAll('#viewer script, img[src=x]').length") == 0
    one.page.click("#v-next")
    assert "leads outside the run" in one.text("#v-question")
    assert "image file is missing" in one.text("#v-question")


def test_injected_script_and_style_would_be_refused(chromium: Any, report: Path) -> None:
    page = Visit(chromium, report).page
    page.evaluate("""() => {
        const script = document.createElement('script');
        script.textContent = 'window.injected = true';
        document.body.append(script);
        fetch('http://127.0.0.1:9/').catch(() => { window.refused = true; });
    }""")
    page.wait_for_function("window.refused === true")
    assert page.evaluate("window.injected") is None
    page.close()


def test_buttons_and_arrow_keys_turn_the_page(visit: Any, report: Path) -> None:
    one = visit(report)
    assert one.text(PLACE) == "1 of 18"
    assert one.page.is_disabled("#v-prev")
    one.page.click("#v-next")
    one.page.keyboard.press("ArrowRight")
    assert one.text(PLACE) == "3 of 18"
    one.page.keyboard.press("ArrowLeft")
    assert one.text(PLACE) == "2 of 18"
    for _ in range(20):
        one.page.keyboard.press("ArrowRight")
    assert one.text(PLACE) == "18 of 18"
    assert one.page.is_disabled("#v-next")


def test_step_and_prompt_are_chosen(visit: Any, report: Path) -> None:
    one = visit(report)
    one.page.select_option("#v-step", label="RL · training, step 20")
    assert one.text(PLACE) == "7 of 18"
    one.page.select_option("#v-prompt", label="math-20-4")
    assert one.text(PLACE) == "11 of 18"
    assert "step 20" in one.text("#v-question .about")


@pytest.mark.parametrize("name", ["mixed", "wrong", "critical"])
def test_filters_keep_what_they_say(visit: Any, report: Path, name: str) -> None:
    one = visit(report)
    one.page.click(f"[data-filter={name}]")
    assert one.page.get_attribute(f"[data-filter={name}]", "aria-pressed") == "true"
    count = int(one.text(PLACE).split(" of ")[1])
    assert one.text(f"[data-filter={name}] .many") == str(count)
    assert 0 < count <= 18
    one.page.select_option("#v-step", index=0)
    for _ in range(count):
        verdicts = one.page.locator("#v-completions .verdict").all_inner_texts()
        right = sum("correct" in verdict for verdict in verdicts)
        marked = one.page.locator("#v-completions .critical").count()
        assert {"mixed": 0 < right < 8, "wrong": right == 0, "critical": marked > 0}[name]
        one.page.keyboard.press("ArrowRight")


def test_a_link_opens_its_group(visit: Any, report: Path) -> None:
    one = visit(report, "#rollout/RL%20%C2%B7%20training/20/math-20-3")
    assert one.text(PLACE) == "10 of 18"
    assert one.page.evaluate("window.scrollY") > 500
    one.page.keyboard.press("ArrowRight")
    address = one.page.evaluate("location.hash")
    assert address == "#rollout/RL%20%C2%B7%20training/20/math-20-4"
    assert visit(report, address).text(PLACE) == "11 of 18"
    assert "not among those in this page" in visit(report, "#rollout/RL/1/gone").text("#v-empty")
    assert visit(report, "#accuracy").page.evaluate("location.hash") == "#accuracy"


def test_a_token_tells_its_entropy(visit: Any, report: Path) -> None:
    one = visit(report)
    one.page.click("[data-filter=critical]")
    one.page.hover("#v-completions .critical >> nth=0")
    assert one.text("#v-token") == "“Wait” 1.60 nats, critical word"
    shade = "getComputedStyle(document.querySelector('#v-completions .critical')).backgroundColor"
    assert "rgba(226, 132, 38" in one.page.evaluate(shade)


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


def test_two_thousand_groups_stay_smooth(visit: Any, tmp_path: Path) -> None:
    report = write_report(make_rl(tmp_path / "grpo", random.Random(2), steps=200, prompts=100, size=4))
    start = time.perf_counter()
    one = visit(report)
    assert one.text(PLACE).startswith("1 of 2000")
    assert time.perf_counter() - start < 3.0
    start = time.perf_counter()
    for _ in range(20):
        one.page.keyboard.press("ArrowRight")
    one.page.click("[data-filter=mixed]")
    assert one.page.inner_text("[data-filter=all] .many") == "2000"
    assert time.perf_counter() - start < 3.0
