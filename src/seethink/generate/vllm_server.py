"""One vLLM server over HTTP: JSON in, JSON out, or an error that says what went wrong.

The paths are those of vLLM 0.32: `/inference/v1/generate` (with `--enable-scale-out`), and those that stop the server,
change its weights and empty its caches (with `VLLM_SERVER_DEV_MODE=1`).
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any
from urllib.parse import urlsplit

from openai import DefaultAsyncHttpxClient

from seethink.core.errors import UserError
from seethink.endpoint.connection import first_cause
from seethink.endpoint.errors import RateLimitedError, RequestRefusedError, ServerError
from seethink.endpoint.limits import retry_after_s

QUICK_S = 5.0
"""Seconds for an answer that costs the server nothing."""
SHOWN_CHARS = 300
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
        self.failed_updates = 0
        """Weight updates in a row that it did not take."""
        self._key = _read_key(key_variable)
        headers = {"Accept-Encoding": "identity"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        # vLLM closes idle connections after 5 s, under the next request: each request has one of its own.
        headers["Connection"] = "close"
        # No proxy between ranks and their servers; certificates, which take a while to load, where there is TLS.
        self._http = DefaultAsyncHttpxClient(
            headers=headers,
            trust_env=False,
            follow_redirects=False,
            timeout=None,
            verify=url.startswith("https:"),
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
            raise ServerError(f"{self.url}: get_world_size says {self._shown(repr(found).encode())}")
        return count

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
        await self._http.aclose()

    async def _exchange(self, method: str, path: str, body: Any, timeout_s: float, most: int) -> Any:
        try:
            async with asyncio.timeout(timeout_s):
                status, head, data = await self._send(method, path, body, most)
        except TimeoutError:
            raise ServerError(f"{self.url}/{path}: no answer within {timeout_s:g} s") from None
        except ServerError:
            raise
        except Exception as error:  # the HTTP library's own, which differ between openai's releases
            cause = first_cause(error)
            raise ServerError(f"{self.url}: {type(cause).__name__}: {self._shown(str(cause).encode())}") from None
        if status in BUSY:
            raise RateLimitedError(retry_after_s(head))
        if status >= 300:
            said = f"{self.url}/{path}: HTTP {status}: {self._shown(data)}"
            raise RequestRefusedError(said, status=status) if status < 500 and status != 408 else ServerError(said)
        try:
            return json.loads(data) if data else {}
        except (ValueError, RecursionError):
            raise ServerError(f"{self.url}/{path}: not JSON: {self._shown(data)}") from None

    async def _send(self, method: str, path: str, body: Any, most: int) -> tuple[int, str | None, bytes]:
        """(status, Retry-After, body)"""
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if content is not None else {}
        data = bytearray()
        request = self._http.stream(method, f"{self.url}/{path}", content=content, headers=headers)
        async with request as response:
            async for chunk in response.aiter_bytes():
                data += chunk
                if len(data) > most:
                    raise ServerError(f"{self.url}/{path}: reply longer than {most:,} bytes")
            return response.status_code, response.headers.get("retry-after"), bytes(data)

    def _shown(self, data: bytes) -> str:
        """The beginning of a reply on one printable line, without the key."""
        text = data[: 8 * SHOWN_CHARS].decode("utf-8", "replace")
        line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
        return (line.replace(self._key, "[redacted]") if self._key else line)[:SHOWN_CHARS] or "(empty)"


def _read_key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key or not (key.isascii() and key.isprintable()):
        raise UserError(f"vllm.api_key_env names {variable}, which is not set, or holds no key of one line: export it")
    return key
