"""Prompts on demand: processed once while kept, and no more kept than there is room for."""

from __future__ import annotations

import torch

from seethink.core.types import Prompt, Sample
from seethink.data.prompts import PromptList, prompt_lengths


class CountingChat:
    """Prompts of 400 bytes of pixels; counts how often each is made."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.measured = 0

    def prompt(self, sample: Sample) -> Prompt:
        self.made.append(sample.id)
        return Prompt(sample, [1] * int(sample.id), {"pixel_values": torch.zeros(100)})

    def prompt_length(self, sample: Sample) -> int:
        self.measured += 1
        return int(sample.id)


def prompts(count: int, kept: int) -> tuple[PromptList, CountingChat]:
    chat = CountingChat()
    samples = [Sample(str(i), "Q?") for i in range(1, count + 1)]
    return PromptList(samples, chat, kept_bytes=400 * kept), chat  # type: ignore[arg-type]


def test_each_is_made_once_while_there_is_room() -> None:
    listed, chat = prompts(4, kept=4)
    assert [p.sample.id for p in listed] == ["1", "2", "3", "4"]
    assert listed[0] is listed[0]
    assert [p.sample.id for p in listed[1:3]] == ["2", "3"]
    assert chat.made == ["1", "2", "3", "4"]


def test_the_longest_unused_goes_first() -> None:
    listed, chat = prompts(3, kept=2)
    for place in (0, 1, 0, 2, 0, 1):
        assert listed[place].sample.id == str(place + 1)
    assert chat.made == ["1", "2", "3", "2"]


def test_one_larger_than_the_room_is_still_given() -> None:
    listed, _ = prompts(2, kept=0)
    assert [p.sample.id for p in listed] == ["1", "2"]


def test_lengths_need_no_pixels() -> None:
    listed, chat = prompts(3, kept=2)
    assert prompt_lengths(listed) == prompt_lengths(listed) == [1, 2, 3]
    assert chat.made == []
    assert chat.measured == 3
    assert prompt_lengths(listed[:]) == [1, 2, 3]
