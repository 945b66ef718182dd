"""`seethink coldstart` on many questions with pictures, with a scripted teacher on loopback.

    python benchmarks/coldstart.py --questions 20000 --latency 0.25 --concurrency 32 --work runs/bench-coldstart

The teacher is a process of its own that answers each request after `--latency` seconds: three in four right, others
wrong, looping or in another script. The bound is requests x latency / concurrency, what the teacher alone would take.
Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

SIDE = 224
_PROBLEM = re.compile(rb"Problem (\d+)")
_SEED = re.compile(rb'"seed": ?(\d+)')
_LENGTH = re.compile(rb"content-length: *(\d+)", re.I)


def make_questions(folder: Path, count: int) -> Path:
    """A JSONL file and a JPEG of noisy fields per question (about 15 KB)."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "questions.jsonl"
    with path.open("w") as file:
        for number in range(count):
            rng = np.random.default_rng([9, number])
            fields = rng.integers(0, 256, (7, 7, 3), dtype=np.uint8)
            large = np.asarray(Image.fromarray(fields).resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.int16)
            noisy = np.clip(large + rng.integers(-20, 21, (SIDE, SIDE, 1)), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / f"{number}.jpg", quality=85)
            row: dict[str, Any] = {
                "id": f"p{number}",
                "question": f"Problem {number}: how much is it, given what the picture shows in its fields?",
                "answer": str(500_000 + number),
                "image": f"{number}.jpg",
                "domain": ("maths", "physics", "chemistry", "biology")[number % 4],
            }
            file.write(json.dumps(row) + "\n")
    return path


def trace(number: int, seed: int) -> str:
    words = np.random.default_rng([number, seed]).integers(0, 5000, 300)
    thought = " ".join(f"w{word}" for word in words)
    kind = (number + seed) % 8
    if kind == 0:
        return f"<think>{thought}</think>The answer is {number}."
    if kind == 1:
        return f"<think>{thought}{' Wait, let me look again.' * 120}</think>The answer is {500_000 + number}."
    return f"<think>{thought}</think>The answer is {500_000 + number}."


class Teacher:
    """Answers in the order of arrival, each after the same time."""

    def __init__(self, latency: float) -> None:
        self._latency = latency
        self.requests = self.now = self.most = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                found = _LENGTH.search(head)
                body = await reader.readexactly(int(found[1]) if found else 0)
                await self._answer(head, body, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _answer(self, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        if head.startswith(b"GET"):
            said: dict[str, Any] = {"requests": self.requests, "most": self.most}
        else:
            problem, seed = _PROBLEM.search(body), _SEED.search(body)
            text = "OK"
            if problem is not None:
                self.requests += 1
                self.now += 1
                self.most = max(self.most, self.now)
                await asyncio.sleep(self._latency)
                self.now -= 1
                text = trace(int(problem[1]), int(seed[1]) if seed else 0)
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            said = {"choices": [choice], "usage": {"prompt_tokens": 200, "completion_tokens": len(text) // 4}}
        data = json.dumps(said).encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data) + data
        )
        await writer.drain()


def run_teacher(latency: float, port: Any) -> None:
    async def main() -> None:
        server = await asyncio.start_server(Teacher(latency).serve, "127.0.0.1", 0, limit=1 << 22)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


def run(words: list[str]) -> dict[str, float]:
    """Seconds, CPU seconds and largest resident memory of one call."""
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "seethink", "coldstart", *words], stdout=subprocess.DEVNULL)
    watched, most, cpu = psutil.Process(process.pid), 0, 0.0
    done = threading.Event()
    threading.Thread(target=lambda: (process.wait(), done.set()), daemon=True).start()
    while not done.wait(0.2):
        try:
            most = max(most, watched.memory_info().rss)
            cpu = sum(watched.cpu_times()[:2])
        except psutil.Error:
            break
    process.wait()
    seconds = time.monotonic() - started
    return {
        "seconds": round(seconds, 1),
        "cpu_s": round(cpu, 1),
        "memory_mb": round(most / 2**20),
        "exit": process.returncode,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=20_000)
    parser.add_argument("--latency", type=float, default=0.25, help="Seconds of one answer.")
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--work", type=Path, default=Path("runs/bench-coldstart"))
    options = parser.parse_args()
    source = options.work / "questions" / "questions.jsonl"
    if not source.exists() or sum(1 for _ in source.open()) != options.questions:
        make_questions(source.parent, options.questions)
    out = options.work / "out"
    shutil.rmtree(out, ignore_errors=True)
    near, far = multiprocessing.Pipe()
    teacher = multiprocessing.Process(target=run_teacher, args=(options.latency, far), daemon=True)
    teacher.start()
    address = f"http://127.0.0.1:{near.recv()}/v1"
    words = [str(source), "-o", str(out), "--teacher", address, "--model", "scripted"]
    words.append(f"teacher.max_concurrency={options.concurrency}")
    prepared = run([*words, "--dry-run"])
    collected = run(words)
    again = run([*words[:3], "--refilter", "sft.max_repetition=0.4"])
    with urllib.request.urlopen(address) as reply:
        seen = json.load(reply)
    teacher.terminate()
    bound = seen["requests"] * options.latency / options.concurrency
    found = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} threads",
        "questions": options.questions,
        "requests": seen["requests"],
        "most_at_once": seen["most"],
        "teacher_bound_s": round(bound, 1),
        "prepare": prepared,
        "collect_grade_score_select": collected,
        "refilter": again,
        "funnel": json.loads((out / "data" / "funnel.json").read_text())["questions"],
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
