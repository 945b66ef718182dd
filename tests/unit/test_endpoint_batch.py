"""Many chats with one server: outcomes as they come, states apart, images unchanged, faults retried."""

from __future__ import annotations

import base64
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from helpers.scripted_openai import Ask, Concurrency, Reply, ScriptedOpenAI, after, hangs, says, sends
from helpers.verifying import hurry  # noqa: F401
from seethink.config.endpoint import EndpointConfig
from seethink.endpoint.batch import (
    Outcome,
    Progress,
    Request,
    ServerUnusableError,
    State,
    ask_all,
    ask_in_batches,
)
from seethink.endpoint.chat import ChatSettings, Message, image_media_type, image_part, text_part, written

pytestmark = pytest.mark.usefixtures("hurry")

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


def request(key: str, **settings: object) -> Request:
    return Request(key, [Message(role="user", content=key)], ChatSettings(**settings))  # type: ignore[arg-type]


def ask(script: Callable[[Ask], Reply], keys: str, **options: object) -> tuple[dict[str, Outcome], ScriptedOpenAI]:
    with ScriptedOpenAI(script) as server:
        config = EndpointConfig(base_url=server.base_url, model="m", **options)  # type: ignore[arg-type]
        return {one.key: one for one in ask_all(config, [request(k) for k in keys.split()], role="model")}, server


def test_states_and_what_came_with_them() -> None:
    replies = {
        "well": says("<think>no</think> 7", tokens=4),
        "long": says("and then", finish_reason="length"),
        "thought": says("", reasoning_content="6 times 7"),
        "vllm": says("42", reasoning="6 times 7"),
        "blank": says(" \n"),
        "filter": says("", finish_reason="content_filter"),
        "no": says("", refusal="I will not."),
        "big": sends(400, "context too long"),
        "broken": sends(200, "{}"),
    }
    found, server = ask(lambda a: replies[a.prompt], " ".join(replies), max_retries=1)
    states = {key: str(outcome.state) for key, outcome in found.items()}
    assert states == {
        "well": "answered", "long": "truncated", "thought": "empty", "vllm": "answered", "blank": "empty",
        "filter": "refused", "no": "refused", "big": "refused", "broken": "failed",
    }  # fmt: skip
    assert found["well"].reply is not None
    assert (found["well"].reply.text, found["well"].reply.tokens) == ("<think>no</think> 7", 4)
    assert [found[k].reply.reasoning for k in ("thought", "vllm")] == ["6 times 7"] * 2  # type: ignore[union-attr]
    assert found["no"].reason == "I will not."
    assert found["big"].reply is None
    assert "context too long" in found["big"].reason
    asked = [a.prompt for a in server.asks]
    assert asked.count("big") == 1  # what is refused is not asked again
    assert asked.count("broken") >= 2


def test_settings_and_images_reach_the_server_as_they_are() -> None:
    message = Message(role="user", content=[text_part("Why?"), image_part(PNG)])
    settings = ChatSettings(temperature=1.0, top_p=0.9, seed=7, max_tokens=99, extra={"top_k": 20})
    with ScriptedOpenAI(lambda _: says("so")) as server:
        config = EndpointConfig(base_url=server.base_url, model="m")
        list(ask_all(config, [Request("a", [message], settings)], role="model"))
    body = server.asks[0].body
    sampled = {"temperature": 1.0, "top_p": 0.9, "seed": 7, "max_tokens": 99, "top_k": 20, "stream": False}
    assert {key: body[key] for key in sampled} == sampled
    parts = body["messages"][0]["content"]  # type: ignore[index]
    head, _, data = parts[1]["image_url"]["url"].partition(",")
    assert (parts[0], head, base64.b64decode(data)) == (text_part("Why?"), "data:image/png;base64", PNG)


def test_image_media_types() -> None:
    starts = (b"\xff\xd8\xff\xe0", b"RIFF\0\0\0\0WEBPVP8 ", b"BM..", b"II*\0", b"<svg", b"")
    kinds = ["image/jpeg", "image/webp", "image/bmp", "image/tiff", None, None]
    assert [image_media_type(start) for start in starts] == kinds
    with pytest.raises(ValueError, match="expected the bytes of a PNG"):
        image_part(b"<svg/>")


def test_failures_are_retried_and_429s_wait() -> None:
    count = itertools.count()

    def script(_: Ask) -> Reply:
        place = next(count)
        return [sends(500, "{}"), sends(429, "{}", {"Retry-After": "0.1"}), says("7")][min(place, 2)]

    found, server = ask(script, "a b", max_concurrency=1)
    assert {outcome.state for outcome in found.values()} == {State.ANSWERED}
    assert len(server.asks) == 4


def test_outcomes_come_while_others_wait_and_the_limit_holds() -> None:
    concurrency = Concurrency()
    release = threading.Event()

    def slow(handler: BaseHTTPRequestHandler) -> None:
        release.wait(10)
        says("7", tokens=3)(handler)

    def script(a: Ask) -> Reply:
        return slow if a.prompt == "slow" else concurrency.counted(0.01, says("7", tokens=3))

    seen: list[tuple[int, float | None]] = []

    def note(progress: Progress) -> None:
        seen.append((progress.tokens, progress.eta_s))

    keys = ["slow", *(str(i) for i in range(20))]
    with ScriptedOpenAI(script) as server:
        config = EndpointConfig(base_url=server.base_url, model="m", max_concurrency=4)
        outcomes = ask_all(config, map(request, keys), role="model", total=len(keys), on_progress=note)
        first = [next(outcomes).key for _ in range(20)]
        release.set()
        assert [one.key for one in outcomes] == ["slow"]
    assert sorted(first) == sorted(keys[1:])
    assert concurrency.most <= 4
    assert seen[-1] == (63, 0.0)
    assert seen[0][1] is not None
    assert seen[0][1] > 0


def test_requests_are_drawn_when_their_turn_comes_and_a_caller_may_stop() -> None:
    drawn: list[int] = []

    def endless() -> Iterator[Request]:
        for i in itertools.count():
            drawn.append(i)
            yield request(str(i))

    with ScriptedOpenAI(lambda _: says("7")) as server:
        config = EndpointConfig(base_url=server.base_url, model="m", max_concurrency=2)
        for _ in itertools.islice(ask_all(config, endless(), role="model"), 5):
            pass
    assert 5 <= len(drawn) <= 40


def test_an_error_in_a_request_is_the_callers() -> None:
    def broken() -> Iterator[Request]:
        yield request("a")
        raise OSError("no such image")

    with ScriptedOpenAI(lambda _: says("7")) as server:
        config = EndpointConfig(base_url=server.base_url, model="m", max_concurrency=1)
        outcomes = ask_all(config, broken(), role="model")
        assert next(outcomes).state is State.ANSWERED
        with pytest.raises(OSError, match="no such image"):
            next(outcomes)


def test_a_request_that_hangs_fails_alone() -> None:
    found, _ = ask(lambda a: hangs() if a.prompt == "a" else says("7"), "a b c", call_timeout_s=0.2, max_retries=0)
    assert [found[key].state for key in "abc"] == [State.FAILED, State.ANSWERED, State.ANSWERED]
    assert "no answer within 0.2 s" in found["a"].reason


def test_a_server_that_cannot_be_used_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    config = EndpointConfig(base_url="http://127.0.0.1:9/v1", model="m", max_retries=0)
    start = time.monotonic()
    with pytest.raises(ServerUnusableError, match=r"no answer from a server at http://127.0.0.1:9/v1 .*start it"):
        list(ask_all(config, [request("a")], role="model"))
    assert time.monotonic() - start < 3
    monkeypatch.setattr("helpers.scripted_openai.GREETING", "another")
    with ScriptedOpenAI(lambda _: sends(404, "no model m")) as server:
        config = EndpointConfig(base_url=server.base_url, model="m", max_retries=0)
        with pytest.raises(ServerUnusableError, match=r"refuses requests: HTTP 404: no model m; check the address"):
            list(ask_all(config, [request("a")], role="model"))


def test_outcomes_that_come_together_are_handed_over_together() -> None:
    with ScriptedOpenAI(lambda _: after(0.05, says("7"))) as server:
        config = EndpointConfig(base_url=server.base_url, model="m", max_concurrency=8)
        batches = list(ask_in_batches(config, [request(str(i)) for i in range(32)], role="model"))
    assert sorted(int(one.key) for batch in batches for one in batch) == list(range(32))
    assert all(batches)
    assert len(batches) < 28


def test_a_chat_that_was_written_once_is_asked_many_times() -> None:
    said = [Message(role="user", content=[image_part(PNG), text_part("Über?")])]
    keys, chat = ("a", "b"), written(said)
    with ScriptedOpenAI(lambda _: says("7")) as server:
        config = EndpointConfig(base_url=server.base_url, model="m")
        asked = [Request(key, chat, ChatSettings(seed=n, extra={"top_k": 3})) for n, key in enumerate(keys)]
        assert {one.state for one in ask_all(config, asked, role="model")} == {State.ANSWERED}
    bodies = [asked.body for asked in server.asks]
    assert [body["messages"] for body in bodies] == [said, said]
    assert sorted((body["seed"], body["top_k"], body["stream"]) for body in bodies) == [(0, 3, False), (1, 3, False)]
