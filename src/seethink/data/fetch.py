"""Fetches images from http(s) addresses (`data.allow_urls`): only public ones, bounded in size and time.

A data set is untrusted text. An address in it must not make this machine talk to its own services, its network or a
cloud's metadata server, nor may a redirect or a name that resolves to one. So the check is made at the moment of
connecting, on the address that is connected to.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from seethink.core.errors import UserError

MAX_BYTES = 50_000_000
TIMEOUT_S = 10.0
DEADLINE_S = 60.0
_CHUNK = 1 << 16


class FetchError(UserError):
    """An address that was not fetched, and why."""


def fetch(url: str, *, max_bytes: int = MAX_BYTES, deadline_s: float = DEADLINE_S) -> bytes:
    """The body behind an http or https address. Raises FetchError."""
    shown = repr(url[:120])
    parts = _split(url)
    if parts is None or parts.scheme not in ("http", "https"):
        raise FetchError(f"{shown} is not an http or https address")
    if parts.username or parts.password:
        raise FetchError(f"the address of {parts.hostname} carries a password; none is sent")
    until = time.monotonic() + deadline_s
    try:
        with _OPENER.open(url, timeout=TIMEOUT_S) as answer:
            return _read(answer, shown, max_bytes, until)
    except FetchError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, FetchError):
            raise reason from None
        status = f"{error.code} " if isinstance(error, urllib.error.HTTPError) else ""
        raise FetchError(f"{shown} could not be fetched: {status}{str(reason)[:120]}") from None


def _split(url: str) -> urllib.parse.SplitResult | None:
    try:
        return urllib.parse.urlsplit(url)
    except ValueError:
        return None


def _read(answer: Any, shown: str, max_bytes: int, until: float) -> bytes:
    body = bytearray()
    while chunk := answer.read1(_CHUNK):
        body += chunk
        if len(body) > max_bytes:
            raise FetchError(f"{shown} is over {max_bytes:,} bytes")
        if time.monotonic() > until:
            raise FetchError(f"{shown} did not come within {DEADLINE_S:.0f} s")
    return bytes(body)


def require_global(address: str) -> None:
    """Raises FetchError for an IP address outside the public internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    meant: list[ipaddress.IPv4Address | ipaddress.IPv6Address] = [ip]
    if isinstance(ip, ipaddress.IPv6Address):
        # Three forms of IPv6 address carry the IPv4 address at which the connection ends.
        nat64 = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None
        meant += [carried for carried in (ip.sixtofour, nat64) if carried is not None]
        meant = [ip.ipv4_mapped] if ip.ipv4_mapped is not None else meant
    if any(not place.is_global or place.is_multicast for place in meant):
        raise FetchError(f"the address leads to {ip}, which is not of the public internet; it was not fetched")


_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def _connect(address: tuple[str, int], timeout: Any = None, source_address: Any = None) -> socket.socket:
    """socket.create_connection to public addresses only: every address of a name must be public."""
    found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
    for *_, place in found:
        require_global(str(place[0]))
    return socket.create_connection((str(found[0][4][0]), address[1]), timeout, source_address)


class _Http(http.client.HTTPConnection):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._create_connection = _connect


class _Https(http.client.HTTPSConnection):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._create_connection = _connect


class _HttpHandler(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(_Http, request)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(_Https, request)


def _opener() -> urllib.request.OpenerDirector:
    """An opener for http and https without a proxy, which would be a private address that fetches for strangers."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        _HttpHandler(),
        _HttpsHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


_OPENER = _opener()
