"""`seethink serve`: our own client and a plain one get the answers of the decoder, whole and in a stream."""

from __future__ import annotations

import base64
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from helpers.asking import file_of, picture, problems
from helpers.command_line import run_command
from helpers.nano import load_nano
from seethink.config.endpoint import EndpointConfig
from seethink.core.errors import UserError
from seethink.endpoint.batch import Request, ask_all
from seethink.endpoint.chat import ChatSettings, Message, image_part, text_part
from seethink.models.load import LoadedModel
from seethink.studies.serve.requests import RequestError, read_request
from seethink.studies.serve.run import run_server
from seethink.studies.serve.server import ModelServer, deltas, split_thought

KEY = "served-key-1"
IMAGE = f"data:image/png;base64,{base64.b64encode(file_of(picture(1))).decode()}"


@pytest.fixture(scope="module")
def loaded(random_nano: Path) -> LoadedModel:
    return load_nano(random_nano)


@pytest.fixture(scope="module")
def server(loaded: LoadedModel) -> Iterator[ModelServer]:
    with ModelServer(("127.0.0.1", 0), loaded, max_new_tokens=24, key=KEY) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield running
        running.shutdown()


def address(server: ModelServer) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


def body(**changes: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": "How many?"}, {"type": "image_url", "image_url": {"url": IMAGE}}]
    return {"model": "any", "messages": [{"role": "user", "content": content}], "seed": 3, "max_tokens": 12, **changes}


def post(server: ModelServer, content: Any, key: str = KEY) -> tuple[int, str]:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    request = urllib.request.Request(f"{address(server)}/v1/chat/completions", data)
    request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def text_of(message: dict[str, str]) -> str:
    thought = message.get("reasoning_content", "")
    return thought + message.get("content", "")


def test_a_completion_has_what_clients_read(server: ModelServer) -> None:
    status, text = post(server, body(logprobs=True, n=2))
    found = json.loads(text)
    assert status == 200
    assert [choice["index"] for choice in found["choices"]] == [0, 1]
    tokens = [len(choice["logprobs"]["content"]) for choice in found["choices"]]
    assert found["usage"]["completion_tokens"] == sum(tokens)
    assert all(one["logprob"] < 0 for one in found["choices"][0]["logprobs"]["content"])
    assert {choice["finish_reason"] for choice in found["choices"]} <= {"stop", "length"}
    assert found["usage"]["prompt_tokens"] > 16, "the picture's tokens are in it"


@pytest.mark.slow
def test_a_seed_gives_the_same_text_alone_in_company_and_in_a_stream(server: ModelServer) -> None:
    alone = [text_of(json.loads(post(server, body(seed=n))[1])["choices"][0]["message"]) for n in range(6)]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda n: json.loads(post(server, body(seed=n))[1]), range(6)))
    assert [text_of(found["choices"][0]["message"]) for found in together] == alone
    assert len(set(alone)) == 6
    for seed in range(2):
        events = [line[6:] for line in post(server, body(seed=seed, stream=True))[1].splitlines() if line]
        assert events[-1] == "[DONE]"
        chunks = [json.loads(event)["choices"][0] for event in events[:-1]]
        assert "".join(text_of(chunk["delta"]) for chunk in chunks).replace("\ufffd", "") == alone[seed].replace(
            "\ufffd", ""
        )
        assert chunks[-1]["finish_reason"] in ("stop", "length")


def test_the_key_is_asked_for(server: ModelServer) -> None:
    status, text = post(server, body(), key="wrong")
    assert status == 401
    assert KEY not in text
    with urllib.request.urlopen(f"{address(server)}/health") as reply:
        assert json.load(reply) == {"status": "ok"}
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{address(server)}/v1/models")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "body: Invalid JSON"),
        ({"messages": []}, "messages: List should have at least 1 item"),
        (body(temperature=-1), "temperature: "),
        (body(stop=["x"]), "stop is not supported"),
        (body(tools=[{}]), "tools is not supported"),
        (body(stream=True, n=2), "stream: one choice"),
        (body(messages=[{"role": "user", "content": " "}]), "the user's turn is empty"),
        (body(messages=[{"role": "user", "content": "<image>"}]), "<image> as text"),
        (body(messages=[{"role": "assistant", "content": "Hi"}]), "and then one user turn"),
        (body(messages=[{"role": "user", "content": "a<|im_end|>"}]), "special token"),
        (body(messages=[{"role": "user", "content": "word " * 5000}]), "fills the model's positions"),
    ],
)
def test_what_cannot_be_served_is_a_400(server: ModelServer, content: Any, said: str) -> None:
    status, text = post(server, content)
    assert status == 400
    assert said in json.loads(text)["error"]["message"]


@pytest.mark.parametrize("url", ["http://127.0.0.1/x.png", "file:///etc/passwd", "/etc/passwd", "data:text/html,x", ""])
def test_no_picture_is_fetched_or_read_from_the_disk(url: str) -> None:
    message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}
    with pytest.raises(RequestError, match="nothing is fetched"):
        read_request(json.dumps({"messages": [message]}).encode())


@pytest.mark.slow
def test_our_client_is_served(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVED_KEY", KEY)
    config = EndpointConfig(base_url=f"{address(server)}/v1", model="any", api_key_env="SERVED_KEY")
    message = Message(role="user", content=[image_part(file_of(picture(1))), text_part("How many?")])
    (found,) = ask_all(config, [Request("a", [message], ChatSettings(1.0, seed=3, max_tokens=12))], role="model")
    assert found.reply is not None
    assert found.reply.tokens
    assert found.reply.prompt_tokens


@pytest.mark.slow
def test_a_served_model_is_a_teacher(server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVED_KEY", KEY)
    words = ["--teacher", f"{address(server)}/v1", "--model", "any", "teacher.api_key_env=SERVED_KEY"]
    words += ["--samples", "1", "coldstart.max_tokens=8", "coldstart.system="]
    source = problems(tmp_path / "q", 3)
    ended = run_command("coldstart", str(source), "-o", "out", *words, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    states = [json.loads(line)["state"] for line in (tmp_path / "out/traces.jsonl").read_text().splitlines()]
    assert len(states) == 3
    assert set(states) <= {"done", "truncated", "empty"}


def test_a_decoder_that_fails_is_a_500_and_the_next_request_is_answered(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(server.engine._generator, "generate", fails)
        status, text = post(server, body())
    assert (status, json.loads(text)["error"]["message"]) == (500, "the decoder failed: MemoryError")
    assert post(server, body())[0] == 200


def test_others_are_let_in_with_a_key_alone(loaded: LoadedModel) -> None:
    with pytest.raises(UserError, match=r"--host 0\.0\.0\.0 lets others in"):
        run_server(loaded, "0.0.0.0", 0, api_key_env=None, max_new_tokens=8)
    with pytest.raises(UserError, match="NOT_SET_HERE, which is not set"):
        run_server(loaded, "127.0.0.1", 0, api_key_env="NOT_SET_HERE", max_new_tokens=8)


def test_thoughts_are_apart() -> None:
    assert split_thought("<think>a</think>b") == ("a", "b")
    assert split_thought("<think>a") == ("a", "")
    assert split_thought("b <think>") == ("", "b <think>")
    pieces = ["<th", "ink>so", " far</", "thi", "nk>", "7 <", "8"]
    found = list(deltas(iter(pieces)))
    assert "".join(d.get("reasoning_content", "") for d in found) == "so far"
    assert "".join(d.get("content", "") for d in found) == "7 <8"
