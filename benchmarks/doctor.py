"""Seconds and peak memory of `seethink doctor` on 10,000 rows with images, as files and as Parquet.

    python benchmarks/doctor.py                      # about three minutes on 2 cores, most of it making the data
    python benchmarks/doctor.py --rows 1000 --keep /tmp/doctor

Images are photo-like, 200x200 to 448x448 pixels, every size different, nine JPEG to one PNG. Each measurement is a
process of its own from its start, imports included, so that its peak is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from PIL import Image

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
GROUP = 500
"""Rows of a Parquet row group."""


def make_image(rng: np.random.Generator, path: Path) -> None:
    """A smooth picture with grain: it compresses like a photo."""
    width, height = (int(n) for n in rng.integers(200, 449, 2))
    base = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    grain = rng.normal(0, 6, (height, width, 1))
    Image.fromarray((np.asarray(base) + grain).clip(0, 255).astype(np.uint8)).save(path, quality=90)


def make_rows(folder: Path, count: int) -> list[dict[str, object]]:
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    rows: list[dict[str, object]] = []
    for i in range(count):
        name = f"images/{i:05d}.{'png' if i % 10 == 9 else 'jpg'}"
        make_image(rng, folder / name)
        a, b = (int(n) for n in rng.integers(1, 1000, 2))
        row = {"id": f"r{i}", "images": [name], "prompt": f"What is {a} plus {b} in picture {i}?", "answer": str(a + b)}
        if i % 3 == 0:
            options = [str(a + b + k) for k in (0, 1, 2, 10)]
            row |= {"choices": options, "answer": "ABCD"[i % 4]}
        rows.append(row)
    return rows


def write_parquet(folder: Path, rows: list[dict[str, object]]) -> Path:
    path = folder / "train.parquet"
    image = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    text = {name: pa.string() for name in ("id", "prompt", "answer")}
    schema = pa.schema([("images", image), ("choices", pa.list_(pa.string())), *text.items()])
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, len(rows), GROUP):
            group = [
                {
                    **row,
                    "images": [{"bytes": (folder / str(name)).read_bytes(), "path": None} for name in row["images"]],
                }  # type: ignore[attr-defined]
                for row in rows[start : start + GROUP]
            ]
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
    return path


def measure(data: Path, out: Path) -> tuple[float, float, float, dict[str, object]]:
    """(seconds, of them on a core, peak MB, the report) of one run of the command."""
    recipe = str(RECIPES / "nano-grpo.toml")
    words = [recipe, "model=nano", f"out={out.parent / 'run'}", "--data", str(data), "--out", str(out)]
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "seethink.cli.main", "doctor", *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if os.waitstatus_to_exitcode(status) not in (0, 1):
        raise SystemExit(f"the command failed on {data}")
    return seconds, usage.ru_utime + usage.ru_stime, _megabytes(usage), json.loads(out.read_text(encoding="utf-8"))


def _megabytes(usage: resource.struct_rusage) -> float:
    """Of the process itself: the grader's workers are children of it."""
    return usage.ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, help="folder for the data, kept afterwards and used again")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        jsonl, parquet = folder / "train.jsonl", folder / "train.parquet"
        if not parquet.exists():
            rows = make_rows(folder, args.rows)
            jsonl.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            write_parquet(folder, rows)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        print(f"{date.today()}, {cores} cores, {platform.machine()}, Python {platform.python_version()}")
        print("| data | rows | good | seconds | CPU seconds | peak MB | checks |")
        print("|---|---:|---:|---:|---:|---:|---|")
        for data in (jsonl, parquet):
            seconds, cpu, megabytes, report = measure(data, Path(temporary) / "report.json")
            found = report["data"]["data.train"]  # type: ignore[index]
            counts = ", ".join(f"{n} {status}" for status, n in sorted(report["counts"].items()))  # type: ignore[attr-defined]
            row = (
                data.name,
                f"{found['rows']:,}",
                f"{found['good']:,}",
                f"{seconds:.1f}",
                f"{cpu:.1f}",
                f"{megabytes:.0f}",
                counts,
            )
            print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
