"""The question that the first screen of a pipeline's page shows before and after RL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seethink.report.load import Run, Stage
from seethink.report.page import render
from seethink.report.rollouts import Rollouts
from seethink.report.story import story


def group(stage: str, name: str, verdict: str, tokens: list[str], critical: tuple[int, ...] = ()) -> dict[str, Any]:
    one = {"tokens": tokens, "entropies": None, "critical": list(critical), "verdict": verdict, "hallucinated": None}
    return {
        "source": f"{stage} · evaluation",
        "id": name,
        "question": f"<b>{name}</b>?",
        "answer": "4",
        "choices": [],
        "images": ["image file is missing"],
        "completions": [one],
    }


def pipeline(*kinds: str) -> Run:
    stages = [Stage(f"s{i}", Path(f"s{i}"), {"stage": kind}) for i, kind in enumerate(kinds)]
    return Run(Path("run"), "a run", stages)


ANSWERED = [
    group("s0", "short", "wrong", ["5"]),
    group("s0", "again", "wrong", ["5"]),
    group("s0", "lost", "correct", ["4"]),
    group("s0", "alone", "wrong", ["5"]),
    group("s1", "short", "correct", ["4"]),
    group("s1", "again", "correct", ["<think>", "5.", " Wait", ", 4", "<script>"], (2,)),
    group("s1", "lost", "wrong", ["5"]),
]


def test_a_response_that_thinks_again_is_preferred_and_both_directions_are_counted() -> None:
    told = story(pipeline("sft", "grpo"), Rollouts(groups=ANSWERED))
    assert told is not None
    assert (told.question, told.before.stage, told.after.stage) == ("<b>again</b>?", "s0", "s1")
    assert told.after.pieces == [("<think>5.", False), (" Wait, 4<script>", True)]
    assert (told.asked, told.gained, told.lost) == (3, 2, 1)
    assert told.images == []


def test_without_a_second_thought_the_shortest_is_taken() -> None:
    told = story(pipeline("sft", "grpo"), Rollouts(groups=[g for g in ANSWERED if g["id"] != "again"]))
    assert told is not None
    assert (told.question, told.gained) == ("<b>short</b>?", 1)


def test_one_that_was_not_chosen_from_options_is_preferred() -> None:
    long = ["<think>", "5.", " Wait", ", 4", ", 4", ", 4", "<script>"]
    free = [group("s0", "free", "wrong", ["5"]), group("s1", "free", "correct", long, (2,))]
    options = [g | {"choices": ["4", "5"]} if g["id"] == "again" else g for g in ANSWERED]
    told = story(pipeline("sft", "grpo"), Rollouts(groups=[*options, *free]))
    assert told is not None
    assert (told.question, told.gained) == ("<b>free</b>?", 3)


def test_there_is_none_without_rl_after_a_stage_or_without_a_gain() -> None:
    assert story(pipeline("sft", "sft"), Rollouts(groups=ANSWERED)) is None
    assert story(pipeline("grpo"), Rollouts(groups=ANSWERED)) is None
    assert story(pipeline("sft", "grpo"), Rollouts(groups=[g for g in ANSWERED if g["id"] == "lost"])) is None


def test_the_page_escapes_it() -> None:
    page = render(pipeline("sft", "grpo"), Rollouts(groups=ANSWERED))
    shown = page[page.index('id="story"') : page.index("</section>")]
    assert "&lt;b&gt;again&lt;/b&gt;?" in shown
    assert '<span class="critical"> Wait, 4&lt;script&gt;</span>' in shown
    assert "<script>" not in shown
