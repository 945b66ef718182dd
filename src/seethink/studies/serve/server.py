"""An OpenAI-compatible server for one model, to try a verifier, teacher or benchmark against a model of one's own.

It is for trying, on loopback: one decoder, no continuous batching. For load, serve an export with vLLM.
"""

from __future__ import annotations

import hmac
import json
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

from seethink.core.console import say
from seethink.core.redact import visible
from seethink.core.types import Completion
from seethink.models.load import LoadedModel
from seethink.rewards.format import CLOSE, OPEN
from seethink.studies.chat.stream import TokenStream
from seethink.studies.serve.engine import Engine, Job
from seethink.studies.serve.requests import Asked, RequestError, read_request

MOST_BYTES = 64 << 20
"""Of a request's body."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class ModelServer(ThreadingHTTPServer):
    """`with ModelServer(...) as server: server.serve_forever()`."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], loaded: LoadedModel, *, max_new_tokens: int, key: str | None) -> None:
        """`key`: what clients must send as their API key; None lets everybody in."""
        self.engine = Engine(loaded, max_new_tokens=max_new_tokens)
        self.model, self.key = Path(loaded.source).name, key
        super().__init__(address, _Handler)

    def server_close(self) -> None:
        super().server_close()
        self.engine.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no trouble of ours."""


def split_thought(text: str) -> tuple[str, str]:
    """(thought, answer) of a response; a thought that never ends has no answer.

    >>> split_thought("<think>6 times 7</think> 42"), split_thought("42")
    (('6 times 7', ' 42'), ('', '42'))
    """
    before, opened, rest = text.partition(OPEN)
    if not opened or before.strip():
        return "", text
    thought, _, answer = rest.partition(CLOSE)
    return thought, answer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ModelServer

    def do_GET(self) -> None:
        if self.path == "/health":
            self._send(200, {"status": "ok"})
        elif not self._is_allowed():
            self._error(401, "the API key is missing or wrong")
        elif self.path == "/v1/models":
            about = {"id": self.server.model, "object": "model", "created": 0, "owned_by": "seethink"}
            self._send(200, {"object": "list", "data": [about]})
        else:
            self._error(404, f"no {self.path[:80]}; there are /v1/chat/completions, /v1/models and /health")

    def do_POST(self) -> None:
        try:
            if not self._is_allowed():
                raise RequestError("the API key is missing or wrong", 401)
            if self.path != "/v1/chat/completions":
                raise RequestError("only /v1/chat/completions takes requests", 404)
            asked = read_request(self._body())
            if asked.request.stream:
                self._stream(asked)
            else:
                job = self.server.engine.submit(asked)
                if (error := job.answer.exception()) is not None:
                    raise RequestError(f"the decoder failed: {type(error).__name__}", 500)
                self._send(200, self._completion(job, asked, job.answer.result()))
        except RequestError as error:
            self._error(error.status, str(error))

    def log_message(self, format: str, *args: Any) -> None:
        say(visible(f"{self.log_date_time_string()} {format % args}"), "dim")

    # ---- in

    def _is_allowed(self) -> bool:
        key = self.server.key
        given = self.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        return key is None or hmac.compare_digest(given.encode("utf-8", "replace"), key.encode())

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit():
            raise RequestError("a request needs a Content-Length", 411)
        if int(length) > MOST_BYTES:
            self.close_connection = True
            raise RequestError(f"the request has {int(length):,} bytes, more than {MOST_BYTES:,}", 413)
        return self.rfile.read(int(length))

    # ---- out

    def _error(self, status: int, message: str) -> None:
        self._send(status, {"error": {"message": message, "type": "invalid_request_error", "code": status}})

    def _send(self, status: int, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _completion(self, job: Job, asked: Asked, completions: list[Completion]) -> dict[str, Any]:
        written = sum(len(one.token_ids) for one in completions)
        read = len(job.prompt.input_ids)
        usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
        choices = [self._choice(place, one, asked) for place, one in enumerate(completions)]
        return self._about("chat.completion") | {"choices": choices, "usage": usage}

    def _choice(self, place: int, one: Completion, asked: Asked) -> dict[str, Any]:
        thought, answer = split_thought(one.text)
        message: dict[str, Any] = {"role": "assistant", "content": answer}
        if thought:
            message["reasoning_content"] = thought
        choice = {"index": place, "message": message, "finish_reason": "length" if one.truncated else "stop"}
        if asked.request.logprobs:
            texts = self.server.engine.loaded.chat.token_texts(one.token_ids)
            pairs = zip(texts, one.generator_logprobs, strict=True)
            content: list[dict[str, Any]] = [
                {"token": t, "logprob": p, "bytes": None, "top_logprobs": []} for t, p in pairs
            ]
            choice["logprobs"] = {"content": content}
        return choice

    def _about(self, kind: str) -> dict[str, Any]:
        name = f"chatcmpl-{uuid.uuid4().hex}"
        return {"id": name, "object": kind, "created": int(time.time()), "model": self.server.model}

    def _stream(self, asked: Asked) -> None:
        pieces: Queue[str | None] = Queue()
        shown = TokenStream(self.server.engine.loaded, lambda text, _: pieces.put(text))
        job = self.server.engine.submit(asked, shown)

        def end(_: object) -> None:
            shown.end()
            pieces.put(None)

        job.answer.add_done_callback(end)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        about = self._about("chat.completion.chunk")
        for delta in deltas(iter(pieces.get, None)):
            self._event(about | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        ended = "length" if job.answer.result()[0].truncated else "stop"
        self._event(about | {"choices": [{"index": 0, "delta": {}, "finish_reason": ended}]})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, content: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(content)}\n\n".encode())
        self.wfile.flush()


def deltas(pieces: Iterator[str | None]) -> Iterator[dict[str, str]]:
    """What each piece adds to thought or answer. Text that may yet become a tag waits."""
    held, thinking = "", False
    for piece in pieces:
        held += piece or ""
        while (tag := CLOSE if thinking else OPEN) in held:
            before, _, held = held.partition(tag)
            if before:
                yield _delta(before, thinking)
            thinking = not thinking
        ready = len(held) - _beginning(held, tag)
        if ready:
            yield _delta(held[:ready], thinking)
            held = held[ready:]
    if held:
        yield _delta(held, thinking)


def _delta(text: str, thinking: bool) -> dict[str, str]:
    return {"reasoning_content" if thinking else "content": text}


def _beginning(text: str, tag: str) -> int:
    """Characters at the end of a text that begin the tag."""
    return next((n for n in range(min(len(tag) - 1, len(text)), 0, -1) if text.endswith(tag[:n])), 0)
