"""Who answers: chunks of the in-process decoder, prompts that a model cannot take, messages with images in place."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from helpers.benchmarks import png
from seethink.core.errors import UserError
from seethink.core.types import Completion
from seethink.data.images import check_image
from seethink.eval.bench.answerers import CHUNK, InProcess, Work, _requests, first_turns
from seethink.eval.bench.benchmark import Item
from seethink.eval.bench.generations import Settings
from seethink.generate.protocol import Sampling

SETTINGS = Settings(runs=2, max_new_tokens=50)


class Recording:
    """A generator that writes down what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[int], int, tuple[int, ...], int]] = []

    def generate(
        self, prompts: Sequence[Any], runs: int, sampling: Sampling, seed: tuple[int, ...], *, places: Sequence[int]
    ) -> list[list[Completion]]:
        self.calls.append((list(places), runs, seed, sampling.max_new_tokens))
        return [[Completion([1] * 3, [], [], f"{place}/{run}", run == 1, 0) for run in range(runs)] for place in places]


def answerer(lengths: dict[str, int], context: int | None = 100) -> tuple[InProcess, Recording]:
    def length(sample: Any) -> int:
        if lengths[sample.id] < 0:
            raise UserError("2 images; this model takes at most 1")
        return lengths[sample.id]

    generator = Recording()
    loaded = SimpleNamespace(chat=SimpleNamespace(prompt_length=length, context=context))
    return InProcess(loaded, generator), generator  # type: ignore[arg-type]


def work(count: int, missing: dict[int, list[int]] | None = None) -> Work:
    items = [Item(str(n), f"Question {n}", "A") for n in range(count)]
    absent = missing if missing is not None else {n: [0, 1] for n in range(count)}
    keys = {n: {run: f"{n}-{run}" for run in runs} for n, runs in absent.items()}
    return Work("made", items, [10 * n for n in range(count)], keys)


def test_chunks_go_by_length_and_do_not_depend_on_what_is_missing() -> None:
    count = CHUNK + 5
    lengths = {str(n): 50 - n % 7 for n in range(count)}
    model, generator = answerer(lengths)
    made = [one for part in model.answers(work(count), SETTINGS) for one in part]
    assert len(made) == 2 * count
    assert {one.key for one in made} == {f"{n}-{run}" for n in range(count) for run in (0, 1)}
    assert {(one.finish, one.run) for one in made} == {("stop", 0), ("length", 1)}
    assert [len(places) for places, *_ in generator.calls] == [CHUNK, 5]
    asked = [lengths[str(place // 10)] for places, *_ in generator.calls for place in places]
    assert asked == sorted(asked)
    again, other = answerer(lengths)
    last = generator.calls[1][0][0] // 10
    (part,) = again.answers(work(count, {last: [1]}), SETTINGS)
    assert [(one.id, one.run, one.text) for one in part] == [(str(last), 1, f"{10 * last}/1")]
    assert other.calls == generator.calls[1:]  # the whole chunk again, and only it


def test_prompts_that_the_model_cannot_take_are_said_and_not_asked() -> None:
    model, generator = answerer({"0": 5, "1": 100, "2": -1, "3": 80})
    made = {one.key: one for part in model.answers(work(4), SETTINGS) for one in part}
    assert made["1-0"].finish == made["2-1"].finish == "not_asked"
    assert made["1-0"].detail == "the prompt has 100 tokens, and the model knows 100 positions"
    assert "at most 1" in made["2-0"].detail
    assert generator.calls[0][0] == [0, 30]
    assert generator.calls[0][3] == 20  # what is left of the model's positions


def test_images_stand_where_their_marks_are_and_first_without() -> None:
    refs = tuple(check_image(png(tone), None) for tone in range(2))
    marked = Item("i", "A <image> and <image>?", "A", images=refs, system="Think.")  # type: ignore[arg-type]
    system, user = first_turns(marked)
    assert system == {"role": "system", "content": "Think."}
    assert [part["type"] for part in user["content"]] == ["text", "image_url", "text", "image_url", "text"]
    (bare,) = first_turns(Item("i", "Which?", "A", images=refs))  # type: ignore[arg-type]
    assert [part["type"] for part in bare["content"]] == ["image_url", "image_url", "text"]


def test_the_runs_of_an_item_share_its_written_images() -> None:
    items = [Item(str(n), f"Question {n}", "A", (check_image(png(n), None),)) for n in range(2)]
    work = Work("mini", items, [5, 6], {0: {0: "a", 1: "b"}, 1: {1: "c"}})
    asked = list(_requests(work, SETTINGS))
    assert [one.key for one in asked] == ["a", "b", "c"]
    assert asked[0].messages is asked[1].messages
    assert b"Question 0" in asked[0].messages
    assert len({one.settings.seed for one in asked}) == 3
