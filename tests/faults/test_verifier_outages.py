"""The judge busy, away, refusing or closed: what a run does meanwhile, against a server on loopback."""

from __future__ import annotations

import email.utils
import logging
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from helpers.scripted_openai import (
    Ask,
    Reply,
    ScriptedOpenAI,
    hangs,
    says_no,
    says_yes,
    sends,
)
from helpers.verifying import ITEM, configured, grade_with, hurry, items, verdicts  # noqa: F401
from seethink.core.types import Grade, Verdict
from seethink.rewards.verifier.verifier import Verifier, VerifierRefusedError

pytestmark = pytest.mark.usefixtures("hurry")


# ---- 16: 429 is honoured, for everybody, and never costs a reward ----


@pytest.mark.parametrize("dress", ["seconds", "http-date", "503"])
def test_16_retry_after_is_honoured(dress: str) -> None:
    def script(ask: Ask) -> Reply:
        if ask.nth > 1:
            return says_yes()
        when = email.utils.formatdate(time.time() + 2, usegmt=True) if dress == "http-date" else "1"
        return sends(503 if dress == "503" else 429, "{}", {"Retry-After": when})

    grade, server = grade_with(script, max_retries=0)
    first, second = server.asks
    assert grade is not None
    assert grade.verdict is Verdict.CORRECT
    assert 0.95 <= second.at - first.at <= 3.0


def test_16_a_pause_holds_for_all_callers() -> None:
    """One 429 stops the other threads too, and nobody's reward is lost."""
    refused_at: list[float] = []

    def script(ask: Ask) -> Reply:
        if len(refused_at) < 3:
            refused_at.append(ask.at)
            return sends(429, "{}", {"Retry-After": "1"})
        return says_yes()

    with (
        ScriptedOpenAI(script) as server,
        Verifier(configured(server, max_concurrency=2, max_retries=0)) as verifier,
    ):
        got: list[Grade | None] = []
        batches = [items(20)[start : start + 5] for start in range(0, 20, 5)]
        threads = [threading.Thread(target=lambda b=batch: got.extend(verifier.verify(b))) for batch in batches]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        metrics = verifier.metrics()
    assert verdicts(got) == [Verdict.CORRECT] * 20
    assert metrics["verifier/rate_limited"] == 3
    assert metrics["verifier/error_share"] == 0
    # Beside the other request in flight when the first 429 came, nothing was sent until the pause had passed.
    early = [ask for ask in server.asks if refused_at[0] < ask.at < refused_at[0] + 0.9]
    assert len(early) <= 1


def test_16_429_without_an_end_is_masked_at_the_deadline() -> None:
    start = time.monotonic()
    grade, _ = grade_with(lambda ask: sends(429, "{}", {"Retry-After": "1"}), batch_timeout_s=1.5)
    assert time.monotonic() - start < 3
    assert grade is not None
    assert grade.verdict is Verdict.ERROR
    assert "batch not done within 1.5 s" in grade.reason


def test_16_a_wish_of_no_pause_is_not_taken_as_leave_to_hammer() -> None:
    _, server = grade_with(lambda ask: sends(429, "{}", {"Retry-After": "0"}), batch_timeout_s=1.0)
    assert len(server.asks) < 10


def test_16_503_without_an_end_is_an_outage() -> None:
    grade, _ = grade_with(lambda ask: sends(503, "", {"Retry-After": "0.1"}), on_down="rule_only")
    assert grade is None


def test_16_a_very_long_pause_is_an_outage() -> None:
    reply = sends(429, "quota used up", {"Retry-After": "3600"})
    with (
        ScriptedOpenAI(lambda ask: reply) as server,
        Verifier(configured(server, on_down="rule_only")) as verifier,
    ):
        assert verifier.verify([ITEM]) == [None]
        assert verifier.metrics()["verifier/down"] == 1.0


@pytest.mark.parametrize(("status", "on_down"), [(429, "wait"), (503, "rule_only")])
def test_16_a_pause_of_years_is_cut_and_counts_as_down(
    status: int, on_down: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken header must not mask what a healthy server would judge."""
    monkeypatch.setattr("seethink.endpoint.client._LONGEST_PAUSE_S", 1.0)
    bad = threading.Semaphore(1)

    def script(ask: Ask) -> Reply:
        broken = bad.acquire(blocking=False)
        return sends(status, "{}", {"Retry-After": "900000000"}) if broken else says_yes()

    with (
        ScriptedOpenAI(script) as server,
        Verifier(configured(server, max_concurrency=1, on_down=on_down, batch_timeout_s=3.0)) as verifier,
    ):
        during = verdicts(verifier.verify(items(5)))
        time.sleep(1.5)
        afterwards = verdicts(verifier.verify(items(5)))
        metrics = verifier.metrics()
    assert during == ([Verdict.CORRECT] * 5 if on_down == "wait" else [None] * 5)
    assert afterwards == [Verdict.CORRECT] * 5
    assert metrics["verifier/down_s"] >= 0.9
    assert metrics["verifier/error_share"] == 0.0


# ---- 17: down for a while ----


@pytest.mark.slow
def test_17_wait_blocks_says_so_and_resumes_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    with (
        ScriptedOpenAI(lambda ask: says_yes()) as server,
        Verifier(configured(server, batch_timeout_s=1.0)) as verifier,
        caplog.at_level(logging.WARNING),
    ):
        assert verdicts(verifier.verify(items(1))) == [Verdict.CORRECT]
        server.stop()
        comeback = threading.Timer(2.5, server.start)
        comeback.start()
        start = time.monotonic()
        grades = verifier.verify(items(40))
        waited = time.monotonic() - start
        comeback.join()
        metrics = verifier.metrics()
    # The outage is longer than the batch's deadline and costs nobody a verdict.
    assert verdicts(grades) == [Verdict.CORRECT] * 40
    assert 2.4 < waited < 8
    assert metrics["verifier/down"] == 0.0
    assert metrics["verifier/down_s"] > 1.5
    down, up = (record.getMessage() for record in caplog.records if record.name.startswith("seethink"))
    assert "is down" in down
    assert "wait" in down
    assert "answers again" in up
    assert "\n" not in down + up


@pytest.mark.slow
def test_17_notices_repeat_while_waiting(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seethink.endpoint.breaker._NOTICE_EVERY_S", 0.5)
    server = ScriptedOpenAI(lambda ask: says_yes())
    server.start()
    server.stop()
    with Verifier(configured(server)) as verifier, caplog.at_level(logging.WARNING):
        threading.Timer(2.5, server.start).start()
        assert verdicts(verifier.verify([ITEM])) == [Verdict.CORRECT]
    server.stop()
    assert sum("is down" in record.getMessage() for record in caplog.records) >= 3


def test_17_rule_only_leaves_the_rules_verdict_and_resumes_by_itself() -> None:
    with (
        ScriptedOpenAI(lambda ask: says_yes()) as server,
        Verifier(configured(server, on_down="rule_only")) as verifier,
    ):
        server.stop()
        start = time.monotonic()
        assert verifier.verify(items(30)) == [None] * 30
        assert verifier.verify(items(30)) == [None] * 30
        assert time.monotonic() - start < 4
        metrics = verifier.metrics()
        assert metrics["verifier/rule_only_share"] == 1.0
        assert metrics["verifier/error_share"] == 0.0
        assert metrics["verifier/down"] == 1.0
        server.start()
        deadline = time.monotonic() + 10
        while verifier.verify([ITEM]) == [None] and time.monotonic() < deadline:
            time.sleep(0.1)
        assert verdicts(verifier.verify(items(30))) == [Verdict.CORRECT] * 30


def test_17_a_batch_in_flight_survives_an_outage_in_its_middle() -> None:
    """The server dies after ten answers, mid-batch."""
    answered = threading.Semaphore(10)
    server: ScriptedOpenAI

    def script(ask: Ask) -> Reply:
        if answered.acquire(blocking=False):
            return says_no() if ask.extracted.endswith("3") else says_yes()
        return hangs()

    with ScriptedOpenAI(script) as server, Verifier(configured(server, max_concurrency=4)) as verifier:
        threading.Timer(0.8, server.stop).start()

        def revive() -> None:
            server.script = lambda ask: says_no() if ask.extracted.endswith("3") else says_yes()
            server.start()

        comeback = threading.Timer(2.0, revive)
        comeback.start()
        got = verdicts(verifier.verify(items(40)))
        comeback.join()
    assert got == [Verdict.WRONG if place % 10 == 3 else Verdict.CORRECT for place in range(40)]


# ---- beyond the list ----


def test_noise_is_never_a_verdict_and_never_a_crash() -> None:
    rng = random.Random(0)

    def script(ask: Ask) -> Reply:
        status = rng.choice([200, 200, 201, 204, 302, 400, 408, 429, 500, 503])
        body = bytes(rng.choices(range(256), k=rng.randrange(200))).decode("latin-1")
        return sends(status, body if status != 204 else "", {"Retry-After": rng.choice(["0", "-1", "nan", "?"])})

    with (
        ScriptedOpenAI(script) as server,
        Verifier(configured(server, on_down="rule_only", batch_timeout_s=5)) as verifier,
    ):
        grades = verifier.verify(items(60))
    assert {grade and grade.verdict for grade in grades} <= {Verdict.ERROR, None}


def test_trouble_does_not_touch_the_runs_random_numbers() -> None:
    random.seed(0)
    before = random.getstate()
    with (
        ScriptedOpenAI(lambda ask: sends(500, "") if ask.nth < 3 else says_yes()) as server,
        Verifier(configured(server, recheck_share=0.5)) as verifier,
    ):
        verifier.verify(items(5))
        verifier.verify(items(5))
    assert random.getstate() == before


def test_a_signal_handler_may_end_the_wait() -> None:
    """SIGTERM comes while the main thread waits for a dead server."""
    with ScriptedOpenAI(lambda ask: says_yes()) as server:
        verifier = Verifier(configured(server))
        server.stop()
        before = signal.signal(signal.SIGALRM, lambda *_: verifier.close())
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.7)
            with pytest.raises(RuntimeError, match="closed while it was asked"):
                verifier.verify([ITEM])
        finally:
            signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("status", [401, 403, 404, 400, 307])
def test_a_refusal_of_the_first_request_is_a_wrong_configuration(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-very-secret")
    refusal = sends(status, '{"error": "no such model; key sk-very-secret"}')
    server = ScriptedOpenAI(lambda ask: says_yes())
    server.answer = lambda handler, body: refusal(handler)  # type: ignore[method-assign]
    with (
        server,
        Verifier(configured(server, api_key_env="JUDGE_KEY")) as verifier,
        pytest.raises(VerifierRefusedError, match=f"HTTP {status}.*no such model.*api_key_env") as caught,
    ):
        verifier.verify([ITEM])
    assert "sk-very-secret" not in str(caught.value)


def test_a_key_revoked_in_the_middle_is_an_outage() -> None:
    with (
        ScriptedOpenAI(lambda ask: sends(401, "revoked")) as server,
        Verifier(configured(server, on_down="rule_only")) as verifier,
    ):
        assert verifier.verify(items(10)) == [None] * 10


def test_the_key_is_in_no_log_repr_or_exception(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-very-secret")
    with (
        caplog.at_level(logging.DEBUG),
        ScriptedOpenAI(lambda ask: sends(500, f"bad: {ask.headers['authorization']}")) as server,
        Verifier(configured(server, api_key_env="JUDGE_KEY", on_down="rule_only"), tmp_path) as verifier,
    ):
        verifier.verify(items(3))
        metrics = verifier.metrics()
        said = repr(verifier) + repr(verifier._client) + repr(verifier._client._connection) + str(metrics) + caplog.text
        assert server.asks[0].headers["authorization"] == "Bearer sk-very-secret"
    assert "[redacted]" in caplog.text
    assert "sk-very-secret" not in said
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"sk-very-secret" not in written


def test_close_ends_a_verify_that_waits_for_a_dead_server() -> None:
    with ScriptedOpenAI(lambda ask: says_yes()) as server:
        verifier = Verifier(configured(server))
        server.stop()
        threading.Timer(1.0, verifier.close).start()
        with pytest.raises(RuntimeError, match="closed while it was asked"):
            verifier.verify([ITEM])
        with pytest.raises(RuntimeError, match="was closed"):
            verifier.verify([ITEM])
