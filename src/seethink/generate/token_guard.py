"""A key for every path of a vLLM server: its own `--api-key` leaves those unguarded that change weights.

vLLM loads `TokenGuard` by `--middleware`, in the server's process.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

KEY = "SEETHINK_VLLM_KEY"
"""Environment variable: what servers that the launcher started want to be shown; new for every run."""
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class TokenGuard:
    """ASGI middleware that answers 401 to what does not show the key."""

    def __init__(self, app: App) -> None:
        """Raises RuntimeError where there is no key: a server must not start unguarded."""
        if not os.environ.get(KEY):
            raise RuntimeError(f"the variable {KEY} holds no key")
        self._app, self._wanted = app, f"Bearer {os.environ[KEY]}".encode()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        shown = dict(scope["headers"]).get(b"authorization", b"")
        if hmac.compare_digest(shown, self._wanted):
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b"this server needs its run's key"})
        else:
            await send({"type": "websocket.close", "code": 1008})
