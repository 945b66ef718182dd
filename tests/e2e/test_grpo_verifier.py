"""GRPO with rule OR verifier on the nano model, while the verifier's server dies and comes back.

The gold answers are synonyms that the rule cannot know, so every right answer needs the verifier.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from helpers.scripted_openai import Ask, Reply, ScriptedOpenAI, says_no, says_yes
from helpers.verifying import hurry  # noqa: F401
from seethink.config import Recipe, make_recipe
from seethink.core.png import png_bytes
from seethink.report import write_report
from seethink.runs.metrics import read_metrics
from seethink.train.start import train
from seethink.world.make import world_samples

SYNONYMS = {"red": "crimson", "green": "emerald", "blue": "azure", "orange": "tangerine", "purple": "violet"}
SYNONYMS |= {"black": "ebony"}


def is_right(extracted: str, gold: str) -> bool:
    return SYNONYMS.get(extracted.strip(". ").lower()) == gold


def write_data(folder: Path) -> Path:
    """Comparison questions without options, their gold answers in other words."""
    samples = [s for s in world_samples("world:math", "train", 120, 0) if s.answer in SYNONYMS and not s.choices]
    lines = []
    for sample in samples[:8]:
        (folder / f"{sample.id}.png").write_bytes(png_bytes(sample.images[0]))
        row = {"prompt": sample.question, "images": [f"{sample.id}.png"], "answer": SYNONYMS[sample.answer]}
        lines.append(json.dumps({"id": sample.id, **row}))
    path = folder / "synonyms.jsonl"
    path.write_text("\n".join(lines))
    return path


def recipe(folder: Path, server: ScriptedOpenAI, on_down: str) -> Recipe:
    judge = {"base_url": server.base_url, "model": "judge", "on_down": on_down, "canary_every": 0, "max_retries": 1}
    return make_recipe(
        {
            "name": "verified",
            "stage": "grpo",
            "out": str(folder / "run"),
            "data": {"train": str(write_data(folder))},
            "rollout": {"prompts_per_step": 4, "group_size": 6, "max_new_tokens": 12, "temperature": 1.5},
            "algorithm": {"steps": 4},
            "reward": {"verifier": judge},
            "log": {"rollouts_every": 1, "rollouts_kept": 4},
        }
    )


def completions(run: Path) -> list[tuple[str, dict[str, object]]]:
    """(gold, completion) of every rollout of the run."""
    lines = [line for file in sorted((run / "rollouts").glob("*.jsonl")) for line in file.read_text().splitlines()]
    return [(row["answer"], c) for row in map(json.loads, lines) for c in row["completions"]]


@pytest.mark.slow
@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("on_down", ["wait", "rule_only"])
def test_an_outage_makes_no_reward_wrong(tmp_path: Path, on_down: str) -> None:
    server: ScriptedOpenAI
    asked = threading.Semaphore(6)
    dying = threading.Lock()

    def die_for_a_while() -> None:
        server.stop()
        time.sleep(2.0)
        server.start()

    def script(ask: Ask) -> Reply:
        if not asked.acquire(blocking=False) and dying.acquire(blocking=False):
            threading.Thread(target=die_for_a_while, daemon=True).start()
        return says_yes() if is_right(ask.extracted, ask.gold) else says_no()

    with ScriptedOpenAI(script) as server:
        train(recipe(tmp_path, server, on_down))
        time.sleep(2.5)  # the thread that revives the server must not outlive it

    run = tmp_path / "run"
    graded = completions(run)
    assert len(graded) == 4 * 4 * 6
    verdicts = [c["verdict"] for _, c in graded]
    assert "correct" in verdicts
    for gold, completion in graded:
        if completion["verdict"] == "correct":
            assert is_right(str(completion["extracted"]), gold)
        elif completion["verdict"] == "wrong" and on_down == "wait":
            assert not is_right(str(completion["extracted"]), gold)
        if completion["verdict"] == "error":
            assert completion["reward"] is None
    metrics = read_metrics(run)
    assert len(metrics) == 4
    assert sum(row["verifier/down_s"] for row in metrics) > 0
    assert all(row.get("reward/by_verifier", 1.0) == 1.0 for row in metrics)
    page = write_report(run).read_text()
    assert "Verifier down" in page
    assert "Who said right" in page
