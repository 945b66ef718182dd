"""The verifier on a server that works: who is asked what, once, and what is kept of it."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.scripted_openai import Ask, Concurrency, Reply, ScriptedOpenAI, after, says_no, says_yes
from seethink.core.types import Grade, Verdict
from seethink.rewards.verifier.verifier import Verifier, VerifierConfig, VerifyItem


def truthful(ask: Ask) -> Reply:
    """Equivalent when the candidate spells the gold out."""
    return says_yes() if ask.extracted == f"the number {ask.gold}" else says_no()


def configured(server: ScriptedOpenAI, **changes: object) -> VerifierConfig:
    options = {"canary_every": 0, "recheck_share": 0.0} | changes
    return VerifierConfig(base_url=server.base_url, model="judge", **options)


RIGHT = VerifyItem("How many?", gold="7", extracted="the number 7")
WRONG = VerifyItem("How many?", gold="7", extracted="the number 8")


def verdicts(grades: list[Grade | None]) -> list[Verdict | None]:
    return [grade and grade.verdict for grade in grades]


def test_grades_come_back_in_order_and_equal_items_are_asked_once() -> None:
    with ScriptedOpenAI(truthful) as server, Verifier(configured(server)) as verifier:
        grades = verifier.verify([WRONG, RIGHT, WRONG, RIGHT, RIGHT])
        metrics = verifier.metrics()
        assert verifier.verify([]) == []
    assert verdicts(grades) == [
        Verdict.WRONG,
        Verdict.CORRECT,
        Verdict.WRONG,
        Verdict.CORRECT,
        Verdict.CORRECT,
    ]
    assert grades[1] == Grade(Verdict.CORRECT, "the number 7", "verifier: equivalent to the gold answer")
    assert len(server.asks) == 2
    assert metrics["verifier/items"] == 5
    assert metrics["verifier/asked_share"] == 2 / 5
    assert metrics["verifier/cached_share"] == 3 / 5
    assert metrics["verifier/yes_rate"] == 3 / 5
    assert 0 < metrics["verifier/latency_median_s"] <= metrics["verifier/latency_p95_s"] < 5
    assert all(key.startswith("verifier/") for key in metrics)


def test_metrics_start_anew_at_each_reading() -> None:
    with ScriptedOpenAI(truthful) as server, Verifier(configured(server)) as verifier:
        verifier.verify([RIGHT])
        verifier.metrics()
        assert verifier.metrics() == {
            "verifier/items": 0,
            "verifier/retries": 0,
            "verifier/rate_limited": 0,
            "verifier/canaries": 0,
            "verifier/rechecked": 0,
            "verifier/down": 0.0,
            "verifier/down_s": 0.0,
        }


@pytest.mark.parametrize("extracted", ["", "   ", ":", "...", "?!", "\u200b\u202e", "x" * 301])
def test_the_gate_refuses_without_asking(extracted: str) -> None:
    with ScriptedOpenAI(lambda ask: says_yes()) as server, Verifier(configured(server)) as verifier:
        grade = verifier.verify([VerifyItem("How many?", "7", extracted)])[0]
        assert verifier.metrics()["verifier/gated_share"] == 1.0
    assert grade is not None
    assert grade.verdict is Verdict.WRONG
    assert grade.reason.startswith("verifier not asked")
    assert server.asks == []


def test_a_second_run_replays_without_the_server(tmp_path: Path) -> None:
    with ScriptedOpenAI(truthful) as server:
        config = configured(server, cache=tmp_path / "shared" / "verdicts.sqlite", canary_every=1, recheck_share=1.0)
        with Verifier(config, tmp_path) as verifier:
            first = verifier.verify([RIGHT, WRONG])
        requests = len(server.asks) + server.greetings
        with Verifier(config) as verifier:
            assert verdicts(verifier.verify([RIGHT, WRONG])) == verdicts(first)
        assert len(server.asks) + server.greetings == requests, "a replay asks nothing, not even to recheck"
    # The server is gone; the second run still knows.
    with Verifier(config) as verifier:
        start = time.monotonic()
        again = verifier.verify([RIGHT, WRONG])
        assert time.monotonic() - start < 0.5
    assert verdicts(again) == verdicts(first)
    assert again[0] is not None
    assert again[0].reason.endswith("(cached)")


def test_cache_and_log_lie_in_the_run_folder(tmp_path: Path) -> None:
    odd = VerifyItem("How many\ud800?\n", "7", "the number 7")
    with ScriptedOpenAI(truthful) as server, Verifier(configured(server), tmp_path / "run") as verifier:
        verifier.verify([RIGHT, WRONG])
        verifier.verify([RIGHT, odd])
    assert (tmp_path / "run" / "verdicts.sqlite").exists()
    rows = [json.loads(line) for line in (tmp_path / "run" / "verifier.jsonl").read_text().splitlines()]
    assert [(row["kind"], row["question"], row["extracted"], row["verdict"]) for row in rows] == [
        ("yes", "How many?", "the number 7", "correct"),
        ("yes", "How many\ud800?\n", "the number 7", "correct"),
    ]


def test_errors_are_not_cached() -> None:
    with (
        ScriptedOpenAI(lambda ask: after(1.0, says_yes())) as server,
        Verifier(configured(server, batch_timeout_s=0.3)) as verifier,
    ):
        assert verdicts(verifier.verify([RIGHT])) == [Verdict.ERROR]
        server.script = truthful
        assert verdicts(verifier.verify([RIGHT])) == [Verdict.CORRECT]


def test_concurrency_is_shared_by_threads() -> None:
    concurrency = Concurrency()
    with (
        ScriptedOpenAI(lambda ask: concurrency.counted(0.05, says_no())) as server,
        Verifier(configured(server, max_concurrency=3)) as verifier,
    ):
        batches = [[VerifyItem(f"q {batch} {place}", "7", "8") for place in range(10)] for batch in range(4)]
        threads = [threading.Thread(target=verifier.verify, args=(batch,)) for batch in batches]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert concurrency.most == 3
    assert len(server.asks) == 40


def test_requests_per_minute_spaces_the_starts() -> None:
    with (
        ScriptedOpenAI(lambda ask: says_no()) as server,
        Verifier(configured(server, requests_per_minute=600)) as verifier,
    ):
        verifier.verify([VerifyItem(f"q {place}", "7", "8") for place in range(8)])
    times = [ask.at for ask in server.asks]
    assert 0.6 < times[-1] - times[0] < 1.5


def test_it_may_be_called_from_a_coroutine() -> None:
    async def main(verifier: Verifier) -> list[Grade | None]:
        several = await asyncio.gather(*(asyncio.to_thread(verifier.verify, [RIGHT]) for _ in range(3)))
        return [*several[0], *verifier.verify([WRONG])]

    with ScriptedOpenAI(truthful) as server, Verifier(configured(server)) as verifier:
        assert verdicts(asyncio.run(main(verifier))) == [Verdict.CORRECT, Verdict.WRONG]


def test_a_forked_copy_says_so_instead_of_hanging() -> None:
    with ScriptedOpenAI(truthful) as server, Verifier(configured(server)) as verifier:
        child = os.fork()
        if child == 0:
            try:
                verifier.verify([RIGHT])
            except RuntimeError as error:
                os._exit(42 if "forked" in str(error) else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42


def test_what_the_server_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Question, gold and short answer; a bounded reply; and no key that was meant for somebody else."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-for-another-server")
    with ScriptedOpenAI(truthful) as server, Verifier(configured(server, max_tokens=64)) as verifier:
        verifier.verify([RIGHT])
    ask = server.asks[0]
    assert (ask.question, ask.gold, ask.extracted) == ("How many?", "7", "the number 7")
    assert ask.body["max_tokens"] == 64
    assert ask.body["temperature"] == 0.0
    assert ask.body["model"] == "judge"
    assert "sk-for-another-server" not in str(ask.headers)


@settings(max_examples=15, deadline=None)
@given(
    order=st.permutations([RIGHT, WRONG, RIGHT, VerifyItem("Why?", "7", "the number 7"), VerifyItem("", "7", ":")]),
    cut=st.integers(0, 5),
)
def test_verdicts_do_not_depend_on_order_or_company(order: list[VerifyItem], cut: int) -> None:
    with ScriptedOpenAI(truthful) as server, Verifier(configured(server)) as verifier:
        grades = [*verifier.verify(order[:cut]), *verifier.verify(order[cut:])]
    expected = [Verdict.CORRECT if item.extracted == "the number 7" else Verdict.WRONG for item in order]
    assert verdicts(grades) == expected
