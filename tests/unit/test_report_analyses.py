"""The report's figures of the paper's analyses: what they are drawn from, and that they are absent without it."""

from __future__ import annotations

import json
import random
import re
import sys
from itertools import pairwise
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "browser"))
from make_analyses import THRESHOLD, make_analyses
from make_run import HOSTILE, make_rl

from seethink.report import write_report
from seethink.report.alarms import alarms
from seethink.report.denials import denial_rows
from seethink.report.dynamics import entropy_figures
from seethink.report.heat import HIGHEST, LOWEST, SHADES, heat_map, shade
from seethink.report.load import Stage, load_run
from seethink.report.modes import modes
from seethink.report.rollouts import collect
from seethink.report.selection import selection

TITLES = [
    "Entropy by criticality",
    "Mean and tail",
    "Entropy of correct and wrong responses",
    "Histogram over steps",
    "Entropy by position",
]
ANALYSES = ("entropy.jsonl", "watchdogs.jsonl", "modes.json", "select.json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_rl(tmp_path_factory.mktemp("run") / "grpo", random.Random(1), steps=20)
    return make_analyses(run, steps=20)


@pytest.fixture
def stage(folder: Path) -> Stage:
    return load_run(folder).stages[0]


# Nothing without its data


def test_a_run_without_analyses_has_no_trace_of_them(tmp_path: Path) -> None:
    page = write_report(make_rl(tmp_path / "grpo", random.Random(1), steps=20)).read_text(encoding="utf-8")
    assert not [title for title in (*TITLES, "Watchdogs", "Inference modes", "Which checkpoint?") if title in page]
    assert "Entropy by step, grpo" in page


def test_a_run_with_analyses_has_each_of_them_once(folder: Path) -> None:
    page = write_report(folder).read_text(encoding="utf-8")
    for title in (*TITLES, "Thinking budgets", "Accuracy by mode", "Which criterion predicts accuracy"):
        assert page.count(f"<h4>{title}</h4>") == 1
    assert "Entropy by step, grpo" not in page


@pytest.mark.parametrize("missing", ANALYSES)
def test_each_analysis_can_be_missing(folder: Path, tmp_path: Path, missing: str) -> None:
    run = make_rl(tmp_path / "grpo", random.Random(1), steps=20)
    for name in ANALYSES:
        if name != missing:
            (run / name).write_bytes((folder / name).read_bytes())
    page = write_report(run).read_text(encoding="utf-8")
    heads = {"entropy.jsonl": "Mean and tail", "watchdogs.jsonl": "Watchdogs", "modes.json": "Accuracy by mode"}
    heads |= {"select.json": "Which checkpoint?"}
    assert [name for name, head in heads.items() if head not in page] == [missing]


# Entropy


def test_bands_are_the_mean_and_its_standard_error(stage: Stage) -> None:
    figures = {figure.title: figure for figure in entropy_figures(stage)}
    assert list(figures) == TITLES
    svg = figures["Entropy of correct and wrong responses"].svg
    heights = {tone: _heights(svg, "band", tone) for tone in "ab"}
    lines = {tone: _heights(svg, "raw", tone) for tone in "ab"}
    group = stage.entropy[0]["groups"]
    scale = (lines["b"][0] - lines["a"][0]) / (group["wrong"]["mean"] - group["correct"]["mean"])
    for tone, name in (("a", "correct"), ("b", "wrong")):
        half = len(heights[tone]) // 2
        width = heights[tone][-1] - heights[tone][0]
        smoothed = sum(row["groups"][name]["se"] for row in stage.entropy[:3]) / 3
        assert len(lines[tone]) == half == 20
        assert width == pytest.approx(-2 * scale * smoothed, rel=0.25)
    assert "2,500 correct, 1,500 wrong" in figures["Entropy of correct and wrong responses"].note


def _heights(svg: str, kind: str, tone: str) -> list[float]:
    trace = re.search(rf'class="{kind} {tone}" d="M([^"]+?)z?"', svg)
    assert trace
    return [float(point.split()[1]) for point in trace[1].split("L")]


def test_the_tail_is_told_with_its_threshold(stage: Stage) -> None:
    tail = next(figure for figure in entropy_figures(stage) if figure.title == "Mean and tail")
    assert f"above {THRESHOLD} nats" in tail.note
    start, end = re.findall(r"from ([\d.]+) to ([\d.]+) %", tail.note)[0]
    shares = [100 * row["groups"]["all"]["tail_share"] for row in stage.entropy]
    assert float(start) == pytest.approx(shares[0], abs=0.4)
    assert float(end) == pytest.approx(shares[-1], abs=0.4)


def test_shades_are_even_on_a_logarithm() -> None:
    assert [shade(value) for value in (0.0, LOWEST / 2, LOWEST, HIGHEST, 1.0)] == [0, 0, 1, SHADES, SHADES]
    between = [LOWEST * (HIGHEST / LOWEST) ** (place / (SHADES - 1)) for place in range(SHADES)]
    assert [shade(value * 1.001) for value in between] == list(range(1, SHADES + 1))


def test_a_heat_map_has_a_cell_for_every_share() -> None:
    svg = heat_map([10, 20, 40], [[1.0, 0.0], [0.5, 0.5], [0.0, 1e-3]], [0.0, 1.0, 2.0], "n", [])
    drawn = svg.split('<path class="axis"')[0]
    cells = [
        float(x) for path in re.findall(r'class="cell s\d" d="([^"]+)"', drawn) for x in re.findall(r"M([\d.]+)", path)
    ]
    assert len(cells) == 4
    left, right = 46.0, 430.0
    # Columns meet half way: 5 to 15, 15 to 30, 30 to 50.
    assert sorted(cells) == pytest.approx(
        [left, *[left + (right - left) * 10 / 45] * 2, left + (right - left) * 25 / 45], abs=0.1
    )


def test_many_steps_are_added_together(folder: Path) -> None:
    stage = load_run(folder).stages[0]
    stage.entropy = [row | {"step": row["step"] + 20 * turn} for turn in range(15) for row in stage.entropy]
    histogram = next(figure for figure in entropy_figures(stage) if figure.title == "Histogram over steps")
    columns = {
        x for path in re.findall(r'class="cell s\d" d="([^"]+)"', histogram.svg) for x in re.findall(r"M([\d.]+)", path)
    }
    assert 40 <= len(columns) <= 72 + SHADES
    assert len(histogram.svg) < 120_000


# Watchdogs


def test_alarms_are_counted_and_shown(stage: Stage) -> None:
    found = alarms(stage)
    assert found
    assert found.sentence.startswith(
        "4 alarms (entropy surge 1, grad norm anomaly 2, reward collapse 1), the first at step 6."
    )
    assert found.sentence.endswith("Reward collapse stopped the run at step 20.")
    assert found.svg.count("<circle") == 4
    assert [row["step"] for row in found.rows] == [6, 10, 11, 20]
    assert dict(found.legend) == {"warn": "b", "checkpoint": "a", "stop": "ink"}


def test_silence_is_told_apart_from_no_watchdog(tmp_path: Path) -> None:
    run = make_rl(tmp_path / "grpo", random.Random(1), steps=20)
    assert alarms(load_run(run).stages[0]) is None
    (run / "watchdogs.jsonl").write_text("")
    found = alarms(load_run(run).stages[0])
    assert found
    assert (found.sentence, found.svg, found.rows) == ("No watchdog raised an alarm.", "", [])


# Modes and selection


def test_budgets_stand_on_a_doubling_axis_with_their_errors(stage: Stage) -> None:
    found = modes(stage.modes)
    assert found
    bars, budgets = found.figures
    assert "n = 200 items. Mean tokens: slow thinking 48, NoThink 8, NoWait 44." in bars.note
    dots = [float(x) for x in re.findall(r'class="dot ring a" cx="([\d.]+)"', budgets.svg)]
    steps = [second - first for first, second in pairwise(dots)]
    assert len(dots) == 4
    assert steps == pytest.approx([steps[0]] * 3, abs=0.2)
    assert budgets.svg.count('class="whisker') == 9
    assert len(found.rows) == 11
    assert {row["domain"] for row in found.by_domain} == {"math", "reading"}


def test_modes_without_rows_are_nothing() -> None:
    assert modes({}) is None
    assert modes({"rows": [{"mode": "slow", "accuracy": None}]}) is None


def test_correlations_are_those_of_the_file(stage: Stage) -> None:
    found = selection(stage.selection)
    assert found
    assert (
        found.sentence == "By critical entropy, the checkpoint to keep is “step_000100”; other criteria choose “best”."
    )
    first, forest = found.figures[0], found.figures[-1]
    assert "in domain r = 0.90 [0.30, 0.99], out of domain r = 0.90 [0.30, 0.99]" in first.note
    assert first.svg.count('class="dot ring') == 10
    assert first.svg.count('class="chosen"') == 2
    assert forest.svg.count("<rect") == 10
    assert selection({}) is None


# Denials


def test_denials_are_split_by_accuracy_and_entropy(tmp_path: Path) -> None:
    (tmp_path / "rollouts").mkdir()
    tokens, entropies = ["I", " see", " no", " image", "."], [0.1, 1.0, 2.0, 0.3, 0.1]

    def one(verdict: str, spans: list[list[int]]) -> dict[str, object]:
        return {
            "text": "".join(tokens),
            "tokens": tokens,
            "entropies": entropies,
            "verdict": verdict,
            "hallucinated": spans,
        }

    rows = [{"id": "a", "completions": [one("wrong", [[1, 8]]), one("correct", [])]},
            {"id": "b", "completions": [one("correct", [[1, 8]]), one("correct", []), one("wrong", [])]}]  # fmt: skip
    (tmp_path / "rollouts" / "step_000001.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (row,) = denial_rows(collect(load_run(tmp_path)))
    assert (row.n, row.count, row.position) == (5, 2, pytest.approx(1 / 15))
    assert row.with_denial == (0.5, pytest.approx(0.5))
    # Means by prompt: 1 and 1/2.
    assert row.without == (pytest.approx(2 / 3), pytest.approx(0.25))
    assert row.entropy == pytest.approx([0.1, 1.5, 0.2, None], nan_ok=True)


def test_no_denials_make_no_table(tmp_path: Path) -> None:
    run = make_rl(tmp_path / "grpo", random.Random(1), steps=10, prompts=2)
    path = run / "rollouts" / "step_000010.jsonl"
    path.write_text(re.sub(r'"hallucinated": \[[^a-z]*\], "tok', '"hallucinated": [], "tok', path.read_text()))
    assert denial_rows(collect(load_run(run))) == []


def test_hostile_names_are_escaped(tmp_path: Path) -> None:
    run = make_analyses(make_rl(tmp_path / "grpo", random.Random(1), steps=20, hostile=True), 20, hostile=True)
    page = write_report(run).read_text(encoding="utf-8")
    assert page.count("<script") == 2
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(3)&gt;" in page.split("Watchdogs")[1]
    assert HOSTILE[1] not in page
