"""Streams a data set larger than memory through training's own data path: memory, seconds, the order after a kill.

The rows are a mixture: one half Parquet, the other WebDataset shards, each row with a picture of noise of its own,
which no format makes smaller. Three processes read them as RL does (`load_training`, `PromptSource`) for a nano model
that is not trained: one to the end of the epoch; one that is killed with SIGKILL in the midst of it; one that goes on
from the number of steps that the killed one had finished. Every step writes the ids of its batch and a hash of its
pixels, and the lines of the last two must be those of the first. The processor is slower than all the rest together:
with `--processed-every N`, every N-th step goes through it, and the others read and decode their pictures alone.

    python benchmarks/streaming.py --rows 100000 --folder /tmp/streaming
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import os
import platform
import resource
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

BATCH = 64
SIDE = 84
PER_SHARD = 5000
PER_GROUP = 500
MEMORY_MB = 512
"""`data.memory_mb` of the run."""


def row(number: int) -> dict[str, Any]:
    a, b = number % 90, number % 7
    return {"id": f"r{number}", "prompt": f"what is {a} plus {b}?", "answer": str(a + b)}


def picture(number: int) -> bytes:
    """A PNG of noise: 21 kB."""
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng([7, number]).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def make(folder: Path, rows: int) -> None:
    """Write the first half of the rows as Parquet, the second as shards."""
    import pyarrow as pa
    import pyarrow.parquet

    step = min(PER_SHARD, max(1, rows // 4))
    for start in range(0, rows, step):
        numbers = range(start, min(start + step, rows))
        if start < rows // 2:
            path = folder / "tables" / f"train-{start:07d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            table = [{**row(n), "images": [{"bytes": picture(n), "path": None}]} for n in numbers]
            pyarrow.parquet.write_table(pa.Table.from_pylist(table), path, row_group_size=PER_GROUP)
            continue
        path = folder / "shards" / f"train-{start:07d}.tar"
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as tar:
            for n in numbers:
                for kind, content in (("png", picture(n)), ("json", json.dumps(row(n)).encode())):
                    entry = tarfile.TarInfo(f"{n:07d}.{kind}")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))


def stream(folder: Path, log: Path, first: int, last: int | None, every: int) -> None:
    """Steps `first` to `last` of the first epoch, one line each; the last line says what it took."""
    from seethink.config import make_recipe
    from seethink.data.mixture import Weights, load_training, tally
    from seethink.data.quarantine import Quarantine
    from seethink.models.load import load_recipe_model
    from seethink.rewards.golds import read_gold
    from seethink.rl.rollout import PromptSource

    data = {"mixture": [{"source": str(folder / name)} for name in ("tables", "shards")], "memory_mb": MEMORY_MB}
    recipe = make_recipe({"name": "streaming", "stage": "grpo", "out": str(folder / "run"), "data": data})
    chat = load_recipe_model(recipe).chat
    base, started = resident(), time.perf_counter()
    samples = load_training(recipe.data, recipe.seed, chat, Quarantine(), golds=read_gold, graded=True)
    loaded, weights = time.perf_counter(), Weights.of(recipe.data)
    source = PromptSource(samples, chat, recipe.seed, weights, kept_bytes=recipe.data.processed_bytes)
    draws = weights.draws(samples, recipe.seed)
    about = {"rows": len(samples), "imports_mb": base, "loaded_mb": resident(), "load_s": round(loaded - started, 1)}
    about["mixture"] = weights.lines(tally(samples))
    with log.open("a", encoding="utf-8") as lines:
        for step in range(first, math.ceil(draws.length / BATCH) if last is None else last):
            digest = hashlib.sha256()
            drawn = [samples[place] for place in draws.take(step * BATCH, BATCH)]
            if step % every == 0:
                source.position = step * BATCH
                prompts = source.take(BATCH)
                assert [prompt.sample for prompt in prompts] == drawn
                for tensor in (prompt.mm_kwargs[name] for prompt in prompts for name in sorted(prompt.mm_kwargs)):
                    digest.update(tensor.numpy().tobytes())
            else:
                for picture in (picture for sample in drawn for picture in sample.pictures()):
                    digest.update(picture.tobytes())
            ids = hashlib.sha256(" ".join(sample.id for sample in drawn).encode()).hexdigest()
            print(json.dumps({"step": step, "ids": ids, "pixels": digest.hexdigest()}), file=lines, flush=True)
        about["stream_s"] = round(time.perf_counter() - loaded, 1)
        about["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        about["cpu_s"] = round(time.process_time())
        print(json.dumps(about), file=lines)


def resident() -> int:
    """MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


def steps_of(log: Path) -> list[dict[str, Any]]:
    """The finished steps of a log; a torn last line is none."""
    whole = log.read_text(encoding="utf-8").rpartition("\n")[0].splitlines() if log.is_file() else []
    return [line for line in map(json.loads, whole) if "step" in line]


def child(folder: Path, log: Path, first: int, last: int | None, every: int) -> subprocess.Popen[bytes]:
    words = [sys.executable, __file__, "--folder", str(folder), "--log", str(log), "--first", str(first)]
    words += ["--processed-every", str(every)]
    return subprocess.Popen(words + (["--last", str(last)] if last is not None else []))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--after-kill", type=int, default=None, help="steps of the third process; default: to the end")
    parser.add_argument("--processed-every", type=int, default=1, help="steps; all by default")
    parser.add_argument("--log", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--last", type=int, default=None, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.log is not None:
        stream(words.folder, words.log, words.first, words.last, words.processed_every)
        return
    started = time.perf_counter()
    if not (words.folder / "shards").is_dir():
        make(words.folder, words.rows)
    made = round(time.perf_counter() - started, 1)
    stored = sum(file.stat().st_size for file in words.folder.rglob("train-*"))
    whole, killed = words.folder / "whole.jsonl", words.folder / "killed.jsonl"
    for log in (whole, killed):
        log.unlink(missing_ok=True)
    if child(words.folder, whole, 0, None, words.processed_every).wait():
        sys.exit("the first process failed")
    expected, about = steps_of(whole), json.loads(whole.read_text(encoding="utf-8").splitlines()[-1])
    victim = child(words.folder, killed, 0, None, words.processed_every)
    while len(steps_of(killed)) < min(50, len(expected) // 2) and victim.poll() is None:
        time.sleep(0.2)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    done = steps_of(killed)
    killed.write_text("".join(json.dumps(line) + "\n" for line in done), encoding="utf-8")
    last = None if words.after_kill is None else min(len(expected), len(done) + words.after_kill)
    if child(words.folder, killed, len(done), last, words.processed_every).wait():
        sys.exit("the third process failed")
    found = steps_of(killed)
    about |= {"made_s": made, "stored_mb": stored >> 20, "killed_after": len(done), "compared": len(found)}
    about |= {"steps": len(expected), "same_order_and_pixels": found == expected[: len(found)]}
    about |= {"cores": len(os.sched_getaffinity(0)), "machine": platform.processor() or platform.machine()}
    print(json.dumps(about, indent=2))
    sys.exit(0 if about["same_order_and_pixels"] else 1)


if __name__ == "__main__":
    main()
