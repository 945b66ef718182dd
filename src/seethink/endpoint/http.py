"""One HTTP exchange with one server: the body of its reply, or an error that says what went wrong.

The server is not trusted to be brief, quick or well-formed: a body is read up to a cap and under a deadline, that of an
error up to a few kilobytes, redirects are refused, nothing is unpacked, and the API key is cut out of every message.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from seethink.core.errors import UserError
from seethink.endpoint.errors import RateLimitedError, RequestRefusedError, ServerError
from seethink.endpoint.limits import retry_after_s

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

_SHOWN_CHARS = 300
_ERROR_BODY_BYTES = 4096
"""More of an error is read than is shown, so that a key in it is found whole and cut out."""
_IDLE_S = 4.0
"""Seconds that a connection is kept for the next request. vLLM's server closes an idle one after 5, and a request that
was on its way by then is lost."""


class Http:
    """Exchanges with the server at one address. It belongs to the event loop that sends first."""

    def __init__(
        self,
        url: str,
        *,
        key_variable: str | None = None,
        setting: str = "api_key_env",
        busy: tuple[int, ...] = (429,),
        keeps: bool = True,
        proxies: bool = True,
    ) -> None:
        """`key_variable` names the variable that holds the API key, `setting` where it was named.

        `busy` are the statuses that ask to come back later; `keeps`: connections are kept for the next request;
        `proxies`: those of the environment are used. Raises UserError where the variable holds no usable key.
        """
        self.url = url
        self._key = _read_key(key_variable, setting)
        self._busy, self._keeps = busy, keeps
        self._proxy = _proxy_of(url) if proxies else None
        self._session: ClientSession | None = None

    async def send(self, method: str, path: str, content: bytes | None, *, timeout_s: float, most: int) -> bytes:
        """The body of the reply, at most `most` bytes, within `timeout_s` seconds.

        Raises RateLimitedError where the server is busy, RequestRefusedError where it says no, else ServerError.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await self._exchange(method, f"{self.url}/{path}", content, most)
        except TimeoutError:
            raise ServerError(f"no answer within {timeout_s:g} s") from None
        except (ServerError, RateLimitedError):
            raise
        except Exception as error:  # the library's and the system's own, which may hold the request and its key
            cause = _first_cause(error)
            raise ServerError(self.shown(f"{type(cause).__name__}: {cause}".encode())) from None

    async def close(self) -> None:
        """Close the sockets."""
        if self._session is not None:
            await self._session.close()

    def shown(self, body: bytes) -> str:
        """The start of a body as one printable line without the key."""
        text = body[:_ERROR_BODY_BYTES].decode("utf-8", "replace")
        printable = "".join(char if char.isprintable() else " " for char in text)
        line = " ".join(printable.split())
        return (line.replace(self._key, "[redacted]") if self._key else line)[:_SHOWN_CHARS] or "(empty)"

    async def _exchange(self, method: str, url: str, content: bytes | None, most: int) -> bytes:
        session = self._session or self._begin()
        async with session.request(method, url, data=content, allow_redirects=False, proxy=self._proxy) as response:
            if response.status >= 300:
                await self._refuse(response)
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > most:
                    raise ServerError(f"reply longer than {most:,} bytes")
        return bytes(body)

    async def _refuse(self, response: ClientResponse) -> None:
        """Turn an error status into our error without reading its body whole."""
        status, wait = response.status, retry_after_s(response.headers.get("retry-after"))
        if status in self._busy:
            raise RateLimitedError(wait)
        head = bytearray()
        async for chunk in response.content.iter_any():
            head += chunk
            if len(head) >= _ERROR_BODY_BYTES:
                break
        message = f"HTTP {status}: {self.shown(bytes(head))}"
        is_refusal = status < 500 and status != 408
        raise RequestRefusedError(message, status=status) if is_refusal else ServerError(message, wait)

    def _begin(self) -> ClientSession:
        """Imported and made with the first request: both take time, and the session needs a running loop."""
        from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

        kept: dict[str, Any] = {"keepalive_timeout": _IDLE_S} if self._keeps else {"force_close": True}
        self._session = ClientSession(
            connector=TCPConnector(limit=0, **kept),
            # A compressed body could unpack to any size.
            headers={
                "Accept-Encoding": "identity",
                "Content-Type": "application/json",
                "Authorization": f"Bearer {self._key or 'none'}",
            },
            auto_decompress=False,
            cookie_jar=DummyCookieJar(),
            timeout=ClientTimeout(total=None),
        )
        return self._session


def _read_key(variable: str | None, setting: str) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UserError(f"{setting} names {variable}, which is not set: export it")
    if not (key.isascii() and key.isprintable()):
        # The HTTP library would refuse it later in an error that quotes it.
        raise UserError(f"the API key in {variable} holds a line break or a character outside ASCII")
    return key


def _proxy_of(url: str) -> str | None:
    """The proxy that the environment names for an address."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)


def _first_cause(error: BaseException) -> BaseException:
    """The first cause: "connection refused" rather than "connection error"."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error
