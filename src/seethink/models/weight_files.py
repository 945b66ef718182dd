"""Weight files by their headers: complete, safe, and of this model. No tensor is read, and nothing is unpickled."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

INDEX = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_MAX_HEADER = 100_000_000
FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass
class Weights:
    """What a folder's weight files say of themselves."""

    files: list[Path]
    tensors: int = 0
    parameters: int = 0
    dtypes: Counter[str] = field(default_factory=Counter)
    problems: list[tuple[str, str]] = field(default_factory=list)
    """(what is wrong, what to do)"""


def read_weights(folder: Path) -> Weights:
    """Look at every file that loading would look at."""
    weights = Weights(_files(folder))
    index = _index(folder, weights)
    for name in sorted(set(index.values()) - {file.name for file in weights.files}):
        weights.problems.append((f"{name} is missing, which {INDEX} names", "copy or download the model again"))
    if not weights.files:
        weights.problems.append(_without_weights(folder))
    held: dict[str, str] = {}
    for file in weights.files:
        for name, entry in _header(file, weights).items():
            held[name] = file.name
            weights.tensors += 1
            weights.parameters += prod(entry["shape"])
            weights.dtypes[entry["dtype"]] += 1
    lost = [name for name, file in index.items() if held.get(name) != file and (folder / file).is_file()]
    if lost and not weights.problems:
        found = f"{INDEX} names {len(lost)} tensors that are not where it says, first {lost[0]}"
        weights.problems.append((found, "copy or download the model again"))
    if odd := sorted(set(weights.dtypes) - set(FLOATS)):
        found = f"{sum(weights.dtypes[d] for d in odd)} tensors are stored as {', '.join(odd)}"
        weights.problems.append((found, "quantised weights cannot be trained: use the bfloat16 or float32 checkpoint"))
    return weights


def _files(folder: Path) -> list[Path]:
    """As transformers chooses: the single file, else the shards."""
    single = folder / "model.safetensors"
    return [single] if single.is_file() else sorted(folder.glob("model-*.safetensors"))


def _index(folder: Path, weights: Weights) -> dict[str, str]:
    path = folder / INDEX
    if not path.is_file() or (folder / "model.safetensors").is_file():
        return {}
    try:
        table = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        return {str(name): str(file) for name, file in table.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        weights.problems.append((f"{INDEX} cannot be read: {error}", "copy or download the model again"))
        return {}


def _without_weights(folder: Path) -> tuple[str, str]:
    pickled = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
    if pickled:
        return (
            f"no safetensors file, only {', '.join(pickled[:3])}: pickled weights can run code and are not read",
            "convert them with the model's authors' tool or use a safetensors revision",
        )
    return f"no model.safetensors in {folder}", "download the weights too, not only the configuration"


def _header(file: Path, weights: Weights) -> dict[str, Any]:
    """Tensor entries of one file; {} where it is cut off or damaged."""
    problem, advice = "", "copy or download the file again"
    entries: dict[str, Any] = {}
    try:
        size = file.stat().st_size
        with file.open("rb") as handle:
            start = handle.read(8)
            if start.startswith(b"version "):
                problem, advice = "is a Git LFS pointer, not the weights", "run `git lfs pull` in its folder"
            else:
                length = int.from_bytes(start, "little")
                entries = _parse(handle.read(length)) if len(start) == 8 and length <= _MAX_HEADER else {}
                entries.pop("__metadata__", None)
                end = 8 + length + max((int(e["data_offsets"][1]) for e in entries.values()), default=0)
                if not entries:
                    problem = "is not a safetensors file"
                elif size < end:
                    problem = f"is cut off: {size:,} of {end:,} bytes are there"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        problem = f"has no readable header: {type(error).__name__}: {error}"
    if problem:
        weights.problems.append((f"{file.name} {problem}", advice))
        return {}
    return entries


def _parse(header: bytes) -> dict[str, Any]:
    table = json.loads(header)
    if not isinstance(table, dict):
        raise ValueError("not an object")
    return table
