"""Hours of GRPO steps on the nano model: do memory, file handles, threads and step time stay flat?

    OMP_NUM_THREADS=1 nice -n 19 python benchmarks/soak.py --minutes 120 --out benchmarks/soak_DATE.md

A child process runs `seethink train` with everything on that a long run has: checkpoints with retention, stored
rollouts, TensorBoard, the blindness guard, entropy at critical words. This process looks at it from outside, every few
seconds, and stops it with SIGTERM when the time is over. Within a step memory swings by hundreds of megabytes, so that
a slope needs looks at the same place of every step: a hook in the child takes them where the step's record is written.
Responses are traces: the model is first taught them for a minute. The learning rate is so low that the policy, and with
it the work of a step, stays what it is.

Writes OUT (Markdown), and beside it the samples as JSON and the curves as SVG. The folder of the run itself is
temporary. Its metrics, TensorBoard, rollout and picture files grow by design, by the rate that the report states.
`--read SAMPLES.json` writes the report again without a run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers
from soak_report import write_report

from seethink.core.exits import EXIT_RESUME
from seethink.studies.quickstart import recipes_folder

CHILD = """
import json, sys, time
import psutil
from seethink.cli.main import main
from seethink.runs.metrics import MetricsWriter

looks, process, write = open(sys.argv.pop(1), "a", buffering=1), psutil.Process(), MetricsWriter.write

def write_and_look(self, step, metrics):
    write(self, step, metrics)
    memory, cpu = process.memory_full_info(), process.cpu_times()
    look = {"t": time.monotonic(), "step": step, "cpu": cpu.user + cpu.system}
    look |= {"rss": memory.rss, "pss": memory.pss, "uss": memory.uss}
    look |= {"seconds": metrics["time/step_s"], "tokens": metrics.get("response/length_mean")}
    print(json.dumps(look), file=looks)

MetricsWriter.write = write_and_look
main()
"""
COLD = ["data.train_size=2400", "data.val_size=20", "sft.epochs=1", "blindness.every=0", "checkpoint.every=1000"]
SOAK = [
    "algorithm.steps=10000000",
    "optim.lr=2e-7",
    "data.train_size=256",
    "rollout.prompts_per_step=4",
    "rollout.group_size=4",
    "checkpoint.every=25",
    "checkpoint.keep=2",
    "checkpoint.keep_best=1",
    'checkpoint.best_metric="reward/mean"',
    "blindness.every=50",
    "blindness.samples=16",
    'blindness.action="warn"',
    "log.rollouts_every=10",
    "log.rollouts_kept=2",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--every", type=float, default=5.0, help="Seconds between two looks.")
    parser.add_argument("--out", type=Path, default=Path(f"benchmarks/soak_{date.today()}.md"))
    parser.add_argument("--read", type=Path, help="Write the report of these samples again.")
    args = parser.parse_args()
    samples = args.out.with_suffix(".json")
    samples.parent.mkdir(parents=True, exist_ok=True)
    if args.read:
        found = json.loads(args.read.read_text(encoding="utf-8"))
    else:
        found = soak(args.minutes * 60, args.every, samples)
    print(write_report(found, args.out))


def soak(seconds: float, every: float, out: Path) -> dict[str, Any]:
    """Train for so long and look at it; what was seen is kept in `out` on the way."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        cold, run = folder / "cold", folder / "run"
        train(folder / "cold.txt", "nano-coldstart.toml", [*COLD, f'out="{cold}"']).wait()
        found: dict[str, Any] = {"about": about(seconds, every), "samples": [], "steps": []}
        words = [*SOAK, f'model="{cold / "best"}"', f'out="{run}"']
        child = train(folder / "run.txt", "nano-grpo.toml", words)
        try:
            watch(child, looks_of(folder / "run.txt"), seconds, every, found, out)
        finally:
            child.send_signal(signal.SIGTERM)
            found["exit_code"] = child.wait(timeout=600)
        found["steps"], found["disk"] = read_steps(looks_of(folder / "run.txt")), disk(run)
        found["said"] = (folder / "run.txt").read_text(encoding="utf-8")[-2000:]
        keep(found, out)
        if found["exit_code"] != EXIT_RESUME:
            sys.exit(f"the run ended with {found['exit_code']}, not {EXIT_RESUME}:\n{found['said']}")
    return found


def train(said: Path, recipe: str, words: list[str]) -> subprocess.Popen[bytes]:
    """`seethink train` in a process that writes its output to `said` and its looks beside it."""
    command = [sys.executable, "-c", CHILD, str(looks_of(said)), "train", str(recipes_folder() / recipe), *words]
    with said.open("wb") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)


def looks_of(said: Path) -> Path:
    return said.with_suffix(".jsonl")


def watch(
    child: subprocess.Popen[bytes], looks: Path, seconds: float, every: float, found: dict[str, Any], out: Path
) -> None:
    """A sample every `every` seconds from the first step on, for so many seconds or until the run is over."""
    process = psutil.Process(child.pid)
    while child.poll() is None and not read_steps(looks):
        time.sleep(1)
    started = time.monotonic()
    while child.poll() is None and time.monotonic() - started < seconds:
        found["samples"].append({"t": time.monotonic(), **look(process)})
        if len(found["samples"]) % 60 == 0:
            found["steps"] = read_steps(looks)
            keep(found, out)
        time.sleep(every)


def look(process: psutil.Process) -> dict[str, float]:
    """Bytes and counts; `tree_uss` takes in the children."""
    children = process.children(recursive=True)
    memory = process.memory_full_info()
    return {
        "rss": memory.rss,
        "tree_uss": memory.uss + sum(child_uss(child) for child in children),
        "handles": process.num_fds(),
        "threads": process.num_threads(),
        "children": len(children),
    }


def child_uss(child: psutil.Process) -> int:
    try:
        return int(child.memory_full_info().uss)
    except psutil.NoSuchProcess:
        return 0


def read_steps(looks: Path) -> list[dict[str, float]]:
    """One look a step; none of a step that ended before the file was there."""
    lines = looks.read_text(encoding="utf-8").splitlines(keepends=True) if looks.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def disk(run: Path) -> dict[str, int]:
    """Bytes by what the run folder holds."""
    return {
        path.name: sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
        if path.is_dir()
        else path.stat().st_size
        for path in sorted(run.iterdir())
    }


def about(seconds: float, every: float) -> dict[str, Any]:
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    return {
        "date": str(date.today()),
        "minutes": seconds / 60,
        "every_s": every,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, shared",
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "versions": versions,
        "overrides": SOAK,
    }


def keep(found: dict[str, Any], out: Path) -> None:
    out.write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
