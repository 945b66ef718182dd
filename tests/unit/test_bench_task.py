"""Benchmarks as tasks: `bench:NAME` where training, select, modes, hallucination and entropy take their data."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers.benchmarks import logicvista_json, small, wemath_json
from helpers.command_line import run_command
from helpers.scripted_openai import ScriptedOpenAI, says
from seethink.config import EvalConfig, RewardConfig
from seethink.core.types import Completion
from seethink.eval.runner import grade_responses
from seethink.eval.score import score_responses
from seethink.eval.tasks import registry
from seethink.eval.tasks.bench_task import BenchTask, load_bench_task, parse_bench
from seethink.eval.tasks.source import load_source_task
from seethink.rewards.rewarder import Rewarder


@pytest.fixture(autouse=True)
def small_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("logicvista", "wemath"):
        monkeypatch.setitem(registry.BENCHMARKS, name, small(name))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    logicvista_json(tmp_path / "logicvista", 6)
    wemath_json(tmp_path / "wemath")
    return tmp_path


def said(text: str) -> Completion:
    return Completion([1], [0.0], [0.0], text, False, 0)


def graded(task: BenchTask, texts: list[str], reward: RewardConfig | None = None) -> list[list[Completion]]:
    responses = [[said(text)] for text in texts]
    with Rewarder(reward or RewardConfig()) as rewarder:
        grade_responses(task, responses, rewarder)
    return responses


def test_the_loader_of_all_commands_takes_a_benchmark(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEETHINK_BENCH", str(data))
    task = load_source_task(EvalConfig(data="bench:wemath"), 0)
    assert isinstance(task, BenchTask)
    right = [f"<think>x</think>\\boxed{{{'ABC'[n % 3]}}}" for n in range(6)]
    responses = graded(task, right[:3] + ["<think>still"] * 3)
    score = score_responses(task, responses, "avg@1")
    assert (score.name, score.total.n) == ("wemath", 6)
    assert score.accuracy == 0.5  # of two groups one is mastered: the composite, not the mean of answers
    assert score.total.no_answer_rate == 0.5
    assert set(score.by_domain) == {"S1", "S2"}
    assert score.metrics()["eval/wemath/accuracy"] == 0.5


def test_a_sample_and_the_folder_in_the_name(data: Path) -> None:
    task = load_bench_task(f"bench:logicvista:{data}", 4, 0)
    assert len(task.samples) == 4
    assert all(not sample.choices and sample.images for sample in task.samples)


def test_what_the_model_cannot_be_asked_goes_with_its_group(data: Path) -> None:
    chat = SimpleNamespace(context=10, prompt_length=lambda sample: 20 if sample.id == "2steps_0/multi" else 5)
    task = load_bench_task(f"bench:wemath:{data}", None, 0, chat)  # type: ignore[arg-type]
    assert {item.groups["steps"] for item in task.items} == {"2steps_1"}


def test_the_verifier_is_asked_about_answers_that_the_rules_call_wrong(data: Path) -> None:
    task = load_bench_task(f"bench:logicvista:{data}", None, 0)
    with ScriptedOpenAI(lambda ask: says("VERDICT: EQUIVALENT")) as server:
        verifier = {"base_url": server.base_url, "model": "j", "canary_every": 0, "recheck_share": 0}
        responses = graded(task, ["E"] * 6, RewardConfig(verifier=verifier))
    assert [group[0].grade.verdict for group in responses if group[0].grade] == ["correct"] * 6


def test_wrong_names_are_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEETHINK_BENCH", raising=False)
    for source, message in {
        "bench:mmmo": "expected one of mmmu, .* found 'mmmo'",
        "bench:mmmu": "needs its data: give their folder as bench:mmmu:FOLDER, or as SEETHINK_BENCH",
    }.items():
        with pytest.raises(ValueError, match=message):
            parse_bench(source)


@pytest.mark.slow
def test_nano_on_a_benchmark_as_data(data: Path) -> None:
    words = ("--data", f"bench:logicvista:{data}", "--samples", "1", "--no-greedy", "--max-new-tokens", "8")
    done = run_command("eval", "nano", *words)
    assert done.returncode == 0, done.stderr
    assert "inductive" in done.stdout
