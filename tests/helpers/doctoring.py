"""For the tests of `seethink doctor`: a good data set, ways to break it, and access to the checks of a report."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any
from unittest.mock import patch

from PIL import Image

from helpers.nano import picture
from seethink.core.types import Grade, Sample, Verdict
from seethink.doctor.check import Check, Report, Status
from seethink.doctor.run import diagnose

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
GRPO, SFT = RECIPES / "nano-grpo.toml", RECIPES / "nano-coldstart.toml"


def good_rows(folder: Path, count: int = 40, *, first: int = 0) -> list[dict[str, Any]]:
    """Rows with one image each, which is written under `folder`/images."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(first, first + count):
        name = f"images/{i}.png"
        picture(i).save(folder / name)
        rows.append({"id": f"r{i}", "prompt": f"what is the sum in picture {i}?", "images": [name], "answer": str(i)})
    return rows


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def bomb_png(path: Path, width: int = 30_000, height: int = 30_000) -> Path:
    """A PNG of a few hundred bytes whose header announces `width` x `height` pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def cut_image(path: Path, kind: str) -> Path:
    """A file that ends in the middle of its picture."""
    buffer = io.BytesIO()
    picture(1).resize((200, 200), Image.Resampling.NEAREST).save(buffer, kind)
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    return path


def examine(
    tmp_path: Path,
    *words: str,
    data: Path | str | None = None,
    step: bool = False,
    recipe: Path = GRPO,
    **options: Any,
) -> Report:
    """All checks of a nano recipe on `data` and a few evaluation items; `step` adds the trial step."""
    table = ["model=nano", f"out={tmp_path / 'run'}", "eval.data=world:math", *words]
    with patch("seethink.doctor.scan.WORLD_ROWS", 12):
        return diagnose(recipe, table, data=str(data) if data is not None else None, step=step, **options)


def never(response: str, sample: Sample) -> Grade:
    """A `reward.function` for which every response is wrong."""
    return Grade(Verdict.WRONG, None, "never")


def named(report: Report, section: str, name: str) -> list[Check]:
    return [check for check in report.checks if (check.section, check.name) == (section, name)]


def one(report: Report, section: str, name: str) -> Check:
    found = named(report, section, name)
    assert len(found) == 1, [(c.section, c.name, str(c.status), c.found) for c in report.checks]
    return found[0]


def worst(report: Report) -> list[Check]:
    return [check for check in report.checks if check.status is Status.FAIL]
