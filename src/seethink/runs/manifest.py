"""What a complete folder holds: every file's size and SHA-256, in `manifest.json`, which is written last."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from seethink.core.files import sync, write_json

FILE = "manifest.json"
_THREADS = min(8, os.cpu_count() or 1)
"""Hashing runs outside the interpreter's lock."""


def write_manifest(folder: Path) -> None:
    """Hash and sync every file, then write the manifest. Its presence says that the folder is complete."""
    files = _files(folder)
    with ThreadPoolExecutor(_THREADS) as pool:
        hashes = list(pool.map(_hash_synced, files))
    table = {
        file.relative_to(folder).as_posix(): {"sha256": digest, "size": file.stat().st_size}
        for file, digest in zip(files, hashes, strict=True)
    }
    for inner in [path for path in folder.rglob("*") if path.is_dir()]:
        sync(inner)
    write_json(folder / FILE, {"version": 1, "files": table})
    sync(folder)


def find_damage(folder: Path) -> str | None:
    """The first file that is missing or not as it was written, in words; None where the folder is as it should be."""
    try:
        table: dict[str, dict[str, str | int]] = json.loads((folder / FILE).read_text(encoding="utf-8"))["files"]
        stated = [(folder / name, int(entry["size"]), str(entry["sha256"])) for name, entry in table.items()]
    except FileNotFoundError:
        return f"{folder / FILE} is missing"
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return f"{folder / FILE} cannot be read: {error}"
    with ThreadPoolExecutor(_THREADS) as pool:
        return next(filter(None, pool.map(lambda entry: _damage(*entry), stated)), None)


def _damage(file: Path, size: int, digest: str) -> str | None:
    try:
        found = file.stat().st_size
        if found != size:
            return f"{file} has {found:,} bytes, not the {size:,} that were written"
        if hash_file(file) != digest:
            return f"{file} is not as it was written: its SHA-256 differs"
    except FileNotFoundError:
        return f"{file} is missing"
    except OSError as error:
        return f"{file} cannot be read: {error}"
    return None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != FILE)


def hash_file(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _hash_synced(file: Path) -> str:
    sync(file)
    return hash_file(file)
