"""How fast `seethink eval --bench` itself is: grading and scoring stored answers, and keeping a server busy.

    python benchmarks/evaluation.py score --items 26000 --runs 5
    python benchmarks/evaluation.py server --requests 20000 --concurrency 64 --seconds 0.05

`score` writes that many stored answers (thinking of about 4,000 characters and a boxed letter) of a benchmark of its
own, then grades and scores them as --regrade does. `server` asks a scripted server in another process, whose replies
take as long as stated, and reports which share of the time its places were taken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import re
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, cast

from seethink.config.endpoint import EndpointConfig
from seethink.eval.bench import chance
from seethink.eval.bench.answerers import Server
from seethink.eval.bench.benchmark import Benchmark, Item
from seethink.eval.bench.composite import by_item
from seethink.eval.bench.generations import Generation, Settings
from seethink.eval.bench.grades import BenchGrader
from seethink.eval.bench.grading import by_rule
from seethink.eval.bench.load import Loaded
from seethink.eval.bench.runner import BenchRun, generations_path
from seethink.eval.bench.sources import Source
from seethink.eval.bench.statistics import bench_score
from seethink.runs.keyed_lines import KeyedLines

SOURCE = Source(kind="json", name="made.json", read=lambda row: None)
BENCH = Benchmark(
    name="made", title="made", version="1", sources=(SOURCE,), expect={}, prompt="", grade=by_rule, score=by_item,
    chance=chance.uniform, paper=float("nan"), licence="",
)  # fmt: skip
THOUGHT = "The figure shows two triangles, so the angle at A is 30 degrees and the side is 4. Wait, let me check. "


def made_items(count: int) -> tuple[Item, ...]:
    """Four of five are multiple choice, the others open with numbers and LaTeX."""
    rng = random.Random(0)
    open_golds = ("12", "3.5", "\\frac{3}{4}", "2\\sqrt{3}")
    return tuple(
        Item(str(n), f"Question {n}", rng.choice(open_golds), category="open")
        if n % 5 == 0
        else Item(str(n), f"Question {n}", rng.choice("ABCD"), choices=("12 cm", "8 cm", "5 cm", "none"), category="mc")
        for n in range(count)
    )


def score(items: int, runs: int) -> None:
    made = made_items(items)
    loaded = Loaded(made, tuple(range(items)), SOURCE, (), items)
    with tempfile.TemporaryDirectory() as folder:
        _store(Path(folder), made, runs)
        start = time.monotonic()
        run = BenchRun(BENCH, loaded, Settings(runs=runs), Path(folder), BenchGrader())
        ran = run.regrade()
        result = bench_score(BENCH, made, ran.graded, whole=True)
        seconds = time.monotonic() - start
        run.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{items:,} items x {runs} runs graded and scored in {seconds:.1f} s; peak {peak:,.0f} MB; "
          f"score {100 * result.score:.1f} ± {100 * result.stderr:.1f}")  # fmt: skip


def _store(folder: Path, items: tuple[Item, ...], runs: int) -> None:
    rng = random.Random(1)
    for number in range(runs):
        store = KeyedLines(generations_path(folder, "made", number))
        for start in range(0, len(items), 500):
            part = []
            for item in items[start : start + 500]:
                said = item.gold if rng.random() < 0.6 else rng.choice(("A", "B", "7", "\\frac{1}{3}"))
                text = f"<think>{THOUGHT * 40}</think>\n{THOUGHT}\nThe answer is \\boxed{{{said}}}."
                part.append(Generation(f"{item.id}/{number}", item.id, number, text, "", "stop", 1200).record())
            store.append(part)
        store.close()


class _Busy:
    """The places of a server, and how long they were taken."""

    def __init__(self) -> None:
        self.now, self.taken, self.served = 0, 0.0, 0
        self.began = self.last = 0.0

    def count(self, change: int) -> None:
        now = time.monotonic()
        self.began = self.began or now
        self.taken += self.now * (now - self.last) if self.last else 0
        self.last, self.now = now, self.now + change
        self.served += change < 0


class _Connection(asyncio.Protocol):
    """One connection of the server: each request is answered after the same time. As light as Python allows, as the
    machine's other processors are the client's."""

    def __init__(self, busy: _Busy, seconds: float) -> None:
        self._busy, self._seconds, self._buffer, self._length = busy, seconds, bytearray(), -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._length < 0 and (end := self._buffer.find(b"\r\n\r\n")) > 0:
            found = _LENGTH.search(self._buffer, 0, end)
            self._length = end + 4 + (int(found[1]) if found else 0)
        if 0 <= self._length <= len(self._buffer):
            self._buffer, self._length = bytearray(), -1
            self._busy.count(1)
            asyncio.get_running_loop().call_later(self._seconds, self._reply)

    def _reply(self) -> None:
        self._busy.count(-1)
        self._transport.write(_REPLY)


_LENGTH = re.compile(rb"content-length: *(\d+)", re.I)
_BODY = json.dumps({
    "id": "x", "object": "chat.completion", "created": 0, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "\\boxed{A}"}}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9},
}).encode()  # fmt: skip
_REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY)


def _serve(seconds: float, pipe: Any) -> None:
    async def main() -> None:
        busy, before = _Busy(), time.process_time()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(busy, seconds), "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await asyncio.to_thread(pipe.recv)
        cpu = (time.process_time() - before) / max(1, busy.served)
        pipe.send((busy.taken / max(1e-9, busy.last - busy.began), busy.served, busy.last - busy.began, cpu))
        server.close()

    asyncio.run(main())


def server(requests: int, concurrency: int, seconds: float) -> None:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(seconds, there))
    process.start()
    config = EndpointConfig(base_url=f"http://127.0.0.1:{here.recv()}/v1", model="m", max_concurrency=concurrency)
    items = made_items(requests)
    loaded = Loaded(items, tuple(range(requests)), SOURCE, (), requests)
    with tempfile.TemporaryDirectory() as folder:
        run = BenchRun(BENCH, loaded, Settings(runs=1), Path(folder), BenchGrader())
        start, cpu = time.monotonic(), time.process_time()
        answerer = Server(config)
        ran = run.run(answerer, answerer.identity)
        wall, cpu = time.monotonic() - start, time.process_time() - cpu
        run.close()
    here.send("stop")
    taken, served, span, server_cpu = here.recv()
    process.join()
    missing = sum(one is None for own in ran.graded for one in own)
    share, rate = 100 * taken / concurrency, served / span
    print(f"{served:,} replies of {1000 * seconds:.0f} ms at concurrency {concurrency}, {rate:,.0f} a second")
    print(f"on average {taken:.1f} of {concurrency} places taken ({share:.1f}%)")
    own, other = f"{1000 * cpu / requests:.2f} ms (keys and grading included)", f"{1000 * server_cpu:.2f} ms"
    print(f"CPU a request: client {own}, server {other}; {wall:.1f} s in all; {missing} answers missing")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("score", "server"))
    parser.add_argument("--items", type=int, default=26_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=0.05)
    words = parser.parse_args()
    if words.what == "score":
        score(words.items, words.runs)
    else:
        server(words.requests, words.concurrency, words.seconds)


if __name__ == "__main__":
    sys.exit(main())
