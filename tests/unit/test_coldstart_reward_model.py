"""The reward model of traces: what it is asked, what counts as its score, and what is chosen by it."""

from __future__ import annotations

import base64
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from helpers.asking import GOLD, by_number, file_of, number_of, picture, problems, thought
from helpers.command_line import Finished, run_command
from helpers.scripted_openai import Ask, Reply, ScriptedOpenAI, says, sends
from helpers.verifying import hurry  # noqa: F401
from seethink.config.reward_model import RewardModelConfig
from seethink.core.errors import UserError
from seethink.endpoint.batch import GREETING, Request, ServerUnusableError, ask_all
from seethink.endpoint.chat import Message
from seethink.endpoint.errors import RequestRefusedError
from seethink.endpoint.scoring import one_number

pytestmark = pytest.mark.usefixtures("hurry")


USAGE = {"prompt_tokens": 10, "total_tokens": 10, "completion_tokens": 0, "prompt_tokens_details": None}


def classified(*probs: float) -> Reply:
    """https://docs.vllm.ai/en/latest/models/pooling_models/classify/#example-requests"""
    item = {"index": 0, "label": "LABEL_0", "probs": [*probs], "num_classes": len(probs)}
    return listed("classify-9bf17f2847b046c7b2d5495f4b4f9682", item, USAGE)


def pooled(*tokens: list[float]) -> Reply:
    """https://docs.vllm.ai/en/latest/models/pooling_models/#pooling-api: of a token-wise task, a list per token."""
    return listed("pool-1", {"index": 0, "object": "pooling", "data": [*tokens]}, USAGE)


def scored(score: float) -> Reply:
    """https://docs.vllm.ai/en/latest/models/pooling_models/scoring/#single-inference"""
    return listed("score-request-id", {"index": 0, "object": "score", "score": score}, {})


def listed(name: str, item: dict[str, object], usage: object) -> Reply:
    body = {"id": name, "object": "list", "created": 1745383213, "model": "m", "data": [item], "usage": usage}
    return sends(200, json.dumps(body), {"Content-Type": "application/json"})


@pytest.mark.parametrize(
    ("found", "number"),
    [(0.5, 0.5), ([-3], -3.0), ([[0.25]], 0.25), ([[0.1], [0.2], [0.9]], 0.9), ([[[1.0], [2.0]]], 2.0)],
)
def test_one_number(found: object, number: float) -> None:
    assert one_number(found) == number


@pytest.mark.parametrize("found", [[], [[]], [0.1] * 1536, [[0.1, 0.9]], "7", None, True, float("nan"), {"a": 1}])
def test_what_is_no_score(found: object) -> None:
    with pytest.raises(RequestRefusedError, match="is it a reward model"):
        one_number(found)


@pytest.mark.parametrize(
    ("route", "reply"),
    [("classify", classified(0.5)), ("pooling", pooled([0.1], [0.3], [0.5])), ("score", scored(0.5))],
)
def test_each_route_is_asked_in_its_own_form(route: Any, reply: Reply) -> None:
    chat = [Message(role="user", content=[{"type": "text", "text": "Why?"}]), Message(role="assistant", content="So.")]
    with ScriptedOpenAI(lambda ask: reply) as server:
        config = RewardModelConfig(base_url=server.base_url, model="m", route=route)
        (outcome,) = ask_all(config, [Request("k", chat)], role="reward model")
        assert outcome.reply is not None
        assert float(outcome.reply.text) == 0.5
        (ask,) = (ask for ask in server.asks if ask.prompt != GREETING)
        assert ask.path == f"/{route}"
    shown = {key: value for key, value in ask.body.items() if key != "model"}
    raw = {"use_activation": False}
    if route == "score":
        assert shown == {"queries": "Why?", "documents": "So.", **raw}
    else:
        task = {"task": "token_classify"} if route == "pooling" else {}
        assert shown == {"messages": chat, "add_generation_prompt": False, **raw, **task}


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        (classified(0.1, 0.9), "2 numbers: is it a reward model"),
        (pooled([0.5]), "not a reply of /classify"),
        (says("7"), "not a reply of /classify"),
        (sends(404, "not here"), "refuses requests: HTTP 404"),
        (sends(200, "[" * 9000), "not a reply of /classify"),
    ],
)
def test_a_server_that_is_no_reward_model_is_refused_before_the_first_trace(reply: Reply, complaint: str) -> None:
    with ScriptedOpenAI(lambda ask: reply) as server:
        config = RewardModelConfig(base_url=server.base_url, model="m", max_retries=0)
        with pytest.raises(ServerUnusableError, match=complaint):
            list(ask_all(config, [], role="reward model"))


def test_the_best_of_a_questions_right_traces_is_taken_and_thresholds_come_last(tmp_path: Path) -> None:
    """Longer is better here, and problem 3 is bad; problem 2 gets no score at first."""
    told, broken = Counter[int](), [True]

    def teach(ask: Ask) -> Reply:
        told[number_of(ask)] += 1
        return says(thought(number_of(ask)).replace("I look", "I look " * told[number_of(ask)]))

    def script(ask: Ask) -> Reply:
        if ask.path.endswith("/chat/completions"):
            return by_number({4: lambda ask: says(thought(4, 1))})(ask) if number_of(ask) == 4 else teach(ask)
        if ask.prompt == GREETING:
            return classified(0.0)
        if number_of(ask) == 2 and broken[0]:
            return sends(400, "too long")
        return classified(len(ask.prompt) / 100 - 9 * (number_of(ask) == 3))

    def run(*words: str) -> Finished:
        return run_command("coldstart", str(source), "-o", "out", *words, cwd=tmp_path)

    def reasons() -> dict[str, int]:
        return json.loads((tmp_path / "out/data/funnel.json").read_text())["first_reasons"]

    source = problems(tmp_path / "q", 5)
    with ScriptedOpenAI(script) as server:
        words = ["--teacher", server.base_url, "--model", "m", "--samples", "2", "coldstart.adaptive=false"]
        words += ["coldstart.reward_model.model=taste", "coldstart.val_share=0"]
        words.append(f"coldstart.reward_model.base_url={server.base_url}")
        assert run(*words).returncode == 1
        assert reasons() == {"not_scored": 1, "wrong_answer": 1}
        rows = [json.loads(line) for line in (tmp_path / "out/data/train.jsonl").read_text().splitlines()]
        assert [row["response"].count("I look") for row in rows] == [2] * 3
        asked = [ask for ask in server.asks if ask.path == "/classify" and ask.prompt != GREETING]
        assert len(asked) == 8, "the right ones alone"
        for ask in asked:
            user, assistant = ask.body["messages"]  # type: ignore[misc]
            (url,) = (part["image_url"]["url"] for part in user["content"] if part["type"] == "image_url")
            assert base64.b64decode(url.partition(",")[2]) == file_of(picture(number_of(ask)))
            assert assistant["role"] == "assistant"
            assert str(GOLD + number_of(ask)) not in json.dumps(user)
        broken[0] = False
        assert run(*words).returncode == 0
        assert reasons() == {"wrong_answer": 1}
        count = len(server.asks)
        assert run("--refilter", "coldstart.min_reward=-1").returncode == 0
        assert reasons() == {"wrong_answer": 1, "low_reward": 1}
        assert len(server.asks) == count
    page = (tmp_path / "out/report.html").read_text()
    assert "disliked by the reward model" in page
    assert "taste" in page
    assert server.base_url not in page


def test_a_threshold_on_what_nobody_measures_is_a_mistake(tmp_path: Path) -> None:
    source = problems(tmp_path / "q", 1)
    for word, said in (
        ("coldstart.min_reward=1", "reward_model.base_url"),
        ("coldstart.max_perplexity=9", "perplexity="),
    ):
        with ScriptedOpenAI(lambda ask: says("7")) as server:
            done = run_command(
                "coldstart", str(source), "-o", "out", "--teacher", server.base_url, "--model", "m", word, cwd=tmp_path
            )
        assert done.returncode == 2
        assert said in done.stderr
        assert not server.asks


def test_a_reward_model_that_is_none_is_known_before_the_teacher_is_asked(tmp_path: Path) -> None:
    source = problems(tmp_path / "q", 2)
    with ScriptedOpenAI(lambda ask: says("7")) as server:
        words = ["--teacher", server.base_url, "--model", "m", "coldstart.reward_model.model=taste"]
        words += [f"coldstart.reward_model.base_url={server.base_url}", "coldstart.reward_model.max_retries=0"]
        done = run_command("coldstart", str(source), "-o", "out", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert "not a reply of /classify" in done.stderr
    assert {ask.path for ask in server.asks} == {"/classify"}


def test_a_key_that_is_not_set_is_said() -> None:
    config = RewardModelConfig(base_url="http://127.0.0.1:1/v1", model="m", api_key_env="NO_SUCH_KEY")
    assert config.root == "http://127.0.0.1:1"
    with pytest.raises(UserError, match="NO_SUCH_KEY"):
        list(ask_all(config, [], role="reward model"))
