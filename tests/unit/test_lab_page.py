"""The lab's report: what a claim looks like in the table and on the page, and that text stays text."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from seethink.studies.lab.lab_page import render
from seethink.studies.lab.results import ArmRow, ExperimentResult, Result, Results, load_results
from seethink.studies.lab.schema import Claim, Experiment, LabError, Term
from seethink.studies.lab.table import as_markdown, bar, share, shown, size
from seethink.studies.lab.verdict import Effect

EVIL = "<script>alert(1)</script>"


def make_claim(**changes: object) -> Claim:
    term = Term(arm="a", eval="accuracy")
    table = {"text": "rises", "paper": "+5", "left": term, "right": term, "expect": "more", "least": 0.01}
    return Claim.model_validate(table | changes)


def make_effect(value: float = 0.031, low: float = 0.012, high: float = 0.05, items: int = 900) -> Effect:
    return Effect(value, low, high, 3, items, (value,) * 3, 0.01)


def results(*found: Result, **changes: object) -> Results:
    table = {"name": "mine", "title": "A | title", "section": "5.2", "claims": tuple(r.claim for r in found)}
    experiment = Experiment.model_validate(table | changes)
    arm = ArmRow("rl", 3, (0.533, 0.011), (math.nan, math.nan), (25.2, 0.4), (0.6, 0.02), [(1, 0.3), (2, 0.5)])
    return Results(
        [ExperimentResult(experiment, "nano", 3, list(found), [arm], ["rl, seed 1: out of memory"])], {"Date": "d"}
    )


@pytest.mark.parametrize(
    ("claim", "effect", "text", "least"),
    [
        (make_claim(), make_effect(), "+3.1 [+1.2, +5.0]", "≥ +1.0"),
        (make_claim(expect="less"), make_effect(-0.02, -0.03, -0.01), "−2.0 [−3.0, −1.0]", "≤ −1.0"),
        (make_claim(expect="same"), make_effect(), "+3.1 [+1.2, +5.0]", "within ± 1.0"),
        (make_claim(ratio=True, least=1.5), make_effect(1.4, 1.1, 1.8), "×1.40 [×1.10, ×1.80]", "≥ ×1.50"),
        (make_claim(ratio=True, least=2, expect="less"), make_effect(0.4, 0.3, 0.5), "×0.40 [×0.30, ×0.50]", "≤ ×0.50"),
        (make_claim(left=Term(arm="a", metric="x")), make_effect(), "+0.031 [+0.012, +0.050]", "≥ +0.010"),
        (make_claim(), make_effect(0.031, math.nan, math.nan), "+3.1", "≥ +1.0"),
        (make_claim(), None, "", "≥ +1.0"),
    ],
)
def test_numbers(claim: Claim, effect: Effect | None, text: str, least: str) -> None:
    assert shown(claim, effect) == text
    assert bar(claim) == least


def test_the_share_of_false_findings() -> None:
    assert [share(q) for q in (1e-5, 0.0421, 0.123, math.nan)] == ["<0.001", "0.042", "0.12", ""]


def test_how_much_is_behind_a_number() -> None:
    assert size(make_effect()) == "3 seeds × 900"
    assert size(make_effect(items=0)) == "3 seeds"
    assert size(None) == "0"


def test_the_markdown_table() -> None:
    agreed = Result(make_claim(), make_effect(), "agrees", q=0.0421)
    missing = Result(make_claim(text="falls"), None, "can't tell", "rl has no modes.json")
    lines = as_markdown(results(agreed, missing)).splitlines()
    assert "|  | rises | +5 | +3.1 [+1.2, +5.0] | ≥ +1.0 | 3 seeds × 900 | 0.042 | agrees |" in lines
    assert "|  | falls | +5 | rl has no modes.json | ≥ +1.0 | 0 |  | can't tell |" in lines
    assert any("A \\| title" in line for line in lines)
    assert "Claims: 1 agrees, 0 too small, 0 absent, 0 reversed, 1 can't tell, 0 untestable." in lines


def test_the_page_has_claims_figures_arms_and_problems() -> None:
    page = render(results(Result(make_claim(paper_effect=0.08), make_effect(), "agrees")))
    assert '<span class="verdict v-agrees">agrees</span>' in page
    assert "reported: +8.0" in page
    assert "53.3" in page
    assert "rl, seed 1: out of memory" in page
    assert page.count("<svg") == 2


def test_a_primary_claim_is_marked_with_the_level_of_its_look_and_a_failed_check_is_said() -> None:
    primary = Result(make_claim(primary=True), replace(make_effect(), level=0.97455), "too small", q=0.02)
    other = Result(make_claim(text="falls"), make_effect(), "untestable", "Ten points to gain: 0.95 where at most 0.9")
    page, table = render(results(primary, other)), as_markdown(results(primary, other))
    assert page.count('title="primary claim"') == 1
    assert '<span class="verdict v-too-small">too small</span>' in page
    assert '<span class="verdict v-untestable">untestable</span>' in page
    assert "Ten points to gain" in page
    assert (
        "|  | \u25c6 rises | +5 | +3.1 [+1.2, +5.0] 97.5 % | ≥ +1.0 | 3 seeds × 900 | 0.020 | **too small** |" in table
    )
    assert "- `mine`, untestable: Ten points to gain: 0.95 where at most 0.9." in table


def test_text_is_escaped_and_no_script_may_run() -> None:
    page = render(results(Result(make_claim(text=EVIL), make_effect(), "agrees", EVIL), note=EVIL))
    assert EVIL not in page
    assert page.count("&lt;script&gt;") >= 4
    assert "script-src &#39;none&#39;" in page


def test_a_folder_without_a_lab_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"lab\.json does not exist: run `seethink lab run NAME --out "):
        load_results(tmp_path)


def test_a_claim_without_an_interval_has_no_figure() -> None:
    assert "reported" not in render(results(Result(make_claim(paper_effect=0.08), None, "can't tell", "no")))
