"""The key before a vLLM server: whom it lets in."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from seethink.generate.token_guard import KEY, TokenGuard


def answers(scope: dict[str, Any]) -> list[dict[str, Any]]:
    """What is sent to the one who asked; the server behind the guard says 200 and nothing else."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "behind"})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    asyncio.run(TokenGuard(app)(scope, receive, send))
    return sent


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "opensesame")


@pytest.mark.parametrize("path", ["/update_weights", "/health", "/inference/v1/generate", "/"])
def test_every_path_needs_the_key(path: str) -> None:
    scope = {"type": "http", "path": path, "headers": [(b"authorization", b"Bearer opensesame")]}
    assert answers(scope) == [{"type": "behind"}]
    for headers in ([], [(b"authorization", b"Bearer sesame")], [(b"authorization", b"opensesame")]):
        assert answers(scope | {"headers": headers})[0]["status"] == 401


def test_other_scopes() -> None:
    assert answers({"type": "lifespan"}) == [{"type": "behind"}]
    assert answers({"type": "websocket", "headers": []}) == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize("value", [None, ""])
def test_no_server_starts_without_a_key(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY)
    if value is not None:
        monkeypatch.setenv(KEY, value)
    with pytest.raises(RuntimeError, match=KEY):
        TokenGuard(None)  # type: ignore[arg-type]
