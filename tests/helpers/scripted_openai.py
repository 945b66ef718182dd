"""An OpenAI-compatible server on loopback that does what a test's script says, faults included.

    with ScriptedOpenAI(lambda ask: says_no()) as server:
        ... VerifierConfig(base_url=server.base_url, model="judge")

The script is called once a request, from several threads, and returns a reply: a function that writes to the
connection. The greeting that a verifier sends before its first question is answered without the script.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from seethink.endpoint.batch import GREETING

Reply = Callable[[BaseHTTPRequestHandler], None]

EQUIVALENT = "VERDICT: EQUIVALENT"
DIFFERENT = "VERDICT: DIFFERENT"


@dataclass(frozen=True)
class Ask:
    """One request as the server saw it."""

    question: str
    gold: str
    extracted: str
    prompt: str
    """The user's message."""
    headers: dict[str, str]
    """Names in lower case."""
    body: dict[str, object]
    at: float
    """Monotonic time of arrival."""
    nth: int
    """1 for the first request with this question, gold and answer."""
    path: str = ""


def says(text: str, finish_reason: str = "stop", tokens: int | None = None, **fields: object) -> Reply:
    """A proper chat completion; `fields` go into its message, `tokens` into its usage."""
    message = {"role": "assistant", "content": text, **fields}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    payload = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
    if tokens is not None:
        payload["usage"] = {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": 5 + tokens}
    return sends(200, json.dumps(payload), {"Content-Type": "application/json"})


def says_yes() -> Reply:
    return says(f"They state the same value.\n{EQUIVALENT}")


def says_no() -> Reply:
    return says(DIFFERENT)


def sends(status: int, body: str, headers: dict[str, str] | None = None, declared: int | None = None) -> Reply:
    """Any response; `declared` is a Content-Length that may lie."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        data = body.encode()
        handler.send_response(status)
        for name, value in {"Content-Length": str(declared or len(data)), **(headers or {})}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)
        if declared is not None:
            handler.close_connection = True

    return reply


def sends_half() -> Reply:
    """The connection closes in the middle of the body."""
    return sends(200, '{"choices": [{"message": {"content": "VERDICT: EQ', declared=5000)


def sends_endlessly(megabytes: float, status: int = 200, sent: list[int] | None = None) -> Reply:
    """A body of so many MB in chunks; appends the bytes written before the client hung up to `sent`."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(int(megabytes * 2**20)))
        handler.end_headers()
        written = 0
        try:
            while written < megabytes * 2**20:
                written += handler.wfile.write(b"A" * 65536)
        finally:
            if sent is not None:
                sent.append(written)

    return reply


def hangs(seconds: float = 30.0) -> Reply:
    """Keeps the socket open and says nothing, until the server stops."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.server.stopping.wait(seconds)  # type: ignore[attr-defined]
        handler.close_connection = True

    return reply


def drips(seconds: float = 30.0) -> Reply:
    """Sends a byte now and then: no single read times out."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        end = time.monotonic() + seconds
        while time.monotonic() < end and not handler.server.stopping.wait(0.1):  # type: ignore[attr-defined]
            handler.wfile.write(b" ")

    return reply


def after(seconds: float, reply: Reply) -> Reply:
    """The reply, later."""

    def late(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(seconds)
        reply(handler)

    return late


class Concurrency:
    """Counts replies in the making. One that has begun to be sent no longer counts: its asker may ask again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = self.most = 0

    def counted(self, seconds: float, reply: Reply) -> Reply:
        """The reply, `seconds` later, counted until then."""

        def late(handler: BaseHTTPRequestHandler) -> None:
            with self._lock:
                self._now += 1
                self.most = max(self.most, self._now)
            time.sleep(seconds)
            with self._lock:
                self._now -= 1
            reply(handler)

        return late


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], owner: ScriptedOpenAI) -> None:
        self.owner = owner
        self.stopping = threading.Event()
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every reply waits 40 ms for an acknowledgement
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.stopping.is_set():
            self.close_connection = True
            return
        self.server.owner.answer(self, body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class ScriptedOpenAI:
    """The server. `stop()` and `start()` take it down and up again on the same port."""

    def __init__(self, script: Callable[[Ask], Reply]) -> None:
        self.script = script
        self.asks: list[Ask] = []
        """All requests but greetings, in order of arrival."""
        self.greetings = 0
        self._lock = threading.Lock()
        self._port = 0
        self._server: _Server | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def __enter__(self) -> ScriptedOpenAI:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self._server = _Server(("127.0.0.1", self._port), self)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stopping.set()
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, handler: BaseHTTPRequestHandler, body: dict[str, object]) -> None:
        """Record the request and play the script's reply."""
        prompt = str(body["messages"][-1]["content"]) if "messages" in body else str(body["documents"])  # type: ignore[index]
        # Other prompts than the reward verifier's have other fields; the script sees them whole.
        names, graded = ("question", "reference", "candidate"), " candidate>" in prompt
        fields = {name: _between(prompt, name) if graded else "" for name in names}
        with self._lock:
            is_chat = handler.path.endswith("/chat/completions")
            if fields["question"] == "What is 1 + 1?" or (prompt == GREETING and is_chat):
                self.greetings += 1
                reply = says_no()
            else:
                headers = {name.lower(): value for name, value in handler.headers.items()}
                ask = self._record(fields, prompt, headers, body, handler.path)
                reply = self.script(ask)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            reply(handler)

    def _record(
        self, fields: dict[str, str], prompt: str, headers: dict[str, str], body: dict[str, object], path: str
    ) -> Ask:
        data = (fields["question"], fields["reference"], fields["candidate"])
        nth = 1 + sum((ask.question, ask.gold, ask.extracted) == data for ask in self.asks)
        ask = Ask(*data, prompt=prompt, headers=headers, body=body, at=time.monotonic(), nth=nth, path=path)
        self.asks.append(ask)
        return ask


def _between(prompt: str, name: str) -> str:
    match = re.search(rf"<([0-9a-f]{{16}}) {name}>\n(.*?)\n</\1 {name}>", prompt, re.DOTALL)
    assert match, f"no {name} in {prompt!r}"
    return match[2]
