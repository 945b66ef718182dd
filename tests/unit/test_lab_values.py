"""values.json: every verdict follows from it alone, and what is no such file is refused in one line."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from helpers.command_line import run_command
from helpers.judge_values import main as judge_values_independently
from helpers.lab_folder import make_lab
from seethink.studies.lab.collect import collect_values
from seethink.studies.lab.results import judge_values, load_results
from seethink.studies.lab.schema import LabError, load_experiments
from seethink.studies.lab.values import (
    ClaimValues,
    ExperimentValues,
    LabValues,
    SeedValues,
    join_values,
    read_values,
    write_values,
)
from seethink.studies.lab.verdict import estimate_effect

STORED = sorted((Path(__file__).parents[2] / "benchmarks/lab").glob("*.json"))
NAMES = ("entropy-selection", "vision-frozen", "clip-higher", "rl-against-sft")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lab(tmp_path_factory.mktemp("lab"), *NAMES)


def test_the_file_gives_the_effects_and_verdicts_of_the_folder(lab: Path, tmp_path: Path) -> None:
    values = collect_values(lab)
    write_values(tmp_path / "values.json", values)
    again = read_values(tmp_path / "values.json")
    assert again == values
    first, second = load_results(lab), judge_values(again)
    assert [e.results for e in first.experiments] == [e.results for e in second.experiments]
    assert first.counts == second.counts
    assert len(first.experiments[0].regrets) == 5
    assert first.experiments[1].arms
    assert not second.experiments[1].arms


def test_the_items_of_a_seed_are_counted_by_their_difference(lab: Path) -> None:
    values = next(e for e in collect_values(lab).experiments if e.experiment.name == "rl-against-sft")
    place = [c.text for c in values.experiment.claims].index("RL gains in-domain accuracy")
    for one in values.claims[place].seeds:
        assert sum(count for _, count in one.items) == 20
        assert all(6 * value == pytest.approx(round(6 * value)) for value, _ in one.items)  # of three checkpoints
        assert sum(value * count for value, count in one.items) / 20 == pytest.approx(one.left - (one.right or 0))


def test_of_a_mean_over_checkpoints_every_value_is_kept(lab: Path, tmp_path: Path) -> None:
    write_values(tmp_path / "values.json", collect_values(lab))
    values = next(e for e in read_values(tmp_path / "values.json").experiments if e.experiment.name == "rl-against-sft")
    place = [c.text for c in values.experiment.claims].index("RL gains in-domain accuracy")
    for one in values.claims[place].seeds:
        assert one.left_newest is not None
        assert len(set(one.left_newest)) > 1
        assert np.mean(one.left_newest) == pytest.approx(one.left)
        assert one.right_newest is None  # of the cold start there is one


def test_a_failed_check_makes_its_claims_untestable_and_is_said_with_its_value(lab: Path) -> None:
    """The made-up lab clips 0.4 % of the tokens, has 2 to 8 critical ones a checkpoint, and reads half of the easy."""
    found = {(e.experiment.name, r.claim.text): r for e in load_results(lab).experiments for r in e.results}
    clipped = found["clip-higher", "Training collapses"]
    assert clipped.verdict == "untestable"
    assert clipped.effect is not None
    assert clipped.why == "The usual clip acts on 2 % of the tokens: 0.004 where at least 0.02 was asked for"
    assert {r.verdict for (name, _), r in found.items() if name == "entropy-selection"} == {"untestable"}
    assert found["vision-frozen", "A trainable encoder ends with more accuracy"].verdict != "untestable"


@pytest.mark.parametrize("primary", [True, False])
def test_q_is_benjamini_and_hochbergs_over_the_testable_claims(lab: Path, primary: bool) -> None:
    """The primary claims among themselves, and the others."""
    rows = [r for e in load_results(lab).experiments for r in e.results if r.claim.primary == primary]
    tested = sorted((r for r in rows if r.verdict != "untestable"), key=lambda r: r.effect.p)
    assert len(tested) >= 3
    for place, row in enumerate(tested, start=1):
        naive = min(other.effect.p * len(tested) / rank for rank, other in enumerate(tested, 1) if rank >= place)
        assert row.q == pytest.approx(min(1.0, naive))
    assert all(math.isnan(r.q) for r in rows if r.verdict == "untestable")


def test_an_independent_script_comes_to_the_same_intervals_and_verdicts(tmp_path: Path) -> None:
    """Five seeds, of which a primary claim uses all; its script's bootstrap and its levels of looks are its own."""
    make_lab(tmp_path, *NAMES, "connector-frozen", "dynamic-sampling", "post-rl-tuning", "decodings", seeds=5, items=30)
    write_values(tmp_path / "values.json", collect_values(tmp_path))
    assert {"agrees", "absent", "can't tell", "untestable"} <= judged_twice(tmp_path / "values.json")


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_it_comes_to_the_stored_results_too(path: Path) -> None:
    judged_twice(path)
    for experiment in read_values(path).experiments:
        today = load_experiments()[experiment.experiment.name]
        assert [c.text for c in experiment.experiment.claims] == [c.text for c in today.claims]


def test_it_comes_to_the_results_of_all_machines_joined(tmp_path: Path) -> None:
    """Those of the second world: one file has other seeds or other experiments than the next."""
    values = [read_values(path) for path in STORED]
    ours = [one for one in values if {e.scale for e in one.experiments} == {"nano2"}]
    write_values(tmp_path / "values.json", join_values(ours))
    judged_twice(tmp_path / "values.json")


def judged_twice(path: Path) -> set[str]:
    """Compare both ways of judging; returns the verdicts."""
    rows = [r for e in judge_values(read_values(path)).experiments for r in e.results]
    others = judge_values_independently(path)
    scale = {True: np.log, False: float}
    for row, other in zip(rows, others, strict=True):
        value, low, high = map(scale[row.claim.ratio], (row.effect.value, row.effect.low, row.effect.high))
        assert value == pytest.approx(other["value"], abs=1e-12)
        assert row.effect.p == pytest.approx(other["p"], rel=1e-7, nan_ok=True)
        assert row.q == pytest.approx(other["q"], rel=1e-7, nan_ok=True)
        near = (high - low) * (0.05 if other["by_items"] else 1e-4 if row.claim.primary else 1e-8)
        assert (low, high) == pytest.approx((other["low"], other["high"]), abs=near, nan_ok=True)
        # Two bootstraps may fall on either side of a bound that the end of an interval touches.
        ends = [abs(end - bound) for end in (low, high) for bound in (0.0, row.claim.least, -row.claim.least)]
        assert row.verdict == other["verdict"] or (other["by_items"] and min(ends) <= near)
    return {str(r.verdict) for r in rows}


@pytest.mark.parametrize(
    ("seeds", "judged", "level"), [(2, 2, 0.9), (3, 3, 0.99726), (4, 3, 0.99726), (5, 5, 0.97455), (9, 8, 0.90815)]
)
def test_a_primary_claim_is_judged_at_its_looks(seeds: int, judged: int, level: float) -> None:
    claim = next(c for c in load_experiments()["rl-against-sft"].claims if c.primary).model_copy(update={"checks": ()})
    values = [SeedValues(seed=i, left=0.5 + 0.001 * (i % 2), right=0.1) for i in range(seeds)]
    experiment = load_experiments()["rl-against-sft"].model_copy(update={"claims": (claim,), "checks": {}})
    one = ExperimentValues(experiment=experiment, scale="nano", seeds=seeds, claims=(ClaimValues(seeds=tuple(values)),))
    ((found,),) = [e.results for e in judge_values(LabValues(experiments=(one,))).experiments]
    assert found.effect is not None
    assert (found.effect.seeds, found.effect.level) == (judged, pytest.approx(level, abs=1e-5))
    assert (found.verdict == "agrees") == (seeds >= 3)
    said = {2: "A primary claim is judged from 3 seeds on", 4: "Judged by the first 3 of 4 seeds, until there are 5"}
    assert found.why == said.get(seeds, "")


@pytest.mark.parametrize(("name", "text"), [("entropy-selection", "goes with"), ("selection", "goes with")])
@pytest.mark.parametrize(
    ("found", "low"), [((-0.9, -0.95, -0.2), -1.0), ((-1.4, -1.1, -1.2), -3.7 / 3), ((-0.05, 0.0, 0.05), None)]
)
def test_the_interval_of_a_correlation_has_no_impossible_values(
    name: str, text: str, found: tuple[float, ...], low: float | None
) -> None:
    """Correcting for reliability can take the value itself beyond -1."""
    claim = next(c for c in load_experiments()[name].claims if text in c.text).model_copy(update={"primary": False})
    effect = estimate_effect(claim, [SeedValues(seed=n, left=value) for n, value in enumerate(found)])
    assert effect.low == pytest.approx(low) if low is not None else -1 < effect.low < -0.05
    assert effect.low <= effect.value <= effect.high <= 1


def test_a_check_that_was_not_measured_fails(tmp_path: Path) -> None:
    make_lab(tmp_path, "clip-higher")
    for path in tmp_path.glob("arms/usual-*/metrics.jsonl"):
        path.write_text(path.read_text().replace("loss/clip_fraction", "other"))
    (one, _) = load_results(tmp_path).experiments[0].results
    assert one.verdict == "untestable"
    assert one.why.endswith("not measured (usual: metrics.jsonl has no loss/clip_fraction)")


def test_a_claim_without_any_value_is_untestable_where_its_check_was_measured_and_fails(tmp_path: Path) -> None:
    """No critical token leaves no choice by their entropy; an arm that has not run says nothing of either."""
    make_lab(tmp_path, "entropy-selection")
    for path in tmp_path.glob("arms/*/select.json"):
        table = json.loads(path.read_text())
        table["criteria"]["critical_entropy"]["chosen"] = None
        path.write_text(json.dumps(table))
    _, chooses, *_ = load_results(tmp_path).experiments[0].results
    assert (chooses.effect, chooses.verdict) == (None, "untestable")
    for path in tmp_path.glob("arms/*/select.json"):
        path.unlink()
    _, chooses, *_ = load_results(tmp_path).experiments[0].results
    assert (chooses.verdict, chooses.why) == ("can't tell", "rl has no select.json")


def test_the_report_leaves_the_file_and_the_command_judges_it(lab: Path, tmp_path: Path) -> None:
    assert run_command("lab", "report", "--out", str(lab)).returncode == 0
    said = run_command("lab", "verdicts", str(lab / "values.json"), "--markdown", str(tmp_path / "again.md"))
    assert said.returncode == 0, said.stderr
    assert "Training collapses" in said.stdout
    assert "untestable" in said.stdout
    assert (tmp_path / "again.md").read_text() == (lab / "report.md").read_text()
    assert len((lab / "values.json").read_text()) < 40_000


def test_seeds_of_several_machines_join_to_what_one_would_have_measured(tmp_path: Path) -> None:
    parts = [("a", 0, 2), ("b", 4, 1), ("c", 2, 2)]
    folders = [make_lab(tmp_path / name, *NAMES, seeds=n, first_seed=first) for name, first, n in parts]
    whole = collect_values(make_lab(tmp_path / "whole", *NAMES, seeds=5))
    joined = join_values([collect_values(folder) for folder in folders])
    assert joined.experiments == whole.experiments
    assert joined.facts["Machine"] == "made up"
    assert joined.facts["Jobs"] == "12 and 6"
    assert [e.results for e in judge_values(joined).experiments] == [e.results for e in judge_values(whole).experiments]


def test_the_commands_join_files(tmp_path: Path) -> None:
    a, b = make_lab(tmp_path / "a", *NAMES[2:], seeds=3), make_lab(tmp_path / "b", *NAMES[1:], seeds=2, first_seed=3)
    assert run_command("lab", "report", "--out", str(b)).returncode == 0
    assert run_command("lab", "report", "--out", str(a), "--also", str(b / "values.json")).returncode == 0
    again = tmp_path / "again.md"
    said = run_command("lab", "verdicts", str(a / "values.json"), str(b / "values.json"), "--markdown", str(again))
    assert said.returncode == 0, said.stderr
    assert again.read_text() == (a / "report.md").read_text()
    assert "5 seeds" in again.read_text()
    ran = again.read_text().splitlines()[2]
    assert "`seethink lab run clip-higher rl-against-sft --seeds 5`" in ran
    assert "`seethink lab run vision-frozen --seeds 2 --first-seed 3`" in ran
    assert {e.seeds for e in read_values(a / "values.json").experiments} == {3}  # of this folder alone


def test_a_seed_that_is_in_two_files_is_refused_and_so_are_other_claims(tmp_path: Path, lab: Path) -> None:
    values = collect_values(lab)
    with pytest.raises(LabError, match=r"seed 0 of experiment 'entropy-selection' is in two files"):
        join_values([values, values])
    other = collect_values(make_lab(tmp_path, *NAMES, first_seed=3))
    claims = [e.experiment.claims for e in other.experiments]
    odd = [c.model_copy(update={"least": 0.123}) for c in claims[0]]
    stated = other.experiments[0].experiment.model_copy(update={"claims": tuple(odd)})
    changed = other.experiments[0].model_copy(update={"experiment": stated})
    with pytest.raises(LabError, match="has other claims, checks or another scale"):
        join_values([values, LabValues(experiments=(changed,))])


def test_a_plan_says_what_its_claims_can_show_given_earlier_values(lab: Path, tmp_path: Path) -> None:
    write_values(tmp_path / "values.json", collect_values(lab))
    words = ("lab", "plan", "rl-against-sft", "clip-higher", "--power", "--seeds", "5")
    before, after = run_command(*words), run_command(*words, "--from", str(tmp_path / "values.json"))
    assert before.returncode == after.returncode == 0, before.stderr + after.stderr
    assert (before.stdout.count("(items alone)"), before.stdout.count("not known")) == (5, 2)
    assert after.stdout.count("(3 seeds)") == 7
    assert "of 7 claims can be decided with 5 seeds" in after.stdout


def test_earlier_values_are_of_the_power() -> None:
    refused = run_command("lab", "plan", "rl-zero", "--from", "values.json")
    assert refused.returncode == 2
    assert "--from is of --power" in refused.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: "{", "not JSON"),
        (lambda table: json.dumps({"rows": []}), "unknown key 'rows'"),
        (lambda table: json.dumps(table | {"lab_values": 2}), "lab_values"),
        (lambda table: json.dumps(table["experiments"][0]["claims"].pop() and table), "5 claims, and values of 4"),
        (lambda table: json.dumps(table["experiments"][0]["checks"].clear() or table), "has no values"),
        (lambda table: json.dumps(table).replace('"seed": 1,', '"seed": 0,', 1), "a seed is there twice"),
        (lambda table: json.dumps(table).replace(", 1]", ", 99000000]", 1), "items; 1,000,000 at most are believed"),
        (lambda table: json.dumps(table).replace(", 1]", ", -1]", 1), "greater than 0"),
        (lambda table: json.dumps(table).replace('"left": ', '"left": NaN, "was": ', 1), "left"),
    ],
)
def test_what_is_no_such_file_is_refused(lab: Path, tmp_path: Path, change: object, said: str) -> None:
    write_values(tmp_path / "values.json", collect_values(lab))
    table = json.loads((tmp_path / "values.json").read_text())
    (tmp_path / "values.json").write_text(change(table))  # type: ignore[operator]
    with pytest.raises(LabError, match=r"values\.json is not a values\.json of `seethink lab report`") as error:
        read_values(tmp_path / "values.json")
    assert said in str(error.value)


def test_values_of_any_size_have_a_verdict_and_their_text_no_power(lab: Path, tmp_path: Path) -> None:
    """A ratio beyond all numbers is no effect, and a text may not steer the terminal."""
    write_values(tmp_path / "values.json", collect_values(lab))
    table = json.loads((tmp_path / "values.json").read_text())
    ratio = next(e for e in table["experiments"] if e["experiment"]["name"] == "clip-higher")
    ratio["experiment"]["claims"][0] |= {"checks": [], "text": "\x1b[2Jgone"}
    ratio["claims"][0]["seeds"][0] |= {"left": 1e300, "right": 1e-300}
    (tmp_path / "values.json").write_text(json.dumps(table))
    said = run_command("lab", "verdicts", str(tmp_path / "values.json"))
    assert said.returncode == 0, said.stderr
    assert "\x1b[2J" not in said.stdout
    assert "gone" in said.stdout
    (row, _) = next(
        e for e in judge_values(read_values(tmp_path / "values.json")).experiments if e.experiment.name == "clip-higher"
    ).results
    assert row.verdict == "can't tell"


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    result = run_command("lab", "verdicts", "none.json", cwd=tmp_path)
    assert result.returncode == 2
    assert "none.json does not exist" in result.stderr
