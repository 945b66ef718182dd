"""Weight files of a checkpoint folder: complete, safe, of this model, and finite. Nothing is unpickled."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from pydantic import BaseModel, NonNegativeInt, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

INDEX = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_MAX_HEADER = 100_000_000
KNOWN = ("F64", "F32", "F16", "BF16", "I64", "BOOL")
"""Weights, and the positions and masks that some families store beside them."""
SHOWN = 5
"""Names of tensors that a message lists."""
COPY_AGAIN = "copy or download the model again"


class _Entry(BaseModel):
    """One tensor in the header of a safetensors file."""

    dtype: str
    shape: list[NonNegativeInt]
    data_offsets: tuple[NonNegativeInt, NonNegativeInt]


_Header = TypeAdapter(dict[str, _Entry])
_Index = TypeAdapter(dict[str, str])


@dataclass
class Weights:
    """What a folder's weight files say of themselves."""

    files: list[Path]
    tensors: int = 0
    parameters: int = 0
    dtypes: Counter[str] = field(default_factory=Counter)
    """Tensors by dtype."""
    sizes: Counter[str] = field(default_factory=Counter)
    """Parameters by dtype."""
    problems: list[tuple[str, str]] = field(default_factory=list)
    """(what is wrong, what to do)"""


def read_weights(folder: Path) -> Weights:
    """Look at the header of every file that loading would read. No tensor is read."""
    weights = Weights(_files(folder))
    index = _index(folder, weights)
    for name in sorted(set(index.values()) - {file.name for file in weights.files}):
        weights.problems.append((f"{name} is missing, which {INDEX} names", COPY_AGAIN))
    if not weights.files and not weights.problems:
        weights.problems.append(_without_weights(folder))
    held: dict[str, str] = {}
    for file in weights.files:
        for name, entry in _header(file, weights).items():
            held[name] = file.name
            weights.tensors += 1
            weights.parameters += prod(entry.shape)
            weights.dtypes[entry.dtype] += 1
            weights.sizes[entry.dtype] += prod(entry.shape)
    lost = [name for name, file in index.items() if held.get(name) != file and (folder / file).is_file()]
    if lost and not weights.problems:
        found = f"{INDEX} names {len(lost)} tensors that are not where it says, first {lost[0]}"
        weights.problems.append((found, COPY_AGAIN))
    if odd := sorted(set(weights.dtypes) - set(KNOWN)):
        found = f"{sum(weights.dtypes[d] for d in odd)} tensors are stored as {', '.join(odd)}"
        weights.problems.append((found, "quantised weights cannot be trained: use the bfloat16 or float32 checkpoint"))
    return weights


def not_finite_in(files: Sequence[Path]) -> list[str]:
    """Names of the tensors in these files that hold NaN or infinity. Reads every tensor, one at a time."""
    broken: list[str] = []
    for file in files:
        with safe_open(file, framework="pt") as weights:
            broken += not_finite((name, weights.get_tensor(name)) for name in weights.keys())  # noqa: SIM118
    return broken


def not_finite(tensors: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Names of the tensors that hold NaN or infinity."""
    return [name for name, tensor in tensors if not bool(tensor.isfinite().all())]


def misfits(told: Mapping[str, Any]) -> dict[str, list[str]]:
    """Names by what is wrong with them, from the loading information of transformers' `from_pretrained`.

    `missing` tensors would start from random numbers, `unexpected` ones would be ignored, and `misshapen` ones have
    another shape than the configuration says.
    """
    kinds = {"missing": "missing_keys", "unexpected": "unexpected_keys", "misshapen": "mismatched_keys"}
    return {kind: sorted(map(_name, told[key])) for kind, key in kinds.items() if told[key]}


def _name(entry: Any) -> str:
    """A name; of a tensor with another shape, both shapes too."""
    if not isinstance(entry, tuple):
        return str(entry)
    name, stored, expected = entry
    return f"{name} ({list(stored)} instead of {list(expected)})"


def some(names: Sequence[str]) -> str:
    """The first names and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _files(folder: Path) -> list[Path]:
    """As transformers chooses: the single file, else the shards."""
    single = folder / "model.safetensors"
    return [single] if single.is_file() else sorted(folder.glob("model-*.safetensors"))


def _index(folder: Path, weights: Weights) -> dict[str, str]:
    path = folder / INDEX
    if not path.is_file() or (folder / "model.safetensors").is_file():
        return {}
    try:
        return _Index.validate_python(json.loads(path.read_text(encoding="utf-8"))["weight_map"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        weights.problems.append((f"{INDEX} cannot be read: {_first(error)}", COPY_AGAIN))
        return {}


def _without_weights(folder: Path) -> tuple[str, str]:
    pickled = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
    if pickled:
        return (
            f"no model.safetensors, only {', '.join(pickled[:3])}: pickled weights can run code and are not read",
            "convert them with the model's authors' tool or use a safetensors revision",
        )
    return f"no model.safetensors in {folder}", "download the weights too, not only the configuration"


def _header(file: Path, weights: Weights) -> dict[str, _Entry]:
    """Tensor entries of one file; {} where it is cut off or damaged."""
    problem, advice = "", "copy or download the file again"
    entries: dict[str, _Entry] = {}
    try:
        size = file.stat().st_size
        with file.open("rb") as handle:
            start = handle.read(8)
            if start.startswith(b"version "):
                problem, advice = "is a Git LFS pointer, not the weights", "run `git lfs pull` in its folder"
            else:
                length = int.from_bytes(start, "little")
                entries = _parse(handle.read(length)) if len(start) == 8 and length <= _MAX_HEADER else {}
                end = 8 + length + max((entry.data_offsets[1] for entry in entries.values()), default=0)
                if not entries:
                    problem = "is not a safetensors file, or holds no tensor"
                elif size < end:
                    problem = f"is cut off: {size:,} of {end:,} bytes are there"
                else:
                    with safe_open(file, framework="pt"):
                        pass
    except (OSError, ValueError, TypeError, RecursionError, SafetensorError) as error:
        problem = f"has no readable header: {_first(error)}"
    if problem:
        weights.problems.append((f"{file.name} {problem}", advice))
        return {}
    return entries


def _parse(header: bytes) -> dict[str, _Entry]:
    table = json.loads(header)
    if not isinstance(table, dict):
        raise ValueError("not an object")
    table.pop("__metadata__", None)
    return _Header.validate_python(table)


def _first(error: Exception) -> str:
    """The error on one line; of a validation, the first of its complaints."""
    if isinstance(error, ValidationError):
        complaint = error.errors()[0]
        return f"{'.'.join(map(str, complaint['loc']))}: {complaint['msg']}"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
