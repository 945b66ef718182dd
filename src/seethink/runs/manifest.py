"""What a complete folder holds: every file's size and SHA-256, in `manifest.json`, which is written last."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from seethink.core.files import inside, require_file, sync, write_json
from seethink.runs.reading import Manifest, RunFileError, read_object

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


def find_damage(folder: Path, needed: Iterable[str] = ()) -> str | None:
    """The first file that is missing or not as it was written, in words; None where the folder is as it should be.

    The manifest must name the files `needed`, and none outside of the folder.
    """
    try:
        table = read_object(folder / FILE, Manifest)
    except RunFileError as error:
        return str(error)
    if not table:
        return f"{folder / FILE} is missing"
    stated = [(inside(folder, name), name, entry["size"], entry["sha256"]) for name, entry in table["files"].items()]
    if outside := [name for target, name, _, _ in stated if target is None]:
        return f"{folder / FILE} names {outside[0]!r}, which is not a file of the folder"
    if missing := [name for name in needed if name not in table["files"]]:
        return f"{folder / FILE} does not name {missing[0]!r}"
    with ThreadPoolExecutor(_THREADS) as pool:
        return next(filter(None, pool.map(lambda entry: _damage(folder / entry[1], *entry[2:]), stated)), None)


def _damage(file: Path, size: int, digest: str) -> str | None:
    try:
        require_file(file)
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
