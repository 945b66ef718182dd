"""The scales: which world each runs on, what is in- and out-of-domain there, and what is easy."""

from __future__ import annotations

from typing import Any

import pytest

from seethink.config import EvalConfig
from seethink.eval.tasks.source import load_source_task
from seethink.studies.lab.measurements import MEASUREMENTS
from seethink.studies.lab.reading import in_group
from seethink.studies.lab.scales import Scale, load_scales, names_of
from seethink.studies.quickstart import QUICKSTART, QUICKSTART1
from seethink.world.make import parse_source
from seethink.world.v2.domains import GROUPS

SCALES = load_scales()


def test_the_domains_are_those_of_the_quickstarts() -> None:
    for name, pipeline in (("nano2", QUICKSTART), ("nano", QUICKSTART1)):
        questions = SCALES[name].questions
        assert (questions.domains("in"), questions.domains("out")) == (pipeline.in_domain, pipeline.out_of_domain)
    assert SCALES["smoke"].questions.domains("in") == GROUPS["rl"]


@pytest.mark.parametrize("name", SCALES)
def test_what_rl_trains_on_is_in_domain_and_nothing_else(name: str) -> None:
    scale = SCALES[name]
    words = [word for word in scale.recipes["rl"] if word.startswith("data.train=")]
    trained = words[0].removeprefix("data.train=").strip("'") if words else "world:math"
    assert parse_source(trained)[0] == scale.questions.domains("in")
    assert all(in_group(domain, "in") for domain in scale.questions.domains("in"))
    assert all(in_group(domain, "out") for domain in scale.questions.domains("out"))
    assert all(in_group(domain, "all") for domain in scale.questions.domains("all"))


@pytest.mark.parametrize("name", SCALES)
def test_every_question_has_one_difficulty(name: str) -> None:
    questions = SCALES[name].questions
    task = load_source_task(EvalConfig(data=questions.both, size=8), 0)
    named = sorted(one for names in questions.difficulties.values() for one in names)
    assert named == sorted({sample.difficulty for sample in task.samples})
    for one in named:
        assert sum(one in names_of(difficulty) for difficulty in questions.difficulties) == 1


@pytest.mark.parametrize("name", SCALES)
def test_the_plan_knows_how_long_everything_takes(name: str) -> None:
    assert {*SCALES[name].recipes, "own", *MEASUREMENTS} == set(SCALES[name].seconds)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table | {"domains": "rl"}, "domains"),
        (lambda table: table["questions"].update(both="world2:all") or table, "both must name the domains of inside"),
        (lambda table: table["questions"]["difficulties"].update(level=["9"]) or table, "difficulties"),
        (lambda table: table["eval"].update(math=3) or table, "math"),
    ],
)
def test_what_a_scale_may_not_say(change: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Scale.model_validate(change(SCALES["nano2"].model_dump()))
