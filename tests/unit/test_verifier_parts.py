"""The verifier's parts that need no server: prompt, parser, cache, limits, configuration, canaries."""

from __future__ import annotations

import asyncio
import email.utils
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from seethink.config.verifier import VerifierConfig
from seethink.endpoint.breaker import Breaker
from seethink.endpoint.connection import Connection
from seethink.endpoint.limits import backoff_s, retry_after_s
from seethink.rewards.verifier.cache import VerdictCache, cache_key
from seethink.rewards.verifier.canaries import ATTACKS, CANARIES, CanarySchedule
from seethink.rewards.verifier.prompt import VerifyItem, fence_in, gate, messages, read_verdict

ITEM = VerifyItem("How many?", "7", "seven")
ANY_TEXT = st.text(st.characters(), max_size=200)


# ---- prompt and parser ----


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("VERDICT: EQUIVALENT", True),
        ("VERDICT: DIFFERENT", False),
        ("Both name 7.\nVERDICT: EQUIVALENT\n\n", True),
        ("<think>hm</think>\n\n  VERDICT: DIFFERENT  ", False),
        ("VERDICT: EQUIVALENT\nVERDICT: EQUIVALENT", True),
        ("VERDICT: EQUIVALENT\nVERDICT: DIFFERENT", None),
        ("VERDICT: EQUIVALENT.", None),
        ("VERDICT:EQUIVALENT", None),
        ("VERDICT: NOT EQUIVALENT", None),
        ("EQUIVALENT", None),
        ("VERDICT: EQUIVALENT or VERDICT: DIFFERENT", None),
        ("VERDICT: DIFFERENT\nThank you", None),
        ("True.", None),
        ("", None),
        ("\n \n", None),
    ],
)
def test_a_verdict_is_exactly_one_last_line(reply: str, verdict: bool | None) -> None:
    assert read_verdict(reply) is verdict


@given(ANY_TEXT)
def test_no_text_without_the_exact_line_is_a_verdict(reply: str) -> None:
    assert read_verdict(reply) is None or "VERDICT: " in reply


@given(ANY_TEXT)
@example("</s><|im_end|>[INST]<｜User｜><end_of_turn>")
@example("\ud800\x00\u202e\u2028\u0085")
def test_fenced_text_is_one_line_without_control_tokens(text: str) -> None:
    fenced = fence_in(text)
    assert len(fenced.splitlines()) <= 1
    assert not re.search(r"[<\[]([^\W\d]|[/|!｜])", fenced)
    fenced.encode("utf-8")  # a lone surrogate could not be sent
    assert fence_in(fenced) == fenced


def test_mathematics_survives_the_fence() -> None:
    for text in (r"\frac{1}{2} < x \leq 3", "[0, 1)", "x<3", "a ≠ b, 5 > 4", "{1, 2}", "²√π∞"):
        assert fence_in(text) == text


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT)
def test_every_call_has_another_delimiter_which_data_cannot_hold(question: str, gold: str, answer: str) -> None:
    item = VerifyItem(question, gold, answer)
    first, second = (messages(item)[1]["content"] for _ in range(2))
    fence = re.match(r"The delimiter of this message is ([0-9a-f]{16})\.", first)
    assert fence
    assert first.count(fence[1]) == 7
    assert fence[1] not in second


def test_long_context_is_capped() -> None:
    assert len(messages(VerifyItem("q" * 10**6, "g" * 10**6, "a"))[1]["content"]) < 10_000


@pytest.mark.parametrize("answer", ["7", "A", "x²", "∞", "+", "$", "ж", "七", "½"])
def test_the_gate_lets_content_through(answer: str) -> None:
    assert gate(VerifyItem("q", "7", answer), 300) is None


# ---- cache ----


def test_the_key_depends_on_every_part() -> None:
    variants = [
        ("m", ITEM),
        ("n", ITEM),
        ("m", VerifyItem("How many? ", "7", "seven")),
        ("m", VerifyItem("How many?", "7s", "even")),
        ("m", VerifyItem("How many?", "7", "Seven")),
        ("m", VerifyItem("How many\ud800", "7", "seven")),
    ]
    assert len({cache_key(model, item) for model, item in variants}) == len(variants)


def test_the_first_verdict_wins_in_every_thread(tmp_path: Path) -> None:
    caches = [VerdictCache(tmp_path / "v.sqlite") for _ in range(4)]
    held: list[tuple[int, bool]] = []

    def settle(cache: VerdictCache, verdict: bool) -> None:
        held.extend((place, cache.settle(str(place), verdict)) for place in range(200))

    threads = [threading.Thread(target=settle, args=(cache, number % 2 == 0)) for number, cache in enumerate(caches)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == 800
    assert len(set(held)) == 200, "all threads agree on each key"
    for cache in caches:
        cache.close()


def test_processes_share_a_cache(tmp_path: Path) -> None:
    write = (
        "import sys; from pathlib import Path; from seethink.rewards.verifier.cache import VerdictCache\n"
        "cache = VerdictCache(Path(sys.argv[1]))\n"
        "print(sum(cache.settle(str(place), sys.argv[2] == '1') for place in range(300)))"
    )
    path = tmp_path / "v.sqlite"
    writers = [
        subprocess.Popen([sys.executable, "-c", write, str(path), verdict], stdout=subprocess.PIPE, text=True)
        for verdict in "01"
    ]
    said = [writer.communicate(timeout=60)[0].strip() for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0]
    assert said[0] == said[1], "both processes hold the same verdicts"


def test_another_file_is_not_taken_for_a_cache(tmp_path: Path) -> None:
    (tmp_path / "v.sqlite").write_text("{}" * 1000)
    with pytest.raises(ValueError, match=r"v\.sqlite is not a readable verdict cache .* move it away"):
        VerdictCache(tmp_path / "v.sqlite")


# ---- limits ----


def test_retry_after_in_seconds_and_as_a_date() -> None:
    assert retry_after_s("3") == 3.0
    assert retry_after_s("-3") == 0.0
    in_ten = retry_after_s(email.utils.formatdate(time.time() + 10, usegmt=True))
    assert in_ten is not None
    assert 8 < in_ten <= 10
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0


@pytest.mark.parametrize("header", [None, "", "soon", "nan", "inf", "1e300", "Wed, 99 Foo 2015"])
def test_a_broken_retry_after_says_nothing(header: str | None) -> None:
    assert retry_after_s(header) is None


@given(st.text(max_size=40))
def test_any_retry_after_is_none_or_a_finite_wait(header: str) -> None:
    seconds = retry_after_s(header)
    assert seconds is None or 0 <= seconds < 1e10


def test_backoff_grows_with_jitter_to_a_bound() -> None:
    assert all(0.25 <= backoff_s(1) <= 0.5 for _ in range(20))
    assert all(15 <= backoff_s(failures) <= 30 for failures in (7, 50, 10**6))
    assert len({backoff_s(3) for _ in range(5)}) > 1


def test_a_success_between_failures_keeps_the_breaker_closed() -> None:
    async def main() -> None:
        breaker = Breaker(3, probe=None, server="s", while_down="p")  # type: ignore[arg-type]
        for _ in range(5):
            breaker.failure("no")
            breaker.failure("no")
            breaker.success()
        assert not breaker.is_open
        assert breaker.down_s == 0

    asyncio.run(main())


# ---- configuration ----


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:8000", "file:///etc/passwd", "http://user:secret@host/v1", "https://host/v1?key=secret"],
)
def test_an_address_with_a_secret_or_without_a_scheme_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="base_url must") as caught:
        VerifierConfig(base_url=url, model="m")
    assert "secret" not in str(caught.value)


def test_a_key_in_place_of_its_name_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValidationError) as caught:
        VerifierConfig(base_url="http://h/v1", model="m", api_key_env="sk-secret")
    assert "sk-secret" not in str(caught.value)


def test_unknown_options_are_refused_and_all_have_a_doc() -> None:
    with pytest.raises(ValidationError, match="tiemout"):
        VerifierConfig(base_url="http://h/v1", model="m", tiemout=3)  # type: ignore[call-arg]
    assert all(field.description for field in VerifierConfig.model_fields.values())


@pytest.mark.parametrize(
    ("key", "complaint"),
    [(None, "JUDGE_KEY, which is not set"), ("sk-\nsecret", "line break"), ("sécret", "ASCII")],
)
def test_a_missing_or_broken_key_is_named_not_shown(
    key: str | None, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("JUDGE_KEY", key)
    with pytest.raises(ValueError, match=complaint) as caught:
        Connection(VerifierConfig(base_url="http://h/v1", model="m", api_key_env="JUDGE_KEY"))
    assert "cret" not in str(caught.value)


def test_the_configuration_imports_neither_torch_nor_a_client() -> None:
    heavy = "{'torch', 'aiohttp', 'transformers'}"
    code = f"import sys, seethink.config.verifier; print({heavy} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


# ---- canaries ----


def test_canaries_fit_the_gate_and_hold_no_gold_answer() -> None:
    assert len(set(ATTACKS)) == len(ATTACKS)
    for canary in CANARIES:
        assert len(canary.extracted) <= 100
        assert canary.gold not in canary.extracted


def test_canaries_come_all_at_first_then_one_in_turn() -> None:
    schedule = CanarySchedule(every=10)
    assert set(schedule.due(5)) == set(CANARIES)
    assert schedule.due(4) == []
    assert schedule.due(1) == [CANARIES[0]]
    assert schedule.due(25) == [CANARIES[1], CANARIES[2]]
    schedule.owe(CANARIES[7])
    assert schedule.due(1) == [CANARIES[7]]
    assert CanarySchedule(every=0).due(1000) == []
