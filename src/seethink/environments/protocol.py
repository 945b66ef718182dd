"""What answers a model's turns. No tensor and no token is known here.

A model calls a tool by writing, anywhere in its turn, what Qwen's models and others write:

    <tool_call>{"name": "calculator", "arguments": {"expression": "3 * (4 + 5)"}}</tool_call>

and is answered by a user's turn:

    <tool_response>27</tool_response>

A turn without a call is the final one, and is graded. A call that cannot be read is answered by what is wrong with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from seethink.core.types import Sample

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class Step:
    """An environment's answer to one turn of the model.

    Example: `Step("<tool_response>27</tool_response>")`; `FINAL` after a turn that calls nothing.
    """

    text: str = ""
    """What the next user's turn says. It is data: special tokens in it are left out before the model sees it."""
    images: tuple[Image, ...] = ()
    """RGB pictures that stand before the text."""
    reward: float = 0.0
    """Added to the reward of the whole episode."""
    failed: bool = False
    """The turn called a tool that could not be used; the text says why."""
    done: bool = False
    """The model's turn was the final one; text and images are not shown."""


FINAL = Step(done=True)


class Environment(Protocol):
    """One episode's surroundings. Every completion has one of its own, so that nothing passes between episodes."""

    instructions: ClassVar[str]
    """For the system turn: what can be called, and how."""
    gives_images: ClassVar[bool]
    """Whether a step may hold images, which not every model takes in a later turn."""

    def reset(self, sample: Sample) -> None:
        """Begin an episode about this sample."""
        ...

    def step(self, text: str) -> Step:
        """Answer the model's turn. What a model wrote raises nothing; the answer is a function of the episode so far,
        so that a resumed run sees the same."""
        ...
