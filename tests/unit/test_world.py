"""The world's items: deterministic, right by an oracle of their own, with splits that share nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256

import numpy as np
import pytest

from seethink.core.types import Sample
from seethink.world.digits import SPLITS, _pool, digit_ink, load_digits
from seethink.world.draw import COLORS, SIZE
from seethink.world.make import parse_source, world_samples
from seethink.world.questions import LETTERS, TASKS, Item, make_item
from seethink.world.scenes import DOMAINS, OTHER_DOMAINS, draw_scene, make_scene, owner

CELLS = [(domain, difficulty, task) for domain in DOMAINS for difficulty, tasks in TASKS.items() for task in tasks]
COLOR = f"({'|'.join(COLORS)})"


def items(domain: str, difficulty: str, task: str | None = None, count: int = 40) -> Iterator[Item]:
    rng = np.random.default_rng([7, list(DOMAINS).index(domain), list(TASKS).index(difficulty)])
    return (make_item(domain, difficulty, "train", rng, task=task) for _ in range(count))


def oracle(question: str, values: dict[str, int]) -> str:
    """The answer from the question's words and the scene's truth, without the code that wrote the question."""
    named = [values[color] for color in re.findall(rf"\b{COLOR}\b", question)]
    if question.startswith("Which is larger"):
        return max(re.findall(rf"\b{COLOR}\b", question), key=values.__getitem__)
    if "largest value minus the smallest" in question:
        return str(max(values.values()) - min(values.values()))
    if "sum of all" in question:
        return str(sum(values.values()))
    if not named:
        return str((max if "largest" in question else min)(values.values()))
    signs = [1, *(1 if word == "plus" else -1 for word in re.findall(r"\b(plus|minus)\b", question))]
    return str(sum(sign * value for sign, value in zip(signs, named, strict=True)))


@pytest.mark.parametrize(("domain", "difficulty", "task"), CELLS)
def test_answers_agree_with_the_oracle(domain: str, difficulty: str, task: str) -> None:
    for item in items(domain, difficulty, task):
        expected = oracle(item.question.text, item.scene.values)
        assert item.question.answer == expected, item.question.text
        gold = item.choices[LETTERS.index(item.answer)] if item.choices else item.answer
        assert gold == expected


@pytest.mark.parametrize(("domain", "difficulty"), [(d, level) for d in DOMAINS for level in TASKS])
def test_items_are_well_formed(domain: str, difficulty: str) -> None:
    spec = DOMAINS[domain]
    made = list(items(domain, difficulty, count=60))
    assert {item.task for item in made} == set(TASKS[difficulty])
    assert 0.25 < np.mean([bool(item.choices) for item in made]) < 0.75
    for item in made:
        assert item.image.size == (SIZE, SIZE)
        assert item.image.mode == "RGB"
        assert all(spec.low <= value <= spec.high for value in item.scene.values.values())
        assert set(item.question.used) <= set(item.scene.values)
        if item.choices:
            assert len(set(item.choices)) == len(item.choices) <= len(LETTERS)
            assert item.choices.count(item.question.answer) == 1
            assert item.prompt.splitlines()[1:] == [
                f"{letter}. {c}" for letter, c in zip(LETTERS, item.choices, strict=False)
            ]


@pytest.mark.slow
def test_the_right_option_is_at_every_place_equally_often() -> None:
    made = [item for level in TASKS for item in items("math", level, count=600) if len(item.choices) == 4]
    counts = np.array([sum(item.answer == letter for item in made) for letter in LETTERS])
    expected = len(made) / 4
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert chi_square < 16.3, counts  # 0.1% of a chi-square with 3 degrees of freedom


@pytest.mark.slow
def test_options_are_exchangeable() -> None:
    """The right option's rank among the options is uniform: it is not the largest, the smallest or in the middle."""
    made = [i for d in DOMAINS for i in items(d, "normal", count=300) if len(i.choices) == 4]
    ranks = [sorted(map(int, i.choices)).index(int(i.question.answer)) for i in made]
    counts = np.bincount(ranks, minlength=4)
    expected = len(made) / 4
    assert float(((counts - expected) ** 2 / expected).sum()) < 16.3, counts


def pixels(sample: Sample) -> bytes:
    return sample.images[0].tobytes()


def test_a_seed_gives_the_same_samples() -> None:
    one, two = (world_samples("world:all:traces", "train", 60, 3) for _ in range(2))
    assert [pixels(s) for s in one] == [pixels(s) for s in two]
    assert [(s.id, s.question, s.answer, s.response) for s in one] == [
        (s.id, s.question, s.answer, s.response) for s in two
    ]
    other = world_samples("world:all:traces", "train", 60, 4)
    assert not {pixels(s) for s in one} & {pixels(s) for s in other}


def test_an_item_does_not_depend_on_what_is_asked_for_beside_it() -> None:
    alone = world_samples("world:dice", "test", 5, 0)
    among = [s for s in world_samples("world:all:traces", "test", 5 * len(DOMAINS), 0) if s.domain == "dice"]
    assert [(s.id, s.question, s.answer, pixels(s)) for s in alone] == [
        (s.id, s.question, s.answer, pixels(s)) for s in among
    ]


def test_domains_and_difficulties_take_turns() -> None:
    samples = world_samples("world:all", "val", 36, 0)
    cells = {(s.domain, s.difficulty) for s in samples}
    assert cells == {(domain, difficulty) for domain in DOMAINS for difficulty in TASKS}
    assert len({s.id for s in samples}) == 36


@pytest.mark.slow
def test_splits_share_no_picture_and_no_content() -> None:
    seen = {split: {pixels(s) for s in world_samples("world:all", split, 300, 0)} for split in SPLITS}
    assert all(len(images) == 300 for images in seen.values()), "a picture was drawn twice"
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["val"]
    assert not seen["val"] & seen["test"]


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("split", SPLITS)
def test_a_drawn_scene_belongs_to_its_split(domain: str, split: str, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = []

    def recording_owner(content: object) -> str:
        contents.append(content)
        return owner(content)

    monkeypatch.setattr("seethink.world.scenes.owner", recording_owner)
    rng = np.random.default_rng(5)
    drawn = 0
    for _ in range(30):
        if draw_scene(make_scene(domain, 3, rng), split, rng) is not None:  # type: ignore[arg-type]
            drawn += 1
            assert owner(contents[-1]) == split
    assert drawn > 15


def test_ownership_is_stable_and_shared_out_as_declared() -> None:
    shares = dict.fromkeys(SPLITS, 0)
    for i in range(3000):
        shares[owner(["math", {"red": i % 10}, [[0, i]]])] += 1
    assert shares["train"] == pytest.approx(2400, abs=120)
    assert shares["val"] == pytest.approx(300, abs=80)
    assert owner(["math", {"red": 3}, [[0, 17]]]) == owner(["math", {"red": 3}, [[0, 17]]])


def test_a_scene_nobody_lets_the_split_have_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seethink.world.scenes.owner", lambda content: "train")
    rng = np.random.default_rng(0)
    assert draw_scene(make_scene("math", 2, rng), "test", rng) is None


def test_splits_share_no_handwritten_digit() -> None:
    ink = {split: {digit.tobytes() for value in _pool(split) for digit in value} for split in SPLITS}
    assert not ink["train"] & ink["test"]
    assert not ink["train"] & ink["val"]
    assert not ink["val"] & ink["test"]
    assert sum(len(value) for split in SPLITS for value in _pool(split)) == 1797


def test_the_digits_are_the_published_ones() -> None:
    """The hashes are of scikit-learn 1.9.1's copy of the set, as bytes."""
    ink, labels = load_digits()
    assert ink.shape == (1797, 8, 8)
    assert sha256(ink.tobytes()).hexdigest() == "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3"
    assert sha256(labels.tobytes()).hexdigest() == "8ba4f891220f5e4c9c819638d1602d74b83618f167043c6da52a2a247841ddf0"


def test_digit_ink_shows_the_value_asked_for() -> None:
    values = {(ink / 16).astype(np.float32).tobytes(): label for ink, label in zip(*load_digits(), strict=True)}
    rng = np.random.default_rng(0)
    for value in range(10):
        for split in SPLITS:
            assert values[digit_ink(split, value, rng)[1].tobytes()] == value


def test_the_picture_shows_the_values() -> None:
    """Charts measured in pixels: the height of a bar is its value."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        scene = make_scene("charts", 2, rng)
        image = draw_scene(scene, "train", rng)
        if image is None:
            continue
        picture = np.asarray(image, dtype=int)
        for name, value in scene.values.items():
            near = np.abs(picture - np.array(COLORS[name])).max(axis=-1) < 40
            assert near.any(axis=1).sum() == pytest.approx(5 * value, abs=1.5)


def test_sources() -> None:
    assert parse_source("world:math") == (("math",), False)
    assert parse_source("world:math,dice:traces") == (("math", "dice"), True)
    assert parse_source("world:all")[0] == tuple(DOMAINS)
    assert parse_source("world:other")[0] == OTHER_DOMAINS
    assert len(OTHER_DOMAINS) >= 5
    with pytest.raises(ValueError, match="no domain 'maths'; choose from math, charts"):
        parse_source("world:maths")
    with pytest.raises(ValueError, match="only ':traces' may follow, found 'trace'"):
        parse_source("world:math:trace")
    with pytest.raises(ValueError, match="splits train, val, test, not 'dev'"):
        world_samples("world:math", "dev", 1, 0)
