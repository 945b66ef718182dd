"""How often "Wait" follows first attempts: from responses to a claim's values and the curve on the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from seethink.config import EvalConfig
from seethink.core.types import Completion
from seethink.eval.tasks.source import load_source_task
from seethink.studies.lab.curves import reflection_curves
from seethink.studies.lab.lab_page import render
from seethink.studies.lab.plan import LabError, make_plan
from seethink.studies.lab.reading import Unreadable, read_term
from seethink.studies.lab.reflection import calibration_of
from seethink.studies.lab.results import ExperimentResult, Result, Results
from seethink.studies.lab.schema import Term, load_experiments
from seethink.world.v2.items import item_of
from seethink.world.v2.names import NAMES

EXPERIMENT = load_experiments()["reflection"]


def said(text: str) -> Completion:
    return Completion([1], [0.0], [0.0], f"<think>{text}</think>", False, 0)


def test_first_attempts_at_the_questions_are_counted_by_whether_wait_follows() -> None:
    """Of chains: where an arrow leads, said rightly twice (one of them doubted) and wrongly once, which is doubted."""
    domain = next(s.domain for s in load_source_task(EvalConfig(data="world2:rl", size=1), 0).samples if is_chain(s.id))
    task = load_source_task(EvalConfig(data=f"world2:{domain}", size=3), 0)
    groups = []
    for sample, doubted in zip(task.samples, (False, True, True), strict=True):
        answer = item_of(sample.id).problem.answer
        wrong = next(name for name in NAMES if name != answer)
        name = wrong if sample is task.samples[2] else answer
        groups.append([said(f"so {name}." + (" Wait, again." if doubted else "")), said("nothing.")])
    found = calibration_of(task, groups)
    assert (found.after_wrong, found.after_right, found.num_wrong, found.num_right) == (1.0, 0.5, 1, 2)


def is_chain(id: str) -> bool:
    problem = item_of(id).problem
    return problem.family == "chains" and problem.answer in NAMES


def write(folder: Path, *rows: tuple[int, float | None, float | None, int, int]) -> Path:
    folder.mkdir()
    keys = ("step", "after_wrong", "after_right", "num_wrong", "num_right")
    table = {"checkpoints": [dict(zip(keys, row, strict=True)) for row in rows]}
    (folder / "reflection.json").write_text(json.dumps(table))
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return [
        write(tmp_path / "a", (0, 0.5, 0.25, 90, 200), (10, 0.75, 0.25, 120, 80)),
        write(tmp_path / "b", (0, 0.25, 0.125, 90, 200), (10, None, 0.75, 0, 80)),
    ]


def value(folder: Path, what: Any) -> float:
    return read_term(Term(arm="rl", reflection=what), {"rl": folder}).value


def test_values_of_a_claim(folders: list[Path]) -> None:
    assert value(folders[0], "gap") == 0.5
    assert value(folders[0], "gap-before") == 0.25
    assert value(folders[0], "attempts") == 80
    with pytest.raises(Unreadable, match="no first attempt of a kind"):
        value(folders[1], "gap")
    assert {claim.scale for claim in EXPERIMENT.claims} == {"points"}


def test_the_curve_is_the_mean_over_seeds_where_all_have_such_attempts(folders: list[Path]) -> None:
    assert reflection_curves([*folders, folders[0].parent]) == {
        "after a wrong attempt": [(0, 0.375)],
        "after a right attempt": [(0, 0.1875), (10, 0.5)],
    }
    assert reflection_curves([folders[0].parent]) == {}


def test_the_page_draws_it(folders: list[Path]) -> None:
    found = [Result(claim, None, "can't tell") for claim in EXPERIMENT.claims]
    curves = {"rl": reflection_curves(folders[:1])}
    page = render(Results([ExperimentResult(EXPERIMENT, "nano2", 3, found, reflections=curves)]))
    assert "How often \u201cWait\u201d follows: rl" in page
    assert "after a wrong attempt" in page
    empty = render(Results([ExperimentResult(EXPERIMENT, "nano2", 3, found)]))
    assert "after a wrong attempt" not in empty


def test_the_curve_begins_with_what_rl_started_from() -> None:
    plan = make_plan([EXPERIMENT], "nano2", 1, Path("lab"))
    rl, cold = (next(job for job in plan.jobs.values() if job.stage == stage) for stage in ("rl", "coldstart"))
    assert rl.measurements["reflection"]["start"] == cold.label
    assert rl.measurements["reflection"]["data"] == "world2:rl?levels=1-4"
    assert rl.recipe.checkpoint.keep == 100
    zero = EXPERIMENT.arms["rl"].model_copy(update={"parent": "base"})
    with pytest.raises(LabError, match="reflection/rl: reflection is measured from a trained parent on"):
        make_plan([EXPERIMENT.model_copy(update={"arms": EXPERIMENT.arms | {"rl": zero}})], "nano2", 1, Path("lab"))
