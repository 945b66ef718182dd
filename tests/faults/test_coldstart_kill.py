"""A cold start that is killed at random moments ends with the bytes of one that nothing interrupted."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import coldstart_kills
from helpers.asking import by_number, final_files, number_of, problems, thought
from helpers.reward_heads import save_text_reward
from helpers.scripted_openai import Ask, Reply, ScriptedOpenAI, after, says, sends

pytestmark = pytest.mark.slow
PROBLEMS, AT_ONCE, POINTS = 40, 4, 20
WRONG = (1, 8, 15, 22, 29, 36)
"""Problems that the teacher solves at the second sample alone."""


class Calls:
    """A process that gives the command again and again."""

    def __init__(self, *loads: str) -> None:
        """`loads`: `reward`, for a process that has transformers loaded."""
        command = [sys.executable, coldstart_kills.__file__, *loads]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._read() == "ready"

    def __call__(self, *words: str, after: float | None = None) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"words": words, "after": after}) + "\n")
        self._process.stdin.flush()
        return int(self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        self._process.communicate()


def script() -> Callable[[Ask], Reply]:
    """What is said depends on problem and sample alone: the seed of a request is its sample's own."""
    first: dict[int, object] = {}

    def unsure(ask: Ask) -> Reply:
        number, seed = number_of(ask), ask.body["seed"]
        return says(thought(number, 0 if first.setdefault(number, seed) == seed else None), tokens=9)

    odd = dict.fromkeys(WRONG, unsure) | {5: lambda ask: says("<think>and", finish_reason="length")}
    replies = by_number({**odd, 11: lambda ask: sends(400, "no")})
    return lambda ask: after(0.01 + 0.02 * random.random(), replies(ask))


def test_kills_at_random_points_lose_nothing(tmp_path: Path) -> None:
    source, rng, calls = problems(tmp_path / "q", PROBLEMS), random.Random(7), Calls()
    try:
        with ScriptedOpenAI(script()) as server:
            common = [str(source), "--teacher", server.base_url, "--model", "m", f"teacher.max_concurrency={AT_ONCE}"]
            started = time.monotonic()
            assert calls("coldstart", *common, "-o", str(tmp_path / "whole")) == 0
            seconds, once = time.monotonic() - started, seeds(server)
            whole = final_files(tmp_path / "whole")
            for point in range(POINTS):
                server.asks.clear()
                out, kills = str(tmp_path / f"killed-{point}"), 1 + point % 3
                for _ in range(kills):
                    assert calls("coldstart", *common, "-o", out, after=rng.uniform(0.02, 0.95) * seconds) in (-9, 0)
                assert calls("coldstart", *common, "-o", out) == 0
                assert final_files(Path(out)) == whole, f"point {point}"
                asked = seeds(server)
                assert asked.keys() == once.keys()
                again = sum(asked.values()) - sum(once.values())
                # Those in flight, and those whose answers had come and were being written.
                assert again <= 2 * kills * AT_ONCE, f"point {point}: {again} requests were sent twice"
    finally:
        calls.close()


def test_kills_while_a_reward_model_scores_leave_the_same_scores(tmp_path: Path) -> None:
    """Most calls end in the scores: the teacher answers at once."""
    checkpoint = save_text_reward(tmp_path / "rm")
    source, rng, calls = problems(tmp_path / "q", PROBLEMS), random.Random(11), Calls("reward")
    try:
        with ScriptedOpenAI(by_number({})) as server:
            common = [str(source), "--teacher", server.base_url, "--model", "m"]
            common.append(f"coldstart.reward_checkpoint={checkpoint}")
            assert calls("coldstart", *common, "-o", str(tmp_path / "warm")) == 0
            started = time.monotonic()
            assert calls("coldstart", *common, "-o", str(tmp_path / "whole")) == 0
            seconds = time.monotonic() - started
            scores, whole = (tmp_path / "whole/rewards.jsonl").read_bytes(), final_files(tmp_path / "whole")
            assert scores.count(b"\n") == PROBLEMS
            cut = set()
            for point in range(3):
                out = tmp_path / f"killed-{point}"
                assert calls("coldstart", *common, "-o", str(out), after=rng.uniform(0.4, 0.95) * seconds) in (-9, 0)
                left = out / "rewards.jsonl"
                cut.add(left.stat().st_size if left.exists() else None)
                assert calls("coldstart", *common, "-o", str(out)) == 0
                assert left.read_bytes() == scores, f"point {point}"
                assert final_files(out) == whole, f"point {point}"
            assert cut != {len(scores)}, "no kill came before the last score"
    finally:
        calls.close()


def seeds(server: ScriptedOpenAI) -> Counter[object]:
    """How often each sample was asked for."""
    return Counter(ask.body["seed"] for ask in server.asks)
