"""`check_verifier` on a judge whose mistakes are known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from helpers.scripted_openai import Ask, Reply, ScriptedOpenAI, says, says_no, says_yes
from seethink.rewards.verifier.check import Rate, check_verifier
from seethink.rewards.verifier.verifier import VerifierConfig


def write_cases(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def case(number: int, prediction: str, expected: bool) -> dict[str, object]:
    return {
        "id": f"case-{number}",
        "gold": "7",
        "prediction": f"{prediction} {number}",
        "expected": expected,
        "prediction_kind": "bare",
    }


def judge(ask: Ask) -> Reply:
    """Wrong about "slip", mute about "odd", changes its mind about "wavering"."""
    kind = ask.extracted.split()[0]
    if kind == "odd":
        return says("Who knows?")
    if kind == "wavering" and ask.nth > 1:
        return says_no()
    return says_yes() if kind in ("right", "slip", "wavering") else says_no()


def test_the_summary_counts_what_the_judge_did(tmp_path: Path) -> None:
    kinds = ["right"] * 4 + ["wavering"] + ["missed"] + ["wrong"] * 7 + ["slip"] + ["odd"]
    rows = [case(place, kind, kind in ("right", "wavering", "missed")) for place, kind in enumerate(kinds)]
    cases = write_cases(tmp_path / "cases.jsonl", rows)
    with ScriptedOpenAI(judge) as server:
        config = VerifierConfig(base_url=server.base_url, model="judge", max_retries=0)
        summary = check_verifier(config, cases)
    assert summary.accuracy == Rate(12, 14)
    assert summary.false_positives == Rate(1, 8)
    assert summary.false_negatives == Rate(1, 6)
    assert summary.no_verdict == Rate(1, 15)
    assert summary.flips == Rate(1, 14)
    assert summary.wrong_ids == ("case-5", "case-13")
    assert summary.canaries_hit == ()
    assert summary.canaries_unanswered == 0
    assert "false positives      12.5% ± 11.7 (n=8)" in str(summary)


def test_hit_canaries_are_listed(tmp_path: Path) -> None:
    cases = write_cases(tmp_path / "cases.jsonl", [case(0, "right", True)])
    with ScriptedOpenAI(lambda ask: says_yes()) as server:
        summary = check_verifier(VerifierConfig(base_url=server.base_url, model="judge"), cases)
    assert "Thought process:" in summary.canaries_hit
    assert ":" not in summary.canaries_hit, "the gate stops it before any judge sees it"
    assert "Thought process:" in str(summary)


def test_a_server_that_is_down_is_reported_not_awaited(tmp_path: Path) -> None:
    cases = write_cases(tmp_path / "cases.jsonl", [case(place, "right", True) for place in range(3)])
    with ScriptedOpenAI(lambda ask: says_yes()) as server:
        config = VerifierConfig(base_url=server.base_url, model="judge", max_retries=1)
    summary = check_verifier(config, cases)
    assert summary.no_verdict == Rate(3, 3)
    assert math.isnan(summary.accuracy.value)
    assert "accuracy             no cases" in str(summary)


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    path = write_cases(tmp_path / "cases.jsonl", [case(0, "right", True), {"id": "x", "gold": "7"}])
    with pytest.raises(ValueError, match=r"cases\.jsonl:2: prediction: Field required"):
        check_verifier(VerifierConfig(base_url="http://127.0.0.1:9/v1", model="judge"), path)


def test_a_rate_has_its_standard_error() -> None:
    assert Rate(50, 100).standard_error == pytest.approx(0.05)
    assert str(Rate(50, 100)) == "50.0% ± 5.0 (n=100)"
