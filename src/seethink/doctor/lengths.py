"""Prompt lengths of every row, and the tokens of images and videos among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from seethink.core.types import Sample
from seethink.data.chat import Chat

BUCKETS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


class LengthMeter:
    """Counts like `chat.prompt_length`, many prompts at once, and knows the image tokens among them."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat

    def measure(self, samples: Sequence[Sample]) -> list[tuple[int, int] | Exception]:
        """(tokens of the prompt, those of images and videos among them) of each, or what the processor says."""
        found: list[tuple[int, int] | Exception] = []
        texts: dict[int, str] = {}
        for place, sample in enumerate(samples):
            try:
                texts[place] = self._chat.template_text(sample)
                found.append((0, self._chat.media_tokens(sample)))
            except Exception as error:  # processors raise what they like of images that they do not take
                texts.pop(place, None)
                found.append(error)
        for place, length in self._text_lengths(texts).items():
            of_images = found[place]
            assert isinstance(of_images, tuple)
            found[place] = (length + of_images[1], of_images[1])
        return found

    def _text_lengths(self, texts: dict[int, str]) -> dict[int, int]:
        """One call of the tokenizer for many texts: calls one by one wait for each other's threads."""
        lengths: dict[int, int] = {}
        for special in (True, False):
            places = [place for place, text in texts.items() if self._chat.wants_bos(text) is special]
            if places:
                ids = self._chat.tokenizer([texts[place] for place in places], add_special_tokens=special)["input_ids"]
                lengths |= {place: len(row) for place, row in zip(places, ids, strict=True)}
        return lengths

    def response_lengths(self, samples: Sequence[Sample]) -> list[int]:
        """Tokens of the responses that there are, the end of the turn included."""
        said = [sample.response for sample in samples if sample.response]
        if not said:
            return []
        return [len(row) + 1 for row in self._chat.tokenizer(said, add_special_tokens=False)["input_ids"]]


@dataclass
class Lengths:
    """Of the rows of one source, in tokens."""

    prompts: list[int] = field(default_factory=list)
    image_tokens: int = 0
    """And of videos."""
    responses: list[int] = field(default_factory=list)
    """One a row where the rows have responses; empty otherwise."""

    @property
    def longest(self) -> int:
        return max(self.prompts, default=0)

    @property
    def longest_response(self) -> int:
        return max(self.responses, default=0)

    def over(self, limit: int) -> int:
        return sum(length > limit for length in self.prompts)


def histogram(lengths: Sequence[int]) -> list[tuple[str, int]]:
    """(range, count) in doubling ranges, from the first that is filled to the last."""
    edges = (0, *BUCKETS)
    counts = [0] * len(edges)
    for length in lengths:
        counts[sum(length > edge for edge in BUCKETS)] += 1
    filled = [i for i, count in enumerate(counts) if count]
    if not filled:
        return []
    names = [*(f"{low + 1:,}-{high:,}" for low, high in zip(edges, BUCKETS, strict=False)), f"over {BUCKETS[-1]:,}"]
    return [(names[i], counts[i]) for i in range(filled[0], filled[-1] + 1)]


def quantiles(values: Sequence[float], shares: Sequence[float] = (0.0, 0.5, 0.95, 1.0)) -> list[float]:
    """Nearest-rank quantiles; [] of nothing."""
    ranked = sorted(values)
    return [ranked[min(int(share * len(ranked)), len(ranked) - 1)] for share in shares] if ranked else []
