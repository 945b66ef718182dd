"""Scores, thresholds, states of traces, and which of them become training data."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seethink.coldstart import funnel
from seethink.coldstart.questions import LeftOut, Question, Questions
from seethink.coldstart.scores import TraceScores, measure, overlap
from seethink.coldstart.select import Outcome, Trace, select
from seethink.coldstart.store import Grader, Plan, Store
from seethink.coldstart.teacher import Ask, State, Told, one_form, told
from seethink.config import SftConfig
from seethink.config.coldstart import ColdstartConfig
from seethink.config.coldstart_file import coldstart_settings
from seethink.core.text_measures import words
from seethink.core.types import Grade, Sample, Verdict
from seethink.studies.coldstart.folder import traces_of

C, W, E = Verdict.CORRECT, Verdict.WRONG, Verdict.ERROR
GOOD = TraceScores(True, 20, 0.0, 0.1, 1.5, (), 0, 1, 0)


def question(key: str, **changes: Any) -> Question:
    return replace(Question(key, key, f"Q {key}?", "7", group=key), **changes)


def trace(key: str, verdict: Verdict | None = C, state: State = "done", **scores: Any) -> Trace:
    return Trace(key, state, verdict, "rule", replace(GOOD, **scores) if state == "done" else None)


def chosen(
    traces: Sequence[Trace], *, choices: bool = False, filters: dict[str, Any] | None = None, **config: Any
) -> Outcome:
    one = question("q", choices=["x", "y"] if choices else [])
    return select([one], {"q": traces}, ColdstartConfig(**config), SftConfig(**(filters or {})))[0]


@pytest.mark.parametrize(
    ("traces", "reason"),
    [
        ([], "not_asked"),
        ([trace("a")], "selected"),
        ([trace("a", W)], "wrong_answer"),
        ([trace("a", Verdict.NO_ANSWER)], "wrong_answer"),
        ([trace("a", E)], "not_graded"),
        ([trace("a", None)], "not_graded"),
        ([trace("a", None, "failed")], "failed"),
        ([trace("a", None, "truncated"), trace("b", None, "truncated")], "truncated"),
        ([trace("a", None, "refused"), trace("b", W)], "wrong_answer"),
        ([trace("a", None, "empty"), trace("b")], "selected"),
        ([trace("a", think_format=False)], "bad_format"),
        ([trace("a", W), trace("b", tokens=9000)], "too_long"),
        ([trace("a", tokens=8192)], "selected"),
        ([trace("a", worst_repetition=0.51)], "rambling"),
        ([trace("a", worst_repetition=0.5)], "selected"),
        ([trace("a", compression=8.1)], "rambling"),
        ([trace("a", compression=8.0)], "selected"),
        ([trace("a", hallucinations=1)], "hallucinated"),
        ([trace("a", foreign_scripts=("CJK",))], "language_mixed"),
        ([trace("a", other_script=0.1)], "selected"),
        ([trace("a", other_script=0.11)], "language_switched"),
        ([trace("a", control_tokens=1)], "control_token"),
    ],
)
def test_the_reason_of_a_question(traces: list[Trace], reason: str) -> None:
    outcome = chosen(traces)
    assert outcome.reason == reason
    assert bool(outcome.chosen) == (reason == "selected")


def test_surprising_traces_can_be_left_out() -> None:
    known, unknown = replace(trace("a"), perplexity=9.0), trace("b")
    assert chosen([known], max_perplexity=8.5).reason == "surprising"
    assert chosen([known], max_perplexity=9.0).reason == chosen([known]).reason == "selected"
    assert chosen([unknown], max_perplexity=8.5).reason == "selected"
    with pytest.raises(ValueError, match=r"needs coldstart\.student"):
        ColdstartConfig(perplexity=True)


def test_every_reason_is_kept_the_first_one_first() -> None:
    outcome = chosen([trace("a", W, worst_repetition=0.9, foreign_scripts=("CJK",), tokens=9000)])
    assert outcome.against == {"a": ["wrong_answer", "too_long", "rambling", "language_mixed"]}


def test_one_right_answer_of_options_may_be_chance() -> None:
    assert chosen([trace("a"), trace("b", W)], choices=True).reason == "perhaps_chance"
    assert chosen([trace("a"), trace("b")], choices=True).reason == "selected"
    assert chosen([trace("a"), trace("b", W)], choices=True, choice_right=1).reason == "selected"
    assert chosen([trace("a", tokens=9000), trace("b")], choices=True).chosen == ["b"], "right, though too long"


def test_the_shortest_right_traces_are_taken() -> None:
    traces = [trace("a", tokens=30), trace("b", tokens=9), trace("c", W, tokens=5), trace("d", tokens=12)]
    sketched = [replace(t, scores=replace(t.scores, sketch=(i,))) for i, t in enumerate(traces) if t.scores]
    assert chosen(sketched).chosen == ["b"]
    assert chosen(sketched, per_question=2).chosen == ["b", "d"]
    assert chosen(sketched, min_tokens=10).chosen == ["d"]
    assert chosen(sketched, min_tokens=10).against["b"] == ["too_short"]


def test_traces_that_are_nearly_the_same_count_once() -> None:
    text = " ".join(f"word{n}" for n in range(200))
    scores = [measure(Sample("s", "Q?"), said, words) for said in (text, text + " end", text[::-1])]
    assert overlap(scores[0], scores[1]) > 0.9
    assert overlap(scores[0], scores[2]) < 0.1
    traces = [Trace(str(i), "done", C, "rule", replace(s, think_format=True)) for i, s in enumerate(scores)]
    picked = chosen(traces, per_question=3).chosen
    assert len(picked) == 2
    assert len({"0", "1"} & set(picked)) == 1


def test_tokens_of_a_template_and_control_characters_are_counted() -> None:
    sample = Sample("a", "Why?", answer="7")
    texts = ("So\t\r\n7.", "So 7.<|im_end|>", "So\x1b[31m 7.\x00")
    assert [measure(sample, text, words).control_tokens for text in texts] == [0, 1, 2]


def test_training_measures_only_what_it_filters_by() -> None:
    sample = Sample("s", "Q?", answer="7")
    text = "<think>Wait, " + "so it is 所以. " * 30 + "</think>7"
    whole, part = measure(sample, text, words), measure(sample, text, words, filtered_by=True)
    assert replace(whole, compression=0.0, critical_words=0, control_tokens=0, sketch=()) == part
    assert (whole.critical_words, part.foreign_scripts) == (1, ("CJK",))


def test_too_easy_questions_can_be_left_out() -> None:
    traces = [trace("a"), trace("b"), trace("c", W), trace("d")]
    assert chosen(traces, adaptive=False, max_pass=0.7).reason == "too_easy"
    assert chosen(traces, adaptive=False, max_pass=0.75).reason == "selected"
    with pytest.raises(ValueError, match="adaptive=false"):
        ColdstartConfig(max_pass=0.5)


def many(count: int, **changes: Any) -> tuple[list[Question], dict[str, list[Trace]]]:
    questions = [question(f"{n:02d}", domain="ab"[n % 2], **changes) for n in range(count)]
    return questions, {q.key: [trace(f"t{q.key}")] for q in questions}


def test_quotas_do_not_depend_on_the_order() -> None:
    questions, traces = many(20)
    config = ColdstartConfig(quotas={"a": 3}, val_share=0.0)
    taken = {o.question.key for o in select(questions, traces, config, SftConfig()) if o.chosen}
    assert sum(q.domain == "a" and q.key in taken for q in questions) == 3
    assert sum(q.domain == "b" and q.key in taken for q in questions) == 10
    random.Random(1).shuffle(questions)
    assert {o.question.key for o in select(questions, traces, config, SftConfig()) if o.chosen} == taken
    words = ["coldstart.quotas.*=4", "coldstart.quotas.a=3", "coldstart.val_share=0.0"]
    counts = Counter(
        o.question.domain
        for o in select(questions, traces, coldstart_settings(None, words).coldstart, SftConfig())
        if o.chosen
    )
    assert counts == {"a": 3, "b": 4}


def test_questions_about_one_picture_stay_together() -> None:
    questions, traces = many(40)
    questions = [replace(q, group=f"g{n // 4}") for n, q in enumerate(questions)]
    outcomes = select(questions, traces, ColdstartConfig(val_share=0.2), SftConfig())
    sides: dict[str, set[bool]] = {}
    for outcome in outcomes:
        sides.setdefault(outcome.question.group, set()).add(outcome.is_validation)
    assert all(len(held) == 1 for held in sides.values())
    assert sum(o.is_validation for o in outcomes) == 8
    assert not any(o.is_validation for o in select(questions, traces, ColdstartConfig(val_share=0), SftConfig()))


def test_a_selection_of_one_picture_is_not_divided() -> None:
    questions, traces = many(4, group="one")
    assert not any(o.is_validation for o in select(questions, traces, ColdstartConfig(), SftConfig()))


# ---- counts


def test_the_funnel_and_its_reasons_add_up() -> None:
    questions = [question(key, choices=["x", "y"] if key == "c" else []) for key in "abcde"]
    traces = {
        "a": [trace("1", W), trace("2")],
        "b": [trace("3", W)],
        "c": [trace("4")],
        "d": [trace("5", None, "failed")],
        "e": [trace("6", E), trace("7", W, foreign_scripts=("CJK",))],
    }
    outcomes = select(questions, traces, ColdstartConfig(), SftConfig())
    found = Questions(questions, [LeftOut("x", "f", 9, "duplicate", "")], {})
    counts = funnel.funnel(found, outcomes)
    assert counts.steps() == [("read", 6), ("asked", 5), ("answered", 4), ("with a right trace", 2), ("selected", 1)]
    first = funnel.first_reasons(found, outcomes)
    assert first == {"duplicate": 1, "failed": 1, "not_graded": 1, "perhaps_chance": 1, "wrong_answer": 1}
    assert sum(first.values()) + counts.selected == counts.read
    assert ("wrong_answer", 3, 3) in funnel.trace_reasons(outcomes)
    assert ("language_mixed", 0, 1) in funnel.trace_reasons(outcomes)
    assert funnel.unanswered(outcomes) == (2, 7)
    (all_of_them, *_) = funnel.parts(outcomes)
    assert (all_of_them.pass_1, all_of_them.pass_n) == (1 / 3, 2 / 4)
    assert funnel.by_decider(outcomes) == {"rule": 2}


def test_every_reason_has_words() -> None:
    from seethink.data.quarantine import REASONS

    used = {"duplicate", "contradiction", "near_duplicate", "benchmark_text", "benchmark_image", "control_token"}
    assert used <= funnel.WORDS.keys()
    assert all(funnel.words_of(reason) for reason in (*funnel.WORDS, *REASONS))


# ---- what comes back


@pytest.mark.parametrize(
    ("text", "reasoning", "form"),
    [
        ("<think>So.</think>7", None, "<think>So.</think>7"),
        ("So.</think>7", None, "<think>So.</think>7"),
        ("<thinking>So.</thinking>\n7", None, "<think>So.</think>\n7"),
        ("◁think▷So.◁/think▷7", None, "<think>So.</think>7"),
        ("[THINK]So.[/THINK]7", None, "<think>So.</think>7"),
        ("7", "So.", "<think>So.</think>7"),
        ("7", "<think>So.</think>", "<think>So.</think>7"),
        ("Just 7", None, "Just 7"),
        ("7", " ", "7"),
    ],
)
def test_thoughts_have_one_form(text: str, reasoning: str | None, form: str) -> None:
    assert one_form(text, reasoning) == form


def test_what_a_reply_is() -> None:
    assert told("7", cut_off=False).state == "done"
    assert told(" ", cut_off=False, reasoning="So.").state == "empty"
    assert told("7", cut_off=True).state == "truncated"
    assert told("No.", cut_off=False, refused=True).state == "refused"


# ---- what is asked next


def plan(questions: list[Question], **config: Any) -> Plan:
    return Plan(questions, ColdstartConfig(**config), {"model": "m"}, "", 0)


BY = Grader({})


def store_with(folder: Path, plan: Plan, samples: Sequence[tuple[State, Verdict | None]]) -> Store:
    """The first samples of the plan's first question."""
    store, one = Store(folder), plan.questions[0]
    for number, (state, verdict) in enumerate(samples):
        store.add_trace(Ask(plan.key(one, number), one, number), Told(state, "text"))
        if verdict is not None:
            store.add_grade(plan.key(one, number), BY.digest(one), Grade(verdict, None, ""), "rule")
    return store


@pytest.mark.parametrize(
    ("samples", "choices", "wanted"),
    [
        ([], False, [0]),
        ([("done", C)], False, []),
        ([("done", C)], True, [1]),
        ([("done", C), ("done", C)], True, []),
        ([("done", W)], False, [1]),
        ([("done", W), ("done", W), ("done", W)], False, []),
        ([("done", None)], False, []),
        ([("done", E)], False, []),
        ([("failed", None)], False, []),
        ([("truncated", None)], False, [1]),
        ([("truncated", None), ("truncated", None)], False, []),
        ([("empty", None), ("refused", None)], False, [2]),
    ],
)
def test_more_is_asked_only_about_the_unsolved(
    tmp_path: Path, samples: list[tuple[State, Verdict | None]], choices: bool, wanted: list[int]
) -> None:
    one = plan([question("q", choices=["x", "y"] if choices else [])], samples=3)
    with store_with(tmp_path, one, samples) as store:
        assert [ask.number for ask in one.open_asks(store, BY, retry_failed=False)] == wanted


def test_without_adaptive_sampling_all_are_asked_at_once_and_failures_on_demand(tmp_path: Path) -> None:
    one = plan([question("q")], samples=4, adaptive=False)
    with store_with(tmp_path, one, [("done", C), ("failed", None)]) as store:
        assert [ask.number for ask in one.open_asks(store, BY, retry_failed=False)] == [2, 3]
        assert [ask.number for ask in one.open_asks(store, BY, retry_failed=True)] == [1, 2, 3]


def test_keys_depend_on_all_that_a_trace_depends_on() -> None:
    one = question("q")
    base = plan([one])
    others = [
        plan([one], temperature=0.5),
        plan([one], max_tokens=9),
        plan([one], top_p=0.9),
        replace(base, system="Be brief."),
        replace(base, teacher={"model": "n"}),
        replace(base, seed=1),
    ]
    keys = [base.key(one, 0), base.key(one, 1), base.key(question("p"), 0), *(other.key(one, 0) for other in others)]
    assert len(set(keys)) == len(keys)
    assert base.key(replace(one, answer="8", id="x"), 0) == keys[0], "the gold is no part of it"
    assert plan([one], samples=9, per_question=2).key(one, 0) == keys[0]


def test_a_corrected_gold_is_graded_anew(tmp_path: Path) -> None:
    one = question("q")
    with store_with(tmp_path, plan([one]), [("done", C)]) as store:
        key = plan([one]).key(one, 0)
        assert store.verdict(key, BY.digest(one)) is C
        assert store.verdict(key, BY.digest(replace(one, answer="8"))) is None
        assert store.verdict(key, Grader({"verifier": 1}).digest(one)) is None


def test_the_order_of_arrival_does_not_matter(tmp_path: Path) -> None:
    questions = [question(key) for key in "abc"]
    wanted = plan(questions, samples=2)
    arrivals = [Ask(wanted.key(q, n), q, n) for q in questions for n in range(2)]
    seen = []
    for place, order in enumerate(itertools.islice(itertools.permutations(arrivals), 0, 720, 90)):
        (tmp_path / str(place)).mkdir()
        with Store(tmp_path / str(place)) as store:
            for ask in order:
                store.add_trace(ask, Told("done", "text"))
                store.add_grade(ask.key, BY.digest(ask.question), Grade(C if ask.number else W, None, ""), "rule")
            seen.append(traces_of(wanted, store, BY))
    assert all(found == seen[0] for found in seen)
