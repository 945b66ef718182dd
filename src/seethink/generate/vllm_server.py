"""One vLLM server over HTTP: JSON in, JSON out, or an error that says what went wrong.

The paths are those of vLLM 0.32: `/inference/v1/generate` (with `--enable-scale-out`), and those that stop the server,
change its weights and empty its caches (with `VLLM_SERVER_DEV_MODE=1`).
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from seethink.core.errors import UserError
from seethink.endpoint.errors import RateLimitedError, RequestRefusedError, ServerError
from seethink.endpoint.http import Http

QUICK_S = 5.0
"""Seconds for an answer that costs the server nothing."""
BUSY = (429, 503)


class VllmServer:
    """The address of a server, and what is known of it. It belongs to one event loop."""

    def __init__(self, url: str, *, key_variable: str | None = None) -> None:
        """`key_variable` names the variable that holds the API key. Raises UserError where it is not set."""
        self.url = url
        self.version: str | None = None
        """Of the weights that it serves, as it said last; None while it does not answer."""
        self.fault = "it has not answered yet"
        """Why it does not."""
        self.asleep = False
        """It was sent to sleep: it is to be woken, and given the weights, before it is asked."""
        self.failed_updates = 0
        """Weight updates in a row that it did not take."""
        # vLLM closes idle connections after 5 s, under the next request: each request has one of its own. No proxy
        # between ranks and their servers.
        self._http = Http(
            url, key_variable=key_variable, setting="vllm.api_key_env", busy=BUSY, keeps=False, proxies=False
        )

    def __repr__(self) -> str:
        return f"VllmServer({self.url})"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)

    async def look(self) -> str | None:
        """Ask for its health and version; note and return the version, None where it does not answer well.

        Raises UserError where it refuses: then it was started without what rollouts need.
        """
        try:
            await self.get("health", most=4096)
            version = (await self.get("weight_info", most=4096)).get("weight_version")
            if not isinstance(version, str):
                raise ServerError(f"weight_info has no version but {version!r}")
            self.version = version
        except RequestRefusedError as error:
            raise UserError(
                f"{error}. Rollouts need a server that was started with VLLM_SERVER_DEV_MODE=1 and the words that "
                "docs/scale.md gives, and its key in vllm.api_key_env where it has one"
            ) from None
        except (ServerError, RateLimitedError, AttributeError) as error:
            self.lost(str(error))
        return self.version

    async def workers(self) -> int:
        """The processes that hold its weights."""
        found = await self.get("get_world_size", most=4096)
        count = found.get("world_size") if isinstance(found, dict) else None
        if not isinstance(count, int) or count < 1:
            raise ServerError(f"{self.url}: get_world_size says {self._http.shown(repr(found).encode())}")
        return count

    def serves(self, version: str) -> bool:
        """Whether it is ready to sample from these weights, as far as is known."""
        return self.version == version and not self.asleep

    def wants(self, version: str) -> bool:
        """Whether it answers, and must be given these weights first."""
        return self.version is not None and not self.serves(version)

    def lost(self, fault: str) -> None:
        """It is not to be asked before `look` has found it well."""
        self.version, self.fault = None, fault

    async def get(self, path: str, *, most: int) -> Any:
        return await self._exchange("GET", path, None, QUICK_S, most)

    async def post(self, path: str, body: Any = None, *, timeout_s: float, most: int = 1 << 20) -> Any:
        """The JSON reply, of at most `most` bytes, within `timeout_s` seconds. `path` may have a query.

        Raises RequestRefusedError where the server says no, RateLimitedError where it is full, else ServerError.
        """
        return await self._exchange("POST", path, body, timeout_s, most)

    async def close(self) -> None:
        await self._http.close()

    async def _exchange(self, method: str, path: str, body: Any, timeout_s: float, most: int) -> Any:
        content = None if body is None else json.dumps(body).encode()
        try:
            data = await self._http.send(method, path, content, timeout_s=timeout_s, most=most)
        except ServerError as error:
            error.args = (f"{self.url}/{path}: {error}",)
            raise
        try:
            return json.loads(data) if data else {}
        except (ValueError, RecursionError):
            raise ServerError(f"{self.url}/{path}: not JSON: {self._http.shown(data)}") from None
