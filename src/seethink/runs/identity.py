"""What a run was started with: recipe, base model, libraries. Resumed, it has the same or is told otherwise."""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import struct
from pathlib import Path
from typing import Any

import torch
import transformers
from pydantic import ValidationError

from seethink.config import Recipe, saved_recipe
from seethink.core.files import read_file, require_file
from seethink.core.version import __version__
from seethink.models.load import model_path
from seethink.runs.reading import parse_object

SAMPLED = 4096
"""Bytes read of every tensor of a large file."""
READ_WHOLE = 64 << 20
"""Files up to this size are hashed whole."""
HARMLESS = {
    "out", "model", "data.memory_mb", "blindness.action", "optim.max_bad_steps",
    "checkpoint.keep", "checkpoint.keep_best", "checkpoint.best_metric", "checkpoint.best_mode",
    "checkpoint.asynchronous", "checkpoint.grace_s", "log.tensorboard", "log.trackers",
    "log.rollout_tables",
}  # fmt: skip
"""Keys that change nothing that is trained. The model is compared by what it holds: its folder may have moved."""


HARMLESS_SECTIONS = ("watchdogs.", "eval.", "cluster.", "vllm.")


def flatten(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def differing_keys(saved: dict[str, Any], recipe: Recipe) -> dict[str, tuple[Any, Any]]:
    """Key -> (value that the run was started with, value now). Keys that are newer than the run had their default."""
    with contextlib.suppress(ValidationError):  # of a version with other keys: they differ as they stand
        saved = saved_recipe(saved).as_table()
    old, new = flatten(saved), flatten(recipe.as_table())
    keys = sorted((old.keys() | new.keys()) - HARMLESS)
    keys = [key for key in keys if not key.startswith(HARMLESS_SECTIONS)]
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


def versions() -> dict[str, str]:
    """The code that trains."""
    return {
        "seethink": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }


def changed_versions(saved: dict[str, str]) -> str:
    """What a resumed run has in another version, for a warning; "" where all is the same."""
    now = versions()
    return ", ".join(f"{name} {saved[name]} -> {now[name]}" for name in now if saved.get(name, now[name]) != now[name])


def model_identity(source: str) -> str | None:
    """A hash of the base model: its configuration, and of its weights the headers and a piece of every tensor.

    Another model, or the same one trained further, has another identity; reading it takes seconds whatever the size.
    None where the model is not on this machine, or so damaged that loading it will say more.
    """
    digest = hashlib.sha256()
    try:
        folder = model_folder(source)
        if folder is None:
            return None
        for file in sorted([folder / "config.json", *folder.glob("*.safetensors")]):
            digest.update(file.name.encode() + b"\0")
            digest.update(_content(file))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, struct.error, MemoryError, OverflowError):
        return None
    return digest.hexdigest()


def model_folder(source: str) -> Path | None:
    """Where a model's files are on this machine."""
    local = Path(model_path(source))
    if local.is_dir():
        return local
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(source, "config.json")
    return Path(config).parent if isinstance(config, str) else None


def _content(file: Path) -> bytes:
    """A hash of the whole of a small file; of a large one of its size, header and tensors' beginnings."""
    digest = hashlib.sha256()
    require_file(file)
    if file.suffix == ".json":
        digest.update(_config(file))
        return digest.digest()
    size = file.stat().st_size
    with file.open("rb") as opened:
        if size <= READ_WHOLE:
            return hashlib.file_digest(opened, "sha256").digest()
        (length,) = struct.unpack("<Q", opened.read(8))
        header = opened.read(length)
        digest.update(struct.pack("<Q", size) + header)
        for entry in parse_object(header).values():
            if "data_offsets" in entry:
                start, end = entry["data_offsets"]
                opened.seek(8 + length + start)
                digest.update(opened.read(max(0, min(SAMPLED, end - start))))
    return digest.digest()


def _config(file: Path) -> bytes:
    """Without what another version of transformers writes of itself."""
    table = parse_object(read_file(file))
    table.pop("transformers_version", None)
    return json.dumps(table, sort_keys=True).encode()
