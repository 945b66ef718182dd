"""The client of OpenAI-compatible servers without a verifier: messages in, replies out, retries and outages between."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from helpers.scripted_openai import Ask, Concurrency, Reply, ScriptedOpenAI, says, sends
from helpers.verifying import hurry  # noqa: F401
from seethink.config.endpoint import EndpointConfig
from seethink.endpoint.background import BackgroundLoop
from seethink.endpoint.chat import Message
from seethink.endpoint.chat import Reply as ChatReply
from seethink.endpoint.client import Client
from seethink.endpoint.connection import Connection
from seethink.endpoint.errors import ServerDownError, ServerError, UnreadableReplyError
from seethink.endpoint.http import Http

T = TypeVar("T")

pytestmark = pytest.mark.usefixtures("hurry")


def chat(text: str) -> list[Message]:
    return [Message(role="system", content="Answer briefly."), Message(role="user", content=text)]


def with_client(
    script: Callable[[Ask], Reply], work: Callable[[Client], Awaitable[T]], **options: object
) -> tuple[T, ScriptedOpenAI]:
    """What `work` returns, and the server that it talked to."""

    async def main() -> T:
        config = EndpointConfig(base_url=server.base_url, model="teacher", **options)
        client = Client(config, role="teacher", greeting=lambda: chat("Hello"), while_down="traces wait")
        try:
            return await work(client)
        finally:
            await client.close()

    with ScriptedOpenAI(script) as server:
        return asyncio.run(main()), server


def whole(reply: ChatReply) -> ChatReply:
    return reply


def number(reply: ChatReply) -> int:
    if not reply.text.isdigit():
        raise UnreadableReplyError(f"no number: {reply.text}")
    return int(reply.text)


def test_messages_go_in_and_text_and_finish_reason_come_out() -> None:
    reply, server = with_client(
        lambda ask: says("A red sq", finish_reason="length"), lambda client: client.ask(chat("Describe it."), whole)
    )
    assert reply == ChatReply("A red sq", "length")
    assert server.asks[0].body["messages"] == chat("Describe it.")
    assert (server.asks[0].body["model"], server.asks[0].body["max_tokens"]) == ("teacher", 512)


def test_a_reply_that_cannot_be_read_is_requested_again() -> None:
    async def work(client: Client) -> tuple[int, int]:
        return await client.ask(chat("How many?"), number), client.read_traffic().retries

    found, server = with_client(lambda ask: says("seven" if ask.nth < 3 else "7"), work)
    assert found == (7, 2)
    assert len(server.asks) == 3


def test_the_last_failure_is_raised() -> None:
    async def work(client: Client) -> int:
        with pytest.raises(UnreadableReplyError, match="no number: seven"):
            await client.ask(chat("How many?"), number)
        return client.read_traffic().retries

    retries, server = with_client(lambda ask: says("seven"), work, max_retries=2)
    assert (retries, len(server.asks)) == (2, 3)


def test_a_429_costs_no_attempt() -> None:
    async def work(client: Client) -> tuple[int, int, int]:
        found = await client.ask(chat("How many?"), number)
        traffic = client.read_traffic()
        return found, traffic.retries, traffic.rate_limited

    found, _ = with_client(
        lambda ask: sends(429, "{}", {"Retry-After": "0.1"}) if ask.nth < 4 else says("7"), work, max_retries=0
    )
    assert found == (7, 0, 3)


def test_a_caller_need_not_wait_for_a_server_that_is_down() -> None:
    async def work(client: Client) -> bool:
        with pytest.raises((ServerError, ServerDownError)):
            await client.ask(chat("How many?"), number, waits=False)
        start = time.monotonic()
        with pytest.raises(ServerDownError):
            await client.ask(chat("How many?"), number, waits=False)
        assert await client.ask_once(chat("How many?"), number) is None
        assert time.monotonic() - start < 0.1
        return client.is_down

    down, _ = with_client(lambda ask: sends(500, "{}"), work, max_retries=0)
    assert down


def test_the_limits_hold_for_all_callers() -> None:
    concurrency = Concurrency()

    async def work(client: Client) -> list[int]:
        return await asyncio.gather(*(client.ask(chat(f"{i}?"), number) for i in range(9)))

    found, _ = with_client(lambda ask: concurrency.counted(0.05, says("7")), work, max_concurrency=3)
    assert found == [7] * 9
    assert concurrency.most == 3


def test_a_background_loop_serves_code_without_one() -> None:
    async def double(value: int) -> int:
        await asyncio.sleep(0)
        return 2 * value

    async def nothing() -> None:
        pass

    loop = BackgroundLoop("teacher")
    assert loop.run(double(21)) == 42
    assert loop.close(nothing)
    assert not loop.close(nothing)
    with pytest.raises(RuntimeError, match="teacher was closed"):
        loop.run(double(21))


def test_it_needs_neither_torch_nor_the_rewards() -> None:
    code = "import sys, seethink.endpoint.client\nprint([m for m in sys.modules if m in ('torch', 'seethink.rewards')])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_the_proxy_of_the_environment_is_used_where_it_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    async def status(url: str, **options: bool) -> str:
        http = Http(url, **options)
        try:
            return (await http.send("POST", "chat/completions", b"{}", timeout_s=5, most=9999)).decode()
        except ServerError as error:
            return str(error)
        finally:
            await http.close()

    with ScriptedOpenAI(lambda _: says("7")) as proxy:
        monkeypatch.setattr(proxy, "answer", lambda handler, body: sends(200, handler.path)(handler))
        monkeypatch.setenv("http_proxy", proxy.base_url.removesuffix("/v1"))
        monkeypatch.setenv("no_proxy", "127.0.0.2")
        assert asyncio.run(status("http://elsewhere.invalid/v1")) == "http://elsewhere.invalid/v1/chat/completions"
        assert "127.0.0.2" in asyncio.run(status("http://127.0.0.2:9/v1"))
        assert "elsewhere.invalid" not in asyncio.run(status("http://127.0.0.1:9/v1", proxies=False))


def test_a_compressed_body_is_not_unpacked() -> None:
    async def complete(base_url: str) -> None:
        connection = Connection(EndpointConfig(base_url=base_url, model="m"))
        try:
            await connection.complete(chat("How many?"))
        finally:
            await connection.close()

    packed = sends(200, '{"choices": 0}', {"Content-Encoding": "gzip"})
    with ScriptedOpenAI(lambda _: packed) as server, pytest.raises(ServerError, match=r"not a chat completion: \{"):
        asyncio.run(complete(server.base_url))
