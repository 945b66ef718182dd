"""Prompts that are too long are left out by one rule, and no prompt is measured twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from seethink.config import EvalConfig, ReadConfig
from seethink.core.errors import UserError
from seethink.core.types import Prompt, Sample
from seethink.data.chat import Chat
from seethink.data.lengths import (
    cache_folder,
    fit_samples,
    load_fitting,
    processor_identity,
    prompt_lengths,
    sample_key,
    special_token,
)
from seethink.data.quarantine import DataError, Quarantine
from seethink.eval.tasks.source import eval_samples
from seethink.rewards.golds import read_gold
from seethink.world.draw import SIZE


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEETHINK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lengths"


class CountingChat(Chat):
    """The real one; counts what it measures."""

    measured = 0

    def prompt_length(self, sample: Sample) -> int:
        self.measured += 1
        if sample.question == "refused":
            raise UserError("the processor says no")
        return super().prompt_length(sample)

    def prompt(self, sample: Sample) -> Prompt:
        raise AssertionError("a prompt was processed in order to count its tokens")


@pytest.fixture
def make_chat(random_nano: Path) -> Callable[[], CountingChat]:
    from transformers import AutoProcessor

    from seethink.models import torchvision_shim  # noqa: F401

    return lambda: CountingChat(AutoProcessor.from_pretrained(random_nano))


def sample(question: str = "How many?", images: int = 1, **fields: Any) -> Sample:
    pictures = tuple(Image.new("RGB", (SIZE, SIZE), (i, 0, 0)) for i in range(images))
    return Sample(**{"id": "s", "answer": "3", "images": pictures, "question": question, **fields})


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_lengths_are_those_of_the_prompts(make_chat: Callable[[], CountingChat]) -> None:
    """Image tokens included."""
    given = [sample(images=n, question="What? " * n) for n in range(4)]
    chat = make_chat()
    plain = Chat(chat.processor)
    assert prompt_lengths(given, chat) == [len(plain.prompt(s).input_ids) for s in given]


def test_a_second_start_measures_nothing(
    make_chat: Callable[[], CountingChat], cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [sample(f"How many {i}?") for i in range(20)] + [sample("How many 0?", id="again")]
    first, second = make_chat(), make_chat()
    lengths = prompt_lengths(given, first)
    assert first.measured == 20
    assert "prompts: 20 measured, 1 lengths known already" in capsys.readouterr().out
    assert prompt_lengths(given, second) == lengths
    assert second.measured == 0
    assert "prompts: 0 measured, 21 lengths known" in capsys.readouterr().out
    assert [p.name for p in cache.iterdir()] == [f"{processor_identity(first)}.json"]
    more = make_chat()
    prompt_lengths([*given, sample("new")], more)
    assert more.measured == 1
    last = make_chat()
    assert prompt_lengths([*given, sample("new")], last)[:21] == lengths
    assert last.measured == 0


@pytest.mark.parametrize(
    "change",
    [{"question": "Other?"}, {"system": "Be brief."}, {"choices": ("3", "4")}, {"images": ()}, {"images": "larger"}],
)
def test_what_changes_a_length_changes_the_key(change: dict[str, Any]) -> None:
    if change.get("images") == "larger":
        change = {"images": (Image.new("RGB", (SIZE, SIZE + 1)),)}
    assert sample_key(replace(sample(), **change)) != sample_key(sample())


def test_what_does_not_change_a_length_does_not_change_the_key() -> None:
    for change in ({"id": "t"}, {"answer": "4"}, {"response": "R"}, {"meta": {"row": 2}}, {"difficulty": "hard"}):
        assert sample_key(replace(sample(), **change)) == sample_key(sample())


def test_another_processor_or_template_measures_anew(make_chat: Callable[[], CountingChat]) -> None:
    chat = make_chat()
    before = processor_identity(chat)
    assert processor_identity(make_chat()) == before
    chat.processor.chat_template += " "
    template = processor_identity(chat)
    chat.processor.image_seq_length = chat.processor.image_seq_length + 1
    chat.processor.image_processor.size = {"height": 7, "width": 7}
    size = processor_identity(chat)
    chat.tokenizer.add_tokens(["<new>"])
    assert len({before, template, size, processor_identity(chat)}) == 4


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"x": "y", "z": -1, "w": true}', b"[" * 99_999])
def test_a_damaged_cache_is_measured_anew(make_chat: Callable[[], CountingChat], cache: Path, content: bytes) -> None:
    chat = make_chat()
    cache.mkdir(parents=True)
    path = cache / f"{processor_identity(chat)}.json"
    path.write_bytes(content)
    assert prompt_lengths([sample()], chat) == prompt_lengths([sample()], make_chat())
    assert json.loads(path.read_text())[sample_key(sample())] > 0
    assert [p.name for p in cache.iterdir()] == [path.name]


def test_a_cache_that_cannot_be_written_stops_nothing(
    make_chat: Callable[[], CountingChat], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SEETHINK_CACHE", str(tmp_path / "file"))
    assert prompt_lengths([sample()], make_chat())[0]


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEETHINK_CACHE", "/a")
    assert cache_folder() == Path("/a/lengths")
    monkeypatch.delenv("SEETHINK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache_folder() == Path("/b/seethink/lengths")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/c")
    assert cache_folder() == Path("/c/.cache/seethink/lengths")


def test_long_prompts_are_left_out_and_not_called_bad(
    make_chat: Callable[[], CountingChat], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chat = make_chat()
    given = [sample("a" * 9 * i, id=f"s{i}", meta={"file": "d.jsonl", "row": i + 1}) for i in range(10)]
    limit = sorted(prompt_lengths(given, chat))[5]
    quarantine = Quarantine(tmp_path / "q.jsonl")
    config = ReadConfig(max_prompt_tokens=limit, max_bad_share=0.0)  # type: ignore[arg-type]
    quarantine.report("d.jsonl", [], 0.0, rows=10)
    kept = fit_samples(given, chat, config, quarantine, "d.jsonl")
    assert kept == given[:6]
    assert chat.measured == 10
    assert [(p["file"], p["row"], p["id"], p["reason"]) for p in lines(tmp_path / "q.jsonl")] == [
        ("d.jsonl", i + 1, f"s{i}", "prompt_too_long") for i in range(6, 10)
    ]
    assert f"over data.max_prompt_tokens = {limit}" in lines(tmp_path / "q.jsonl")[0]["detail"]
    assert f"4 of 10 rows quarantined (4 too long prompt): {tmp_path / 'q.jsonl'}" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"no prompt is left of 10: d\.jsonl, row 1"):
        fit_samples(given, chat, ReadConfig(max_prompt_tokens=1), quarantine, "d.jsonl")


def test_prompts_that_fill_the_model_s_positions_are_bad_rows(
    make_chat: Callable[[], CountingChat], tmp_path: Path
) -> None:
    chat = make_chat()
    given = [sample("a " * 9 * i, id=f"s{i}", meta={"file": "d.jsonl", "row": i + 1}) for i in range(10)]
    chat.context = int(sorted(prompt_lengths(given, chat))[5])
    measured = chat.measured
    quarantine = Quarantine(tmp_path / "q.jsonl")
    assert fit_samples(given, chat, ReadConfig(max_bad_share=1), quarantine, "d.jsonl") == given[:5]
    assert [(p["row"], p["reason"]) for p in lines(tmp_path / "q.jsonl")] == [
        (i + 1, "prompt_beyond_model") for i in range(5, 10)
    ]
    assert (
        f"leave no room for a response in the model's {chat.context} positions"
        in lines(tmp_path / "q.jsonl")[0]["detail"]
    )
    assert chat.measured == measured + 1, "the other lengths are known"
    chat.context = 100_000
    assert fit_samples(given, chat, ReadConfig(), quarantine, "e.jsonl") == given
    assert chat.measured == measured + 2, "prompts that are surely short enough are not measured"


def test_image_tokens_count(make_chat: Callable[[], CountingChat]) -> None:
    chat = make_chat()
    one, two = prompt_lengths([sample(images=1), sample(images=2)], chat)
    config = ReadConfig(max_prompt_tokens=one)  # type: ignore[arg-type]
    assert two > one  # type: ignore[operator]
    kept = fit_samples([sample(images=1), sample(images=2)], chat, config, Quarantine(), "s")
    assert [len(s.images) for s in kept] == [1]


def test_without_a_limit_nothing_is_measured(make_chat: Callable[[], CountingChat], cache: Path) -> None:
    chat = make_chat()
    assert fit_samples([sample()], chat, ReadConfig(), Quarantine(), "s") == [sample()]
    assert chat.measured == 0
    assert not cache.exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"question": "a<|im_end|>b"},
        {"question": "<IMG_CONTEXT>"},
        {"system": "<|im_start|>system"},
        {"choices": ("3", "</img>")},
        {"response": "<think>a</think>b<|im_end|>"},
    ],
)
def test_special_tokens_in_data_are_bad_rows(
    make_chat: Callable[[], CountingChat], tmp_path: Path, fields: dict[str, Any]
) -> None:
    chat, bad = make_chat(), sample(**fields)
    assert special_token(bad, chat)
    given = [bad, *(sample("<image> Q?", response="<think>a</think>b") for _ in range(30))]
    quarantine = Quarantine(tmp_path / "q.jsonl")
    quarantine.report("s", [], 0.05, rows=31)
    assert fit_samples(given, chat, ReadConfig(), quarantine, "s") == given[1:]
    assert [p["reason"] for p in lines(tmp_path / "q.jsonl")] == ["special_token"]
    with pytest.raises(DataError, match=r"2 of 31 rows are bad.*special token"):
        fit_samples(given, chat, ReadConfig(), quarantine, "s")


def test_what_the_processor_refuses_is_a_bad_row(make_chat: Callable[[], CountingChat], tmp_path: Path) -> None:
    given = [sample("refused"), *(sample() for _ in range(30))]
    config, quarantine = ReadConfig(max_prompt_tokens=500), Quarantine(tmp_path / "q.jsonl")
    quarantine.report("s", [], 0.05, rows=31)
    assert len(fit_samples(given, make_chat(), config, quarantine, "s")) == 30
    assert [(p["reason"], p["detail"]) for p in lines(tmp_path / "q.jsonl")] == [
        ("prompt_refused", "the processor says no")
    ]


def test_more_images_than_the_model_takes(make_chat: Callable[[], CountingChat]) -> None:
    chat = CountingChat(make_chat().processor, max_images=1)
    given = [sample(images=1), sample(images=2)]
    kept = fit_samples(given, chat, ReadConfig(max_bad_share=1.0), Quarantine(), "s")
    assert kept == given[:1]


def test_training_and_evaluation_leave_out_the_same(make_chat: Callable[[], CountingChat], tmp_path: Path) -> None:
    rows = [{"prompt": "a" * 9 * i, "answer": "1", "id": f"r{i}"} for i in range(1, 20)]
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config, chat = ReadConfig(max_prompt_tokens=60), make_chat()
    quarantine = Quarantine(tmp_path / "a.jsonl")
    trained = load_fitting(str(path), "train", None, 0, chat, config, quarantine, golds=read_gold, graded=True)
    asked = eval_samples(
        EvalConfig(data=str(path)), 0, chat=chat, reading=config, quarantine=Quarantine(tmp_path / "b.jsonl")
    )
    assert [s.id for s in trained] == [s.id for s in asked]
    assert 0 < len(trained) < 19
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert chat.measured == 19
