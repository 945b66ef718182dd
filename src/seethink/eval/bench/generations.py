"""What a model answered: one record per item and run, named by everything that it depends on.

Letters: N items, K runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from seethink.core.thinking import after_thinking
from seethink.data.images import image_sha256
from seethink.eval.bench.benchmark import Item

Finish = Literal["stop", "length", "refused", "not_asked"]
"""`length`: the limit cut it off; `refused`: the model or a filter declined; `not_asked`: the model cannot take it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How answers are sampled.

    Example: `Settings()` is the paper's protocol: temperature 1.0, 5 runs, 16,384 tokens (section 4).
    """

    protocol: str = "paper"
    temperature: float = 1.0
    top_p: float = 1.0
    runs: int = 5
    max_new_tokens: int = 16_384
    seed: int = 0
    blind: bool = False
    """Images are left out: what a model guesses from the words alone."""

    def sampling(self) -> dict[str, Any]:
        """What the text of one answer depends on."""
        return {"temperature": self.temperature, "top_p": self.top_p, "max_new_tokens": self.max_new_tokens,
                "seed": self.seed}  # fmt: skip


PROTOCOLS = {"paper": Settings(), "greedy": Settings("greedy", temperature=0.0, runs=1)}


@dataclass(frozen=True, slots=True)
class Generation:
    """One answer as the model wrote it."""

    key: str
    id: str
    run: int
    text: str
    reasoning: str
    """Thinking that a server returned apart from the text; "" where it is in the text."""
    finish: Finish
    tokens: int
    """Written, thinking included; 0 where a server does not count."""
    detail: str = ""
    """Why it was refused or not asked."""

    def record(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @property
    def answer(self) -> str | None:
        """What follows the thinking. None where there is none: a thought that never ends, or a text that the limit cut
        off before the thinking was closed, as thinking may have been opened by the template and not by the text."""
        if self.finish in ("refused", "not_asked"):
            return None
        after = after_thinking(self.text)
        if self.finish == "length" and (after is None or after == self.text) and not (self.reasoning and self.text):
            return None
        return after


def of_record(record: Mapping[str, Any]) -> Generation:
    """The generation that a stored record holds."""
    return Generation(**{name: record[name] for name in Generation.__dataclass_fields__})


def prompt_digest(item: Item) -> str:
    """A hash of what the model is shown: the texts, and the encoded images."""
    images = [image_sha256(image) for image in item.images]
    return _digest([item.system, item.question, images])


def generation_key(model: Mapping[str, Any], prompt: str, settings: Settings, place: int, run: int) -> str:
    """The name of an answer. `model` identifies weights, processor and template; `place` is the item's number."""
    return _digest([model, prompt, settings.sampling(), place, run])[:32]


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
