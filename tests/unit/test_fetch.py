"""Images by address: fetched only where asked, never from inside, bounded in time and size."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.pictures import encoded, picture, picture_folder
from seethink.data import fetch
from seethink.data.images import ImageError, ImageRef, check_image, open_image


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return picture_folder(tmp_path)


class _Server(http.server.BaseHTTPRequestHandler):
    """Pictures and traps on loopback."""

    def do_GET(self) -> None:
        port = self.server.server_address[1]
        pages: dict[str, tuple[int, dict[str, str], bytes]] = {
            "/a.png": (200, {}, encoded(picture())),
            "/text": (200, {}, b"hello"),
            "/large": (200, {}, bytes(fetch.MAX_BYTES // 500)),
            "/moved": (302, {"Location": "/a.png"}, b""),
            "/inside": (302, {"Location": f"http://127.0.0.2:{port}/a.png"}, b""),
            "/file": (302, {"Location": "file:///etc/passwd"}, b""),
            "/ftp": (302, {"Location": "ftp://127.0.0.1/x"}, b""),
            "/loop": (302, {"Location": "/loop"}, b""),
        }
        status, headers, body = pages.get(self.path, (404, {}, b""))
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_address[1]}"
    made.shutdown()
    made.server_close()


def test_loopback_is_never_fetched(server: str, root: Path) -> None:
    for address in (
        server,
        server.replace("127.0.0.1", "localhost"),
        server.replace("127.0.0.1", "[::ffff:127.0.0.1]"),
    ):
        with pytest.raises(ImageError, match=r"not of the public internet|could not be fetched") as error:
            open_image(f"{address}/a.png", root, allow_urls=True)
        assert error.value.reason == "image_address"
    with pytest.raises(ImageError, match=r"set data\.allow_urls"):
        open_image(f"{server}/a.png", root)


def only_home(address: str) -> None:
    """As if 127.0.0.1 were a public address; every other stays what it is."""
    if address != "127.0.0.1":
        raise fetch.FetchError(f"the address leads to {address}, which is not of the public internet")


def test_fetching(server: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "require_global", only_home)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for path in ("a.png", "moved"):
        ref = check_image(f"{server}/{path}", root, allow_urls=True)
        assert isinstance(ref, ImageRef)
        assert ref.load().tobytes() == picture().tobytes()
    with pytest.raises(fetch.FetchError, match="is over 1,000 bytes"):
        fetch.fetch(f"{server}/large", max_bytes=1000)
    with pytest.raises(fetch.FetchError, match="did not come within"):
        fetch.fetch(f"{server}/large", deadline_s=-1)
    for path, said in (
        ("inside", "leads to 127.0.0.2"),
        ("file", "could not be fetched"),
        ("ftp", "could not be fetched"),
        ("loop", "could not be fetched"),
        ("none", "could not be fetched: .*404"),
        ("text", "is not one of PNG"),
    ):
        with pytest.raises(ImageError, match=said):
            open_image(f"{server}/{path}", root, allow_urls=True)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/a",
        "file:///etc/passwd",
        "s3://b/k",
        "http://user:pass@example.org/a",
        "http://[::1",
        "http://exa mple/a",
        "http:///a",
        "http://169.254.169.254/latest",
        "http://10.0.0.1/a",
        "http://0x7f000001/a",
        "http://0/a",
        "http://\N{SNOWMAN}.invalid/a",
    ],
)
def test_addresses_that_are_refused(url: str) -> None:
    with pytest.raises(fetch.FetchError):
        fetch.fetch(url)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff0e::1", "::ffff:127.0.0.1",
        "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a00:1::1",
    ],
)  # fmt: skip
def test_private_addresses(address: str) -> None:
    with pytest.raises(fetch.FetchError, match="not of the public internet"):
        fetch.require_global(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses(address: str) -> None:
    fetch.require_global(address)
