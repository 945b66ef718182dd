"""`seethink eval --server --environment zoom`: chats of several turns with a scripted server, pictures in each."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from helpers.benchmarks import logicvista_json, png, small
from helpers.command_line import run_command
from helpers.scripted_openai import Ask, Reply, ScriptedOpenAI, says, sends
from helpers.verifying import hurry  # noqa: F401
from seethink.config import ToolConfig
from seethink.config.endpoint import EndpointConfig
from seethink.data.images import check_image
from seethink.environments.zoom import Zoom, crop
from seethink.eval.bench.answerers import Work
from seethink.eval.bench.benchmark import Item
from seethink.eval.bench.conversing import ConversingServer
from seethink.eval.bench.generations import Generation, Settings
from seethink.eval.tasks import registry

pytestmark = pytest.mark.usefixtures("hurry")
BOX = [0, 0, 500, 1000]
CALL = f'Closer. <tool_call>{{"name": "zoom", "arguments": {{"box": {BOX}}}}}</tool_call>'


def turns_of(ask: Ask) -> list[dict[str, Any]]:
    turns = ask.body["messages"]
    assert isinstance(turns, list)
    return turns


def picture_in(part: dict[str, Any]) -> Image.Image:
    kind, _, data = part["image_url"]["url"].partition(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def looks_once(ask: Ask) -> Reply:
    """Calls the zoom, and answers when it has seen the crop."""
    return says("The answer is B.", tokens=7) if len(turns_of(ask)) > 2 else says(CALL, tokens=11)


def play(
    server: ScriptedOpenAI, *, count: int = 2, tools: dict[str, Any] | None = None, tokens: int = 100
) -> tuple[list[Generation], ConversingServer]:
    """Two runs of each of some items, with at most 8 chats at a time."""
    items = [Item(str(n), f"Question {n}", "B", (check_image(png(n), None),), system="Think.") for n in range(count)]  # type: ignore[arg-type]
    work = Work("mini", items, list(range(count)), {n: {run: f"{n}-{run}" for run in (0, 1)} for n in range(count)})
    config = EndpointConfig(base_url=server.base_url, model="m", max_concurrency=2, max_retries=0)
    answerer = ConversingServer(config, tools=ToolConfig(**{"environment": "zoom"} | (tools or {})))
    settings = Settings(runs=2, max_new_tokens=tokens)
    return [one for part in answerer.answers(work, settings) for one in part], answerer


def test_the_crop_goes_to_the_server_as_a_users_turn_and_the_last_turn_is_the_answer() -> None:
    with ScriptedOpenAI(looks_once) as server:
        made, answerer = play(server)
    assert {one.key for one in made} == {"0-0", "0-1", "1-0", "1-1"}
    assert {(one.text, one.finish, one.tokens) for one in made} == {("The answer is B.", "stop", 18)}
    assert answerer.failures.count == 0
    later = [turns_of(ask) for ask in server.asks if len(turns_of(ask)) == 4]
    assert len(later) == len(server.asks) - 4 == 4
    for system, question, said, reply in later:
        assert system["content"] == f"Think.\n\n{Zoom.instructions}"
        assert said == {"role": "assistant", "content": CALL}
        shown, text = reply["content"]
        assert (reply["role"], text["text"]) == (
            "user", f"<tool_response>the part {BOX} of the picture, enlarged</tool_response>",
        )  # fmt: skip
        whole = picture_in(question["content"][0]).convert("RGB")
        assert picture_in(shown).tobytes() == crop(whole, (0, 0, 500, 1000)).tobytes()
    # Turns have seeds of their own, which depend on nothing else.
    seeds = [ask.body["seed"] for ask in server.asks]
    assert len(set(map(str, seeds))) == 8
    with ScriptedOpenAI(looks_once) as again:
        play(again)
    assert sorted(map(str, seeds)) == sorted(str(ask.body["seed"]) for ask in again.asks)


def test_turns_and_tokens_bound_a_chat() -> None:
    with ScriptedOpenAI(lambda ask: says(CALL, tokens=11)) as server:
        made, _ = play(server, count=1, tools={"turns": 3, "turn_tokens": 40}, tokens=100)
        assert {(one.text, one.finish, one.tokens) for one in made} == {(CALL, "stop", 33)}
        assert [len(turns_of(ask)) for ask in server.asks] == [2, 2, 4, 4, 6, 6]
        assert {ask.body["max_tokens"] for ask in server.asks} == {40}
        before = len(server.asks)
        made, _ = play(server, count=1, tools={"turns": 9}, tokens=30)
    assert {(one.finish, one.tokens) for one in made} == {("length", 33)}
    assert [ask.body["max_tokens"] for ask in server.asks[before:]] == [30, 30, 19, 19, 8, 8]


def test_bad_calls_are_answered_and_a_cut_turn_ends_the_chat() -> None:
    def script(ask: Ask) -> Reply:
        if len(turns_of(ask)) == 2:
            return says('<tool_call>{"name": "saw", "arguments": {}}</tool_call>', tokens=5)
        said = turns_of(ask)[-1]["content"]
        assert said == [{"type": "text", "text": "<tool_response>error: no such tool; there is zoom</tool_response>"}]
        return says(CALL, finish_reason="length", tokens=6)

    with ScriptedOpenAI(script) as server:
        made, _ = play(server, count=1)
    assert {(one.text, one.finish, one.tokens) for one in made} == {(CALL, "length", 11)}


def test_many_chats_go_part_by_part() -> None:
    with ScriptedOpenAI(looks_once) as server:
        made, _ = play(server, count=9)
    assert len(made) == 18
    # Parts of 8, 8 and 2 chats, two turns each, each greeted once.
    assert server.greetings == 6
    assert [len(turns_of(ask)) for ask in server.asks] == [2] * 8 + [4] * 8 + [2] * 8 + [4] * 8 + [2] * 2 + [4] * 2


def test_the_command_asks_a_chat_again_of_which_a_turn_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.BENCHMARKS, "logicvista", small("logicvista"))
    logicvista_json(tmp_path / "data" / "logicvista", 6)
    broken = {"now": True}

    def script(ask: Ask) -> Reply:
        is_second = len(turns_of(ask)) > 2
        return sends(400, "image too large") if is_second and broken["now"] else looks_once(ask)

    out = tmp_path / "out"
    words = ["--model", "m", "--bench", "logicvista", "--data", str(tmp_path / "data"), "--out", str(out)]
    words += ["--runs", "1", "--concurrency", "4", "--environment", "zoom", "--turns", "3"]
    with ScriptedOpenAI(script) as server:
        first = run_command("eval", "--server", server.base_url, *words)
        assert first.returncode == 1
        assert "requests got no answer" in " ".join(first.stdout.split())
        asked = len(server.asks)
        broken["now"] = False
        again = run_command("eval", "--server", server.base_url, *words)
        assert again.returncode == 0, again.stderr
        assert len(server.asks) == 2 * asked
        run_command("eval", "--server", server.base_url, *words)
        assert len(server.asks) == 2 * asked, "all answers are stored"
        alone = run_command("eval", "--server", server.base_url, *words[:-4])
    assert alone.returncode == 2
    assert "choose another folder" in alone.stderr
    (file,) = (out / "generations").rglob("*.jsonl")
    answers = [json.loads(line) for line in file.read_text().splitlines()]
    assert {one["text"] for one in answers} == {"The answer is B."}
    model = json.loads((out / "bench.json").read_text())["model"]
    assert model == {
        "engine": "server", "model": "m", "tools": {"environment": "zoom", "turns": 3, "turn_tokens": None},
    }  # fmt: skip
