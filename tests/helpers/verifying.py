"""What tests of the verifier share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from helpers.scripted_openai import Ask, Reply, ScriptedOpenAI
from seethink.core.types import Grade, Verdict
from seethink.rewards.verifier.verifier import Verifier, VerifierConfig, VerifyItem

ITEM = VerifyItem("How long is the side?", gold="1/2 m", extracted="half a metre")


def configured(server: ScriptedOpenAI, **changes: object) -> VerifierConfig:
    """No canaries and short deadlines unless a test asks for others."""
    options = {"canary_every": 0, "recheck_share": 0.0, "call_timeout_s": 5.0, "max_retries": 2} | changes
    return VerifierConfig(base_url=server.base_url, model="judge", **options)


def items(count: int) -> list[VerifyItem]:
    return [VerifyItem(f"question {place}", gold="7", extracted=f"seven, {place}") for place in range(count)]


def verdicts(grades: list[Grade | None]) -> list[Verdict | None]:
    return [grade and grade.verdict for grade in grades]


def grade_with(reply: Callable[[Ask], Reply], **changes: object) -> tuple[Grade | None, ScriptedOpenAI]:
    with ScriptedOpenAI(reply) as server, Verifier(configured(server, **changes)) as verifier:
        return verifier.verify([ITEM])[0], server


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same waits on a shorter scale."""
    monkeypatch.setattr("seethink.endpoint.limits._BACKOFF_FIRST_S", 0.05)
    monkeypatch.setattr("seethink.endpoint.breaker._FIRST_PROBE_S", 0.2)
