"""`seethink train` with a calculator: calls are answered in the run, and a killed run ends as if never killed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import run_command
from helpers.fork_server import ForkServer, Request
from helpers.killing import outcome, write_recipe
from helpers.nano import nano_recipe
from helpers.training import make_policy, pair_batches
from seethink.core.types import Sample
from seethink.environments.calculator import Calculator
from seethink.models.load import load_model
from seethink.train.sft import response_loss

CALL = '<tool_call>{"name": "calculator", "arguments": {"expression": "17 * 3"}}</tool_call>'
BROKEN = '<tool_call>{"name": "calculator"}</tool_call>'
RECIPES = Path(__file__).resolve().parents[2] / "recipes"
QUESTION = "What is 17 * 3?"


def save_caller(folder: Path, steps: int = 60) -> Path:
    """The nano model, taught by heart to call the calculator, well or badly, when it is asked this one question."""
    loaded = load_model("nano")
    recipe = nano_recipe("nano", "optim.lr=3e-3", "optim.betas=[0.9,0.95]", stage="sft")
    policy = make_policy(loaded, recipe, steps)
    prompt = loaded.chat.introduced(Calculator.instructions).prompt(Sample("q", QUESTION))
    pairs = [(prompt, loaded.chat.response_ids(text)) for text in (CALL, BROKEN)]
    for _ in range(steps):
        policy.forward_backward(pair_batches(pairs, recipe, loaded), response_loss)
        policy.optimizer_step()
    loaded.model.save_pretrained(folder)
    loaded.chat.processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tools")
    save_caller(folder / "caller")
    rows = [{"id": f"r{i}", "prompt": QUESTION, "answer": "51"} for i in range(6)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def tools_recipe(home: Path, name: str, **overrides: Any) -> Path:
    keys: dict[str, Any] = {
        "stage": "grpo", "model": str(home / "caller"), "data.train": str(home / "rows.jsonl"), "algorithm.steps": 2,
        "rollout.environment": "calculator", "rollout.turns": 3, "rollout.turn_tokens": 90,
        "rollout.max_new_tokens": 200, "rollout.prompts_per_step": 2, "rollout.group_size": 3, "blindness.every": 0,
        "checkpoint.every": 1, "reward.function": "helpers.conversing:by_length",
    }  # fmt: skip
    return write_recipe(home, name, **keys | overrides)


def stored(run: Path) -> list[dict[str, Any]]:
    files = sorted((run / "rollouts").glob("*.jsonl"))
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return [one for group in lines for one in group["completions"]]


@pytest.mark.slow
def test_a_killed_run_with_a_calculator_ends_as_if_never_killed(home: Path) -> None:
    whole = tools_recipe(home, "whole")
    trained = run_command("train", str(whole))
    assert trained.returncode == 0, trained.stderr
    replies = [reply for one in stored(home / "whole") for reply in one.get("replies", ())]
    assert {reply["text"] for reply in replies} >= {"<tool_response>51</tool_response>"}
    assert any(reply["failed"] for reply in replies)
    first = json.loads((home / "whole" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["tools/calls_mean"] > 0.5
    assert 0 < first["tools/failed_share"] < 1
    assert first["advantage/std"] > 0

    with ForkServer() as server:
        recipe = tools_recipe(home, "killed")
        ended = server.run(Request(recipe, at="saved step_000001", slow_save=0.25))
        assert ended.status == -9, ended.output
        assert not (home / "killed" / "done.json").exists()
        ended = server.run(Request(recipe, resume=True))
        assert ended.status == 0, ended.output
    assert outcome(home / "killed") == outcome(home / "whole")


@pytest.mark.slow
def test_eval_and_chat_answer_calls(home: Path) -> None:
    asked = [
        "eval",
        str(home / "caller"),
        "--data",
        str(home / "rows.jsonl"),
        "--samples",
        "3",
        "--max-new-tokens",
        "90",
    ]
    tools = ["--environment", "calculator", "--turns", "3", "--turn-tokens", "90", "--max-new-tokens", "200"]
    done = run_command(*asked, *tools, "--out", str(home / "asked"))
    assert done.returncode == 0, done.stderr
    record = json.loads((home / "asked" / "eval.json").read_text())
    assert record["tools"] == {"environment": "calculator", "turns": 3, "turn_tokens": 90}
    groups = [json.loads(line) for line in (home / "asked" / "eval" / "rollouts.jsonl").read_text().splitlines()]
    replies = [reply for group in groups for one in group["completions"] for reply in one.get("replies", ())]
    assert "<tool_response>51</tool_response>" in {reply["text"] for reply in replies}

    assert run_command(*asked, "--out", str(home / "alone")).returncode == 0
    assert "tools" not in json.loads((home / "alone" / "eval.json").read_text())

    said = run_command(
        "chat", str(home / "caller"), "--question", QUESTION, "--environment", "calculator", "--seed", "1"
    )
    assert said.returncode == 0, said.stderr
    assert re.search(r"</tool_call>\s+<tool_response>", said.stdout), said.stdout


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--environment", "abacus"], "--environment: Input should be 'calculator' or 'zoom' (got 'abacus')"),
        (["--turn-tokens", "9"], "--turn-tokens is read with --environment alone"),
        (["--environment", "zoom", "--bench", "mmmu", "--regrade"], "leave it out with --regrade, which asks none"),
    ],
)
def test_a_wrong_tool_is_said_before_a_model_is_loaded(words: list[str], problem: str) -> None:
    done = run_command("eval", "nothing", *words)
    assert done.returncode == 2
    assert problem in done.stderr


@pytest.mark.slow
def test_the_recipes_of_the_page_run(tmp_path: Path) -> None:
    """Cold start on traces that zoom, then GRPO from it, a step or two of each; crops are in the files."""
    few = ["blindness.samples=2", "eval.size=2", "eval.max_new_tokens=24", "log.tensorboard=false"]
    walls = "{source='world:zoom:traces', size=18, weight=3}"
    pictures = "{source='world:math:traces', size=6, weight=1}"
    cold = [
        f"data.mixture=[{walls}, {pictures}]",
        "data.val_size=4",
        "sft.epochs=1",
        "sft.batch_size=8",
        "eval.every=2",
    ]
    trained = run_command("train", str(RECIPES / "nano-zoom-coldstart.toml"), *cold, *few, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    rows = (tmp_path / "runs" / "nano-zoom-coldstart" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(rows[-1])["loss/total"] < json.loads(rows[0])["loss/total"]

    rl = ["data.train_size=4", "algorithm.steps=1", "rollout.prompts_per_step=2", "rollout.group_size=2"]
    rl += ["rollout.max_new_tokens=32", "rollout.turn_tokens=16", "blindness.action=warn"]
    trained = run_command("train", str(RECIPES / "nano-zoom-grpo.toml"), *rl, *few, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    (row,) = (tmp_path / "runs" / "nano-zoom-grpo" / "metrics.jsonl").read_text().splitlines()
    assert "tools/calls_mean" in json.loads(row)
