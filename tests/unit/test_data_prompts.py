"""The order in which RL takes its prompts."""

from __future__ import annotations

from typing import Any

import pytest

from seethink.core.errors import UserError
from seethink.core.types import Prompt, Sample
from seethink.rl.rollout import PromptSource, scheduled


class CountingChat:
    """Stands for the processor; counts how often each question is processed."""

    def __init__(self) -> None:
        self.processed: list[str] = []

    def prompt(self, sample: Sample) -> Prompt:
        self.processed.append(sample.question)
        return Prompt(sample, [1, 2], {})


def source(samples: list[Sample], position: int = 0) -> PromptSource:
    chat: Any = CountingChat()
    made = PromptSource(samples, chat, seed=5)
    made.position = position
    return made


def samples(count: int = 6) -> list[Sample]:
    levels = ("easy", "normal", "hard")
    return [Sample(id=str(i), question=f"q{i}", answer="1", difficulty=levels[i % 3]) for i in range(count)]


def taken(made: PromptSource, count: int, difficulties: tuple[str, ...] = ()) -> list[str]:
    return [prompt.sample.question for prompt in made.take(count, difficulties)]


def test_position_is_all_that_resuming_needs() -> None:
    whole = taken(source(samples()), 20)
    for position in (0, 1, 5, 6, 13):
        assert taken(source(samples(), position), 20 - position) == whole[position:]
    made = source(samples())
    assert taken(made, 3) + taken(made, 4) == whole[:7]
    assert made.position == 7


def test_an_epoch_shows_every_prompt_once() -> None:
    made = source(samples())
    assert sorted(taken(made, 6)) == sorted(taken(made, 6)) == [f"q{i}" for i in range(6)]


def test_images_are_processed_once() -> None:
    made = source(samples())
    taken(made, 30)
    assert sorted(made._prompts.chat.processed) == [f"q{i}" for i in range(6)]  # type: ignore[attr-defined]


def test_two_samples_with_one_id_stay_two() -> None:
    twins = [Sample(id="x", question=f"q{i}", answer="1") for i in range(4)]
    assert sorted(taken(source(twins), 4)) == ["q0", "q1", "q2", "q3"]


def test_a_curriculum_takes_its_difficulties_alone() -> None:
    assert set(taken(source(samples()), 8, ("hard",))) == {"q2", "q5"}
    assert set(taken(source(samples()), 8, ("easy", "hard"))) == {"q0", "q2", "q3", "q5"}
    with pytest.raises(UserError, match=r"names \['extreme'\], but the data has only \['easy', 'hard', 'normal'\]"):
        source(samples()).take(1, ("extreme",))


def test_schedules() -> None:
    schedule = ((0.5, 64), (0.0, 32), (0.75, 128))
    assert [scheduled(schedule, p, 1) for p in (0.0, 0.49, 0.5, 0.74, 0.75, 1.0)] == [32, 32, 64, 64, 128, 128]
    assert scheduled(((0.5, 64),), 0.4, 7) == 7
    assert scheduled((), 0.9, 7) == 7
