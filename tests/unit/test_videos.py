"""Videos of rows: where they stand, which frames are sampled, and what is refused."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from helpers.rows import Row, read_rows, row, write_jsonl, write_parquet
from helpers.videos import clip, grey_frame, numbers_of, write_frames, write_video
from seethink.config import ReadConfig
from seethink.core.types import Sample
from seethink.data import videos
from seethink.data.chat import content_parts
from seethink.data.control_images import blanked, swapped
from seethink.data.lengths import sample_key
from seethink.data.order import fingerprint, question_key
from seethink.data.quarantine import DataError, RowError
from seethink.data.rows import RowResult
from seethink.data.video_files import VideoError
from seethink.data.videos import check_video, sampled

COUNT = 12
FOUR = ReadConfig(video_frames=4)
FOUR_OF_TWELVE = [0, 4, 7, 11]


def result(tmp_path: Path, given: Row, config: ReadConfig = FOUR) -> RowResult:
    (found,) = read_rows(str(write_jsonl(tmp_path / "d.jsonl", [given])), "train", config)
    return found


def sample_of(tmp_path: Path, config: ReadConfig = FOUR, **changes: Any) -> Sample:
    found = result(tmp_path, row(**changes), config)
    assert found.sample is not None, found.problem
    return found.sample


def problem(tmp_path: Path, config: ReadConfig = FOUR, **changes: Any) -> tuple[str, str]:
    found = result(tmp_path, row(**changes), config).problem
    assert found is not None
    return found.reason, found.detail


@pytest.mark.parametrize(
    ("count", "duration", "most", "fps", "expected"),
    [
        (100, 10.0, 4, None, [0, 33, 66, 99]),
        (3, 1.0, 16, None, [0, 1, 2]),
        (1, 1.0, 16, None, [0]),
        (100, 10.0, 64, 0.5, [0, 25, 50, 74, 99]),
        (100, 10.0, 4, 2.0, [0, 33, 66, 99]),
        (100, 0.1, 16, 2.0, [0, 99]),
        (2, 60.0, 16, 2.0, [0, 1]),
    ],
)
def test_the_rule(count: int, duration: float, most: int, fps: float | None, expected: list[int]) -> None:
    assert sampled(count, duration, most, fps) == expected


@pytest.mark.parametrize("form", ["list", "folder", "frames", "path", "json", "text", "block", "parquet"])
def test_frames_of_their_own(tmp_path: Path, form: str) -> None:
    names = [f"clip/{name}" for name in write_frames(tmp_path / "clip", COUNT)]
    (tmp_path / "clip" / "notes.txt").write_text("no frame")
    given: dict[str, Any] = {
        "list": {"videos": [names]},
        "folder": {"videos": ["clip"]},
        "frames": {"video": {"frames": names, "fps": 4}},
        "path": {"videos": [{"path": "clip", "fps": 4}]},
        "json": {"videos": '["clip"]'},
        "text": {"video": "clip"},
        "block": {"prompt": [{"role": "user", "content": [{"type": "video", "video": names}, {"text": "How many?"}]}]},
        "parquet": {"videos": [[(tmp_path / name).read_bytes() for name in names]]},
    }[form]
    if form == "parquet":
        (found,) = read_rows(str(write_parquet(tmp_path / "d.parquet", [row(**given)])), "train", FOUR)
        assert found.sample is not None, found.problem
        (video,) = found.sample.videos
    else:
        (video,) = sample_of(tmp_path, **given).videos
    assert numbers_of(video.load(), COUNT) == FOUR_OF_TWELVE
    fps = 4.0 if form in ("frames", "path") else 2.0
    assert (video.size, video.duration) == ((64, 48), COUNT / fps)
    assert video.seconds == tuple(number / fps for number in FOUR_OF_TWELVE)


def test_frames_are_sorted_by_their_numbers(tmp_path: Path) -> None:
    """f10.png comes after f9.png."""
    write_frames(tmp_path / "clip", COUNT)
    everything = check_video("clip", tmp_path, ReadConfig(video_frames=100))
    assert numbers_of(everything.load(), COUNT) == list(range(COUNT))


@pytest.mark.parametrize(
    ("codec", "suffix"), [("mpeg4", "mp4"), ("libx264", "mp4"), ("libvpx", "webm"), ("libvpx-vp9", "webm")]
)
def test_files(tmp_path: Path, codec: str, suffix: str) -> None:
    """40 frames at 10 a second, a key frame in every eight: sampled ones are found by seeking or by decoding on."""
    pytest.importorskip("av")
    write_video(tmp_path / f"a.{suffix}", 40, codec=codec)
    for most in (2, 5, 40):
        config = ReadConfig(video_frames=most)
        (video,) = sample_of(tmp_path, config, videos=[f"a.{suffix}"]).videos
        assert numbers_of(video.load(), 40) == sampled(40, 4.0, most)
        assert (video.size, video.duration) == ((64, 48), pytest.approx(4.0))
        assert video.seconds == pytest.approx([number / 10 for number in sampled(40, 4.0, most)])
    (video,) = sample_of(tmp_path, ReadConfig(video_fps=1.0), videos=[f"a.{suffix}"]).videos
    assert len(video.seconds) == 4


def test_a_turned_file_is_turned_back(tmp_path: Path) -> None:
    """A phone that was held upright writes lying frames and a matrix that turns them clockwise."""
    av = pytest.importorskip("av")
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        lying = Image.new("RGB", (64, 48))
        lying.paste((255, 255, 255), (0, 0, 20, 48))
        for packet in [*stream.encode(av.VideoFrame.from_image(lying)), *stream.encode()]:
            container.mux(packet)
    data = path.read_bytes()
    straight, turned = (
        b"".join(number.to_bytes(4, "big", signed=True) for number in matrix)
        for matrix in ((65536, 0, 0, 0, 65536, 0), (0, 65536, 0, -65536, 0, 0))
    )
    head, tail = data.split(b"tkhd")
    path.write_bytes(head + b"tkhd" + tail.replace(straight, turned, 1))
    video = check_video("a.mp4", tmp_path, FOUR)
    (frame,) = video.load()
    assert frame.size == video.size == (48, 64)
    shades = [frame.convert("L").getpixel(place) for place in ((24, 4), (24, 60))]
    assert shades[0] > 200 > 50 > shades[1], "what was on the left is above"  # type: ignore[operator]


def test_members_of_a_shard_are_frames(tmp_path: Path) -> None:
    names = write_frames(tmp_path / "clip", COUNT)
    with tarfile.open(tmp_path / "d.tar", "w") as tar:
        for name in names:
            tar.add(tmp_path / "clip" / name, f"0.{name}")
        told = json.dumps(row(videos=[[f"0.{name}" for name in names]])).encode()
        entry = tarfile.TarInfo("0.json")
        entry.size = len(told)
        tar.addfile(entry, io.BytesIO(told))
    (found,) = read_rows(str(tmp_path / "d.tar"), "train", FOUR)
    assert found.sample is not None, found.problem
    assert not found.sample.images
    assert numbers_of(found.sample.videos[0].load(), COUNT) == FOUR_OF_TWELVE


def test_bytes_of_a_file(tmp_path: Path) -> None:
    pytest.importorskip("av")
    data = write_video(tmp_path / "a.mp4", COUNT).read_bytes()
    rows = [row(videos=[{"bytes": data, "path": "a.mp4"}])]
    (found,) = read_rows(str(write_parquet(tmp_path / "d.parquet", rows)), "train", FOUR)
    assert found.sample is not None, found.problem
    assert numbers_of(found.sample.videos[0].load(), COUNT) == FOUR_OF_TWELVE


def test_columns_are_said(tmp_path: Path) -> None:
    write_frames(tmp_path / "clip", 2)
    grey_frame(0, 2).save(tmp_path / "a.png")
    found = result(tmp_path, row(videos=["clip"], image="a.png", choices=["3", "4"]))
    assert found.sample is not None
    assert "videos" in found.columns
    assert not found.unread_images


@pytest.mark.parametrize(
    ("changes", "reason", "said"),
    [
        ({"videos": ["none.mp4"]}, "video_missing", "'videos', video 1: no video at 'none.mp4' under"),
        ({"videos": ["clip", "none"]}, "video_missing", "'videos', video 2: no video at 'none'"),
        ({"videos": ["empty"]}, "video_missing", "the folder 'empty' has no frame (.png, "),
        ({"videos": ["../x"]}, "image_outside_root", "'videos', video 1: image path '../x' leads out of"),
        ({"videos": [["clip/f0.png", "../x.png"]]}, "image_outside_root", "leads out of"),
        ({"videos": [["clip/f0.png", "clip/none.png"]]}, "image_missing", "no image at 'clip/none.png'"),
        ({"videos": ["clip/f0.png"]}, "video_source", "is an image: the frames of one video are a list of their own"),
        ({"videos": ["https://x.org/a.mp4"]}, "video_source", "videos are not fetched"),
        ({"videos": ["data:video/mp4;base64,AAAA"]}, "video_source", "videos are not fetched"),
        ({"videos": [7]}, "video_source", "a video must be a path, bytes or a list of frames, not int"),
        ({"videos": 7}, "video_source", "'videos': expected a list of videos, found int"),
        ({"videos": ["clip", ""]}, "video_source", "'videos': video 2 is empty"),
        ({"video": {"path": "clip", "fps": 0}}, "video_source", "'fps' of a video: expected frames a second"),
        ({"videos": [["clip/f0.png", "wide.png"]]}, "video_unreadable", "has frames of 64x48 and 80x48; all must"),
        ({"videos": [["clip/f0.png", "text.png"]]}, "image_unreadable", "is not one of PNG"),
        ({"videos": ["text.mp4"]}, "video_unreadable", "'text.mp4' is neither mp4 nor webm"),
        ({"prompt": "<video> or <video>?", "videos": ["clip"]}, "video_count", "2 <video> marks but there are 1"),
        ({"choices": ["3", "<video>"], "videos": ["clip"]}, "video_count", None),
    ],
)
def test_a_bad_video_is_named_with_its_column(tmp_path: Path, changes: Row, reason: str, said: str | None) -> None:
    write_frames(tmp_path / "clip", COUNT)
    (tmp_path / "empty").mkdir()
    Image.new("RGB", (80, 48)).save(tmp_path / "wide.png")
    for name in ("text.png", "text.mp4"):
        (tmp_path / name).write_text("no picture and no video")
    if said is None:
        assert sample_of(tmp_path, **changes).videos, "a mark in the choices counts"
        return
    found, detail = problem(tmp_path, **changes)
    assert found == reason
    assert said in detail


def test_links_do_not_lead_out(tmp_path: Path) -> None:
    write_frames(tmp_path / "outside", 2)
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "clip").symlink_to(tmp_path / "outside")
    with pytest.raises(RowError, match="leads out of"):
        check_video("clip", inside, FOUR)
    (inside / "frames").mkdir()
    (inside / "frames" / "f0.png").symlink_to(tmp_path / "outside" / "f0.png")
    with pytest.raises(RowError, match="leads out of"):
        check_video("frames", inside, FOUR)


def test_pixels_are_bounded(tmp_path: Path) -> None:
    write_frames(tmp_path / "clip", COUNT)
    small, few = ReadConfig(max_pixels=64 * 48 - 1), ReadConfig(max_pixels=64 * 48, video_frames=5)
    assert problem(tmp_path, small, videos=["clip"])[0] == "image_too_large"
    reason, said = problem(tmp_path, few, videos=["clip"])
    assert reason == "video_too_large"
    assert "5 frames of 'clip' have over 12,288 pixels" in said
    assert sample_of(tmp_path, ReadConfig(max_pixels=64 * 48, video_frames=4), videos=["clip"])


def test_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    write_video(tmp_path / "a.mp4", COUNT)
    large = ReadConfig(max_pixels=64 * 48 - 1)
    assert problem(tmp_path, large, videos=["a.mp4"])[0] == "video_too_large"
    assert problem(tmp_path, ReadConfig(max_pixels=64 * 48, video_frames=5), videos=["a.mp4"])[0] == "video_too_large"
    monkeypatch.setattr(videos, "MAX_VIDEO_BYTES", 100)
    assert "over 100" in problem(tmp_path, videos=["a.mp4"])[1]
    monkeypatch.undo()
    monkeypatch.setattr("seethink.data.video_files.MAX_FRAMES", 5)
    assert "over 5 frames" in problem(tmp_path, videos=["a.mp4"])[1]


@pytest.mark.parametrize("suffix", ["mp4", "webm"])
def test_damaged_files_are_bad_rows(tmp_path: Path, suffix: str) -> None:
    """Cut off, or with other bytes anywhere in it: frames or a RowError, and nothing else."""
    pytest.importorskip("av")
    whole = write_video(tmp_path / f"a.{suffix}", COUNT, codec="libvpx" if suffix == "webm" else "mpeg4").read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 25)):
        for data in (whole[:place], whole[:place] + b"\xff\x00" * 8 + whole[place + 16 :]):
            try:
                frames = check_video(data, None, FOUR).load()
            except VideoError:
                continue
            assert 1 <= len(frames) <= 4


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("av")
    write_video(tmp_path / "a.mp4", COUNT)
    names = write_frames(tmp_path / "clip", COUNT)
    of_file, of_frames = check_video("a.mp4", tmp_path, FOUR), check_video("clip", tmp_path, FOUR)
    write_video(tmp_path / "a.mp4", COUNT + 1)
    grey_frame(5, COUNT).save(tmp_path / "clip" / names[-1])
    for video in (of_file, of_frames):
        with pytest.raises(RowError, match="has changed since it was checked"):
            video.load()


def test_without_a_decoder_the_command_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a bad row: a share of them would be left out without a word."""
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x18ftypisom")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DataError, match=r"d.jsonl, row 1: the video 'a.mp4' needs PyAV .*seethink\[video\]"):
        result(tmp_path, row(videos=["a.mp4"]))


def test_where_videos_stand() -> None:
    one, two = clip(0, 2), clip(1, 2)
    picture = grey_frame(0, 2)

    def kinds(question: str, images: int = 0, videos: int = 0) -> list[str]:
        sample = Sample("s", question, (picture,) * images, videos=(one, two)[:videos])
        return [part.get("text", part["type"]) for part in content_parts(sample)]

    assert kinds("What?", 1, 2) == ["image", "video", "video", "What?"]
    assert kinds("Is <video> <image>?", 1, 1) == ["Is ", "video", " ", "image", "?"]
    assert kinds("Is <video> it?", 1, 1) == ["image", "Is ", "video", " it?"]
    assert kinds("Is <image> it?", 1, 1) == ["video", "Is ", "image", " it?"]
    assert kinds("Is <video> a tag?", 1) == ["image", "Is <video> a tag?"]
    assert kinds("<image>Is <video> a tag?", 1) == ["image", "Is <video> a tag?"]


def test_a_video_is_part_of_the_data(tmp_path: Path) -> None:
    one, same, other = (Sample("s", "what", videos=(clip(seed, 3),)) for seed in (0, 0, 1))
    assert fingerprint([one]) == fingerprint([same]) != fingerprint([other])
    assert fingerprint([Sample("s", "what")]) != fingerprint([one])
    assert question_key(one) == question_key(same) != question_key(other)
    longer, slower = (Sample("s", "what", videos=(video,)) for video in (clip(0, 4), clip(0, 3, fps=1.0)))
    assert sample_key(one) == sample_key(other)
    assert len({sample_key(s) for s in (one, longer, slower, Sample("s", "what"))}) == 4


def test_control_videos() -> None:
    samples = [Sample(str(seed), "what", videos=(clip(seed, 3),)) for seed in range(4)]
    (video,) = blanked(samples[0]).videos
    assert (video.size, video.seconds, video.duration) == (clip(0, 3).size, clip(0, 3).seconds, 1.5)
    assert {frame.getpixel((0, 0)) for frame in video.load()} == {(128, 128, 128)}
    partners = swapped(samples, (0,))
    assert all(p is not None and p.videos != s.videos for p, s in zip(partners, samples, strict=True))
    picture = Sample("picture", "what", (grey_frame(0, 2),))
    assert swapped([samples[0], picture], (0,)) == [None, None], "a video is no picture"
