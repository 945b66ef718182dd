"""Encoded images of tables: once each, a bounded share in memory, the rest in a file without a name."""

from __future__ import annotations

import errno
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from helpers.pictures import encoded, picture
from helpers.rows import load, png, row, write_parquet
from seethink.data import dataset
from seethink.data.image_store import ImageStore, Slice
from seethink.data.images import ImageRef, check_image


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEETHINK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def keep(store: ImageStore, data: bytes) -> bytes | Slice:
    return store.keep(data, hashlib.sha256(data).hexdigest())


def test_beyond_the_limit_bytes_go_to_the_file(cache: Path) -> None:
    store, pieces = ImageStore(250), [bytes([i]) * 100 for i in range(6)]
    kept = [keep(store, piece) for piece in pieces]
    assert [isinstance(k, Slice) for k in kept] == [False, False, True, True, True, True]
    assert [k.read() if isinstance(k, Slice) else k for k in kept] == pieces
    assert list(cache.iterdir()) == [], "no name is left behind"


def test_the_same_picture_is_kept_once() -> None:
    store = ImageStore(0)
    first, again = keep(store, b"a" * 50), keep(store, bytes(bytearray(b"a" * 50)))
    assert first is again
    assert isinstance(first, Slice)
    assert os.fstat(first.file.fileno()).st_size == 50


def test_threads_do_not_mix_their_images() -> None:
    store, pieces = ImageStore(1000), [i.to_bytes(2, "big") * (1 + i % 90) for i in range(500)]
    with ThreadPoolExecutor(8) as pool:
        kept = list(pool.map(lambda piece: keep(store, piece), pieces * 2))
        read = list(pool.map(lambda k: k.read() if isinstance(k, Slice) else k, kept))
    assert read == pieces * 2


def test_a_full_disk_costs_memory_and_not_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = ImageStore(0)
    monkeypatch.setattr(os, "pwrite", full)
    assert keep(store, b"abc") == b"abc"


def test_a_table_larger_than_memory_should_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The samples of a Parquet file load their pictures from the file without a name."""
    monkeypatch.setattr(dataset, "ImageStore", lambda _: ImageStore(0))
    rows = [row(images=[{"bytes": png(i), "path": None}]) for i in range(20)]
    samples = load(write_parquet(tmp_path / "d.parquet", rows))
    assert all(isinstance(ref, ImageRef) and isinstance(ref.data, Slice) for s in samples for ref in s.images)
    assert [s.pictures()[0].getpixel((0, 0)) for s in samples] == [(i, 0, 0) for i in range(20)]


def test_without_a_store_bytes_stay_with_their_reference() -> None:
    ref = check_image(encoded(picture()), None)
    assert isinstance(ref, ImageRef)
    assert ref.data == ref.encoded() == encoded(picture())
