"""WebDataset shards: rows of neighbouring members, images read from their place in the tar, and hostile archives."""

from __future__ import annotations

import io
import json
import os
import random
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.rows import load, load_samples, png, read_rows, row, write_parquet
from seethink.data.image_store import Member
from seethink.data.images import ImageError, ImageRef
from seethink.data.mixture import Weights
from seethink.data.order import fingerprint
from seethink.data.quarantine import DataError
from seethink.data.shards import shard_rows

Members = list[tuple[str, bytes]]


def write_tar(path: Path, members: Members, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def written(number: int, folder: str = "", **changes: Any) -> Members:
    text = json.dumps(row(prompt=f"Q{number}?", **changes)).encode()
    return [(f"{folder}{number:04d}.png", png(number)), (f"{folder}{number:04d}.json", text)]


def many(numbers: range) -> Members:
    return [member for number in numbers for member in written(number)]


def problem(path: Path) -> Any:
    (found,) = [result.problem for result in read_rows(str(path), "train") if result.problem is not None]
    return found


def test_a_shard_is_read_as_the_same_rows_in_a_table_are(tmp_path: Path) -> None:
    shards = [write_tar(tmp_path / "wds" / f"train-{n:03d}.tar", many(range(4 * n, 4 * n + 4))) for n in range(3)]
    rows = [row(prompt=f"Q{n}?", id=f"{n:04d}", images=[{"bytes": png(n), "path": None}]) for n in range(12)]
    table = load(write_parquet(tmp_path / "d.parquet", rows))
    found = load(tmp_path / "wds")
    assert fingerprint(found) == fingerprint(table)
    assert [s.pictures()[0].tobytes() for s in found] == [s.pictures()[0].tobytes() for s in table]
    assert Weights().draws(found, 3).take(5, 20) == Weights().draws(table, 3).take(5, 20)
    assert [s.meta["file"] for s in found] == [str(shard) for shard in shards for _ in range(4)]
    assert load(tmp_path / "wds" / "train-{001..002}.tar") == load(tmp_path / "wds" / "train-00[12].tar") == found[4:]


def test_images_stay_in_the_tar_and_are_read_when_they_are_needed(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "a.tar", many(range(2)))
    image = load(shard)[1].images[0]
    assert isinstance(image, ImageRef)
    assert isinstance(image.data, Member)
    content = shard.read_bytes()
    assert content[image.data.start :][: image.data.length] == png(1)
    assert image.load().size == (6, 6)
    shard.write_bytes(content.replace(png(1), png(2)))
    with pytest.raises(ImageError, match="has changed since it was checked"):
        image.load()
    shard.unlink()
    with pytest.raises(ImageError, match=r"'0001\.png' in .*a\.tar cannot be read"):
        image.load()


def test_texts_are_columns_and_images_stand_where_columns_name_them(tmp_path: Path) -> None:
    members = [
        ("./x/a.left.png", png(1)),
        ("./x/a.right.png", png(2)),
        ("./x/a.prompt.txt", "Which is <image>, 'ä'?".encode()),
        ("./x/a.answer", b"3"),
        ("./x/a.json", json.dumps({"images": ["other/a.right.png"], "prompt": "not read", "domain": "d"}).encode()),
        ("./x/README", b"a note"),
        ("./x/.hidden.png", b"?"),
        ("b.json", json.dumps(row(image_1="b.2.png", image_2="b.1.png")).encode()),
        ("b.1.png", png(1)),
        ("b.2.png", png(2)),
    ]
    first, second = read_rows(str(write_tar(tmp_path / "a.tar", members)), "train")
    assert first.sample is not None
    assert second.sample is not None
    assert (first.sample.id, first.sample.question, first.sample.domain) == ("x/a", "Which is <image>, 'ä'?", "d")
    assert [image.name for image in first.sample.images] == ["./x/a.right.png"]  # type: ignore[union-attr]
    assert first.unread_images == ("images that the row does not name",)
    assert [image.name for image in second.sample.images] == ["b.2.png", "b.1.png"]  # type: ignore[union-attr]


def link(tar: tarfile.TarFile, kind: bytes = tarfile.SYMTYPE) -> None:
    entry = tarfile.TarInfo("bad.png")
    entry.type, entry.linkname = kind, "/etc/passwd"
    tar.addfile(entry)


def plain(name: str, content: bytes) -> Callable[[tarfile.TarFile], None]:
    def add(tar: tarfile.TarFile) -> None:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))

    return add


HOSTILE: dict[str, tuple[Callable[[tarfile.TarFile], None], str]] = {
    "symbolic link": (link, r"'bad\.png' is a link"),
    "hard link": (lambda tar: link(tar, tarfile.LNKTYPE), r"'bad\.png' is a link"),
    "device": (lambda tar: link(tar, tarfile.CHRTYPE), r"'bad\.png' is a link, a device"),
    "absolute": (plain("/etc/bad.png", png()), r"'/etc/bad\.png' has a name that leads out"),
    "parent": (plain("x/../../bad.png", png()), r"'x/../../bad\.png' has a name that leads out"),
    "not JSON": (plain("bad.json", b"{"), r"'bad\.json' is no JSON"),
    "a list": (plain("bad.json", b"[]"), r"'bad\.json': expected an object, found list"),
    "not text": (plain("bad.prompt.txt", b"\xff\xfe"), r"'bad\.prompt\.txt' is no text"),
    "no image": (plain("bad.png", b"\x89PNG\r\n\x1a\nrest"), r"'bad\.png' cannot be decoded|'bad\.png' is not one of"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_bad_member_costs_its_row_alone(name: str, tmp_path: Path) -> None:
    add, said = HOSTILE[name]
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for member in written(1):
            plain(*member)(tar)
        add(tar)
        if name == "no image":
            plain("bad.json", json.dumps(row()).encode())(tar)
        for member in written(2):
            plain(*member)(tar)
    results = list(read_rows(str(path), "train"))
    assert [result.sample is not None for result in results] == [True, False, True]
    found = problem(path)
    assert (found.file, found.row) == (str(path), 2)
    assert "\n" not in str(found)
    assert re.search(said, found.detail), found.detail


def test_a_member_that_is_there_twice_and_one_too_long_are_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twice = write_tar(tmp_path / "twice.tar", [*written(1), ("0001.png", png(3)), *written(2)])
    assert "'0001.png' is there twice" in problem(twice).detail
    monkeypatch.setattr("seethink.data.shards.MAX_TEXT", 10)
    short = [("s.prompt", b"Q?"), ("s.answer", b"3")]
    assert "a text has at most 10" in problem(write_tar(tmp_path / "long.tar", [*written(1), *short])).detail


@pytest.mark.parametrize("kept", [0.9, 0.5, 0.3])
def test_a_tar_that_was_cut_is_refused(tmp_path: Path, kept: float) -> None:
    path = write_tar(tmp_path / "a.tar", many(range(12)))
    end = len(path.read_bytes().rstrip(b"\0"))
    os.truncate(path, int(end * kept) // 512 * 512 + 100)
    with pytest.raises(DataError, match=r"a\.tar cannot be read \(cut off, damaged") as error:
        list(read_rows(str(path), "train"))
    assert "\n" not in str(error.value)


def test_headers_that_ask_for_memory_or_go_back_are_refused(tmp_path: Path) -> None:
    huge = tarfile.TarInfo("x")
    huge.type, huge.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    back = tarfile.TarInfo("0001.png")
    back.size = 0
    negative = bytearray(back.tobuf(tarfile.GNU_FORMAT))
    negative[124:136] = b"\xff" * 10 + b"\xfe\x00"  # -512 in base 256
    negative[148:156] = b"%06o\0 " % (256 + sum(negative[:148]) + sum(negative[156:512]))
    for name, header in (("huge", huge.tobuf(tarfile.GNU_FORMAT)), ("back", bytes(negative))):
        path = tmp_path / f"{name}.tar"
        path.write_bytes(header + bytes(2048))
        with pytest.raises(DataError, match="cannot be read"):
            list(read_rows(str(path), "train"))


@pytest.mark.parametrize("kind", ["gz", "xz", "garbage in the midst", "no end", "empty", "not a tar"])
def test_other_archives_are_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    if kind in ("gz", "xz"):
        with tarfile.open(path, f"w:{kind}") as tar:  # type: ignore[call-overload]
            plain("a.json", b"{}")(tar)
    else:
        write_tar(path, written(1))
        whole = path.read_bytes()
        end = whole.rindex(b'"}') // 512 * 512 + 512
        path.write_bytes(
            {
                "garbage in the midst": whole[:end] + b"?" * 512 + whole[end:],
                "no end": whole[:end],
                "empty": b"",
                "not a tar": b"?" * 2000,
            }[kind]
        )
    with pytest.raises(DataError, match=r"a\.tar cannot be read \(") as error:
        list(read_rows(str(path), "train"))
    assert "\n" not in str(error.value)


def test_a_folder_with_rows_of_its_own_has_its_tars_for_something_else(tmp_path: Path) -> None:
    write_tar(tmp_path / "images.tar", written(1))
    (tmp_path / "rows.json").write_text(json.dumps([row(prompt="Own?")]))
    assert [sample.question for sample in load(tmp_path)] == ["Own?"]


@pytest.mark.parametrize("pattern", ["none-*.tar", "a-{3..1}.tar", "a-{0..5}.tar", "a-{0..999999999}.tar"])
def test_a_pattern_names_what_is_not_there(tmp_path: Path, pattern: str) -> None:
    write_tar(tmp_path / "a-0.tar", written(0))
    with pytest.raises(DataError, match=r"no data at '.*|is empty or longer than"):
        load_samples(str(tmp_path / pattern), "train", None, 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": 3.5}, "'prompt': expected a text"),
        ({"prompt": [["nested"]]}, "expected"),
        ({"images": 7}, "an image must be a path, bytes or a data: URI, not int"),
        ({"images": [{"bytes": b"no image"}]}, "is not one of PNG"),
        ({"answer": {"a": 1}}, "'answer'"),
    ],
)
def test_a_table_of_other_types_names_file_and_row(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "d.parquet", [{**row(id="1"), **change}])
    (result,) = read_rows(str(path), "train")
    assert result.problem is not None
    assert str(result.problem).startswith(f"{path}, row 1: ")
    assert said in result.problem.detail


def test_a_damaged_tar_costs_rows_or_is_refused_whatever_is_damaged(tmp_path: Path) -> None:
    rng = random.Random(0)
    whole = write_tar(tmp_path / "a.tar", [*written(1), *written(2)]).read_bytes().rstrip(b"\0")
    for _ in range(100):
        content = bytearray(whole + bytes(1024))
        for _ in range(rng.choice((1, 1, 4))):
            at = rng.randrange(len(content)) if rng.random() < 0.3 else rng.randrange(512) + 512 * rng.randrange(8)
            content[at % len(content)] = rng.choice((0, 0xFF, 0x80, ord("7"), ord("x"), ord("L"), ord("S")))
        for block in range(0, len(content) - 511, 512):  # a damaged header with a right checksum
            if rng.random() < 0.7 and content[block + 257 : block + 262] == b"ustar":
                head = content[block : block + 512]
                content[block + 148 : block + 156] = b"%06o\0 " % (256 + sum(head[:148]) + sum(head[156:]))
        (tmp_path / "a.tar").write_bytes(content)
        try:
            rows = list(shard_rows(tmp_path / "a.tar"))
            assert len(rows) <= 4
        except (tarfile.TarError, OSError):
            pass
