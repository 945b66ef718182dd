"""The data that passes between stages. Every field states its shape and meaning.

Shape letters: P prompts, G completions per prompt (group), T tokens, B rows of a micro-batch, N images.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


class ImageRef(Protocol):
    """An image that lies somewhere else, so that no data set sits decoded in memory."""

    @property
    def sha256(self) -> str: ...
    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        ...

    def load(self) -> Image:
        """The RGB picture. Raises an error of its own where the file has changed."""
        ...


class VideoRef(Protocol):
    """A video as the frames that were sampled of it, which lie somewhere else."""

    @property
    def sha256(self) -> str:
        """Of the encoded file and the places of the frames, or of the frames' files."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of every frame, in pixels."""
        ...

    @property
    def seconds(self) -> tuple[float, ...]:
        """When each frame is shown, from the beginning of the video."""
        ...

    @property
    def duration(self) -> float:
        """Seconds of the whole video."""
        ...

    def load(self) -> list[Image]:
        """The frames as RGB pictures of one size. Raises an error of its own where the file has changed."""
        ...


class Verdict(StrEnum):
    """What a grader says. `ERROR` means "could not be graded": masked, never scored 0."""

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Grade:
    """One graded response.

    Example: `Grade(Verdict.CORRECT, extracted="12", reason="number: 12 = 12")`
    """

    verdict: Verdict
    extracted: str | None
    """The short answer found in the response, or None."""
    reason: str
    """One line for people: which rule decided, on what."""
    score: float | None = None
    """Accuracy from 0 to 1 where a reward function gives partial credit; None: the verdict's own."""

    @property
    def accuracy(self) -> float:
        """The score, else 1 for a correct response and 0 for any other; NaN for an error, which is masked."""
        if self.verdict is Verdict.ERROR:
            return float("nan")
        return float(self.verdict is Verdict.CORRECT) if self.score is None else self.score


@dataclass(frozen=True, slots=True)
class Sample:
    """One question about zero or more images and videos.

    Example: `Sample(id="math-0-17", question="What is red plus blue?", images=(img,), answer="9")`
    """

    id: str
    question: str
    """Plain text of the user's turn. Images come first unless it holds `<image>` marks, one an image."""
    images: tuple[Image | ImageRef, ...] = ()
    """Decoded (the world's), or references that `pictures` loads: no data set sits decoded in memory."""
    answer: str = ""
    """The gold answer: a letter where `choices` is given, else free text; of several, the JSON text of their list."""
    choices: tuple[str, ...] = ()
    """Option texts in the order A, B, C, ...; empty for fill-in-the-blank."""
    answer_type: str | None = None
    """The kind of answer, as the grader names it (`number`, `interval_set`, ...); None: told from the gold."""
    domain: str = "default"
    difficulty: str = "normal"
    response: str | None = None
    """A whole assistant turn to imitate (a trace or a caption); None for RL and evaluation."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Where the row came from (`file`, `row`), and what a data set says besides."""
    system: str = ""
    """The system turn; "" for none of its own."""
    videos: tuple[VideoRef, ...] = ()
    """Videos stand before the text, after the images, unless it holds `<video>` marks, one a video."""

    def pictures(self) -> list[Image]:
        """The images as RGB pictures, loaded where they are references. Raises ImageError where one has changed."""
        from PIL.Image import Image

        return [image if isinstance(image, Image) else image.load() for image in self.images]


@dataclass(slots=True)
class Prompt:
    """A tokenized user turn with its image tensors, ready for prefill.

    Example: 16 image tokens and a short question give `input_ids` of about 45 tokens and
    `mm_kwargs = {"pixel_values": [1, 3, 56, 56]}`.
    """

    sample: Sample
    input_ids: list[int]
    """[T] token ids up to and including the assistant header."""
    mm_kwargs: dict[str, Tensor]
    """What the processor made of images and videos, passed to the model untouched; empty for text only."""
    rope_ids: Tensor | None = None
    """[3, T] positions by time, height and width (M-RoPE); None where positions simply count."""
    turns: tuple[tuple[list[int], Reply], ...] = ()
    """In a later turn of a conversation: what the model has said, and how it was answered. All are in `input_ids`."""

    def pictures(self) -> list[Image]:
        """The images of the sample, then those of the answers."""
        return [*self.sample.pictures(), *(picture for _, reply in self.turns for picture in reply.images)]


@dataclass(frozen=True, slots=True)
class Reply:
    """What an environment said between two turns of the model."""

    at: int
    """How many of the completion's own tokens come before it."""
    token_ids: list[int]
    """[R] the end of the model's turn where it did not write it, the user's turn, and the assistant header."""
    text: str
    images: tuple[Image, ...] = ()
    mm_kwargs: dict[str, Tensor] = field(default_factory=dict)
    """What the processor made of the images."""
    failed: bool = False
    """The turn before it called a tool that could not be used."""


@dataclass(slots=True)
class Completion:
    """One sampled response, or with `replies` the model's side of a conversation.

    Example: `Completion(token_ids=[5, 9, 2], generator_logprobs=[-0.1, -2.0, -0.3], ...)`
    """

    token_ids: list[int]
    """[T] sampled ids, the end-of-turn token included unless truncated; with replies those of all turns."""
    generator_logprobs: list[float]
    """[T] log-probability of each sampled token at the sampling temperature, before top-p."""
    entropies: list[float]
    """[T] entropy, in nats over the whole vocabulary, of the distribution each token was drawn from."""
    text: str
    """Decoded response, special tokens of the chat template removed; with replies the last turn alone."""
    truncated: bool
    """True when the length limit ended it rather than an end-of-turn token."""
    policy_version: int
    """Optimizer steps behind the weights that sampled it."""
    reward: float = float("nan")
    """0.8 accuracy + 0.2 format by default; NaN when the grade is an error (masked)."""
    reward_parts: dict[str, float] = field(default_factory=dict)
    grade: Grade | None = None
    advantage: float = 0.0
    watched_mass: list[float] = field(default_factory=list)
    """[T] summed probability of the watched tokens where each token was drawn; empty where none are watched."""
    image_kl: list[float] = field(default_factory=list)
    """[T] KL, in nats, of each token's distribution to that with a grey picture; empty where it was not asked for."""
    replies: list[Reply] = field(default_factory=list)
    """What an environment said between the model's turns; empty for a single turn."""
    rope_ids: Tensor | None = None
    """[3, tokens before the last turn] positions with M-RoPE and replies, else None."""
    environment_reward: float = 0.0
    """The environment's part of the reward, over all turns."""

    @property
    def length(self) -> int:
        """Tokens after the prompt: sampled ones and replies."""
        return len(self.token_ids) + sum(len(reply.token_ids) for reply in self.replies)


@dataclass(slots=True)
class RolloutGroup:
    """The G completions of one prompt."""

    prompt: Prompt
    completions: list[Completion]

    @property
    def rewards(self) -> list[float]:
        return [completion.reward for completion in self.completions]


@dataclass(slots=True)
class Prefix:
    """Prompts that go through the model once for all their responses; padded on the left."""

    input_ids: Tensor
    """[P, T]"""
    attention_mask: Tensor
    """[P, T] 0 on the padding, else 1."""
    position_ids: Tensor
    """[P, T], or [3, P, T] with M-RoPE; 0 on the padding."""
    mm_kwargs: dict[str, Tensor]
    """Image tensors of all prompts, in order."""

    def to(self, device: Any) -> Prefix:
        """The same prompts on another device; itself where it is there already."""
        if self.input_ids.device == device:
            return self
        images = {key: value.to(device) for key, value in self.mm_kwargs.items()}
        ids, mask, positions = self.input_ids.to(device), self.attention_mask.to(device), self.position_ids.to(device)
        return Prefix(ids, mask, positions, images)


@dataclass(slots=True)
class Microbatch:
    """Packed sequences, several to a row; a row's `position_ids` restart at 0 where a sequence starts.

    With a `prefix`, the rows are responses alone, one each, whose positions go on from their prompt's.

    Example: two sequences of 3 and 2 tokens in one row of 6 ->
    `position_ids = [[0, 1, 2, 0, 1, 0]]`, `loss_mask` False on prompts and on the final pad.
    """

    input_ids: Tensor
    """[B, T] long; pad id where unused."""
    position_ids: Tensor
    """[B, T] long; restarts at every sequence, and at the padding."""
    rope_ids: Tensor | None
    """[3, B, T] long with M-RoPE, else None."""
    loss_mask: Tensor
    """[B, T] bool: True where the token at this place is a target of the loss."""
    mm_kwargs: dict[str, Tensor]
    """Image tensors of all sequences, row by row, in order; empty when no sequence has an image."""
    generator_logprobs: Tensor
    """[B, T] float, of the token at this place under the policy that sampled it; 0 outside RL and loss_mask."""
    advantages: Tensor
    """[B, T] float; 0 outside RL and loss_mask."""
    weights: Tensor
    """[B, T] float: the token's share, so that the loss of a step is the sum of weights * per-token loss."""
    sequence_ids: Tensor
    """[B, T] long: which sequence of the whole batch a token belongs to; -1 on padding."""
    prefix: Prefix | None = None
    """The prompts of the rows, where prompts are shared; consecutive micro-batches have the same object."""
    prefix_rows: Tensor | None = None
    """[B] long: which prompt of `prefix` a row follows."""
    old_logprobs: Tensor | None = None
    """[N] of the loss tokens before the step's first update; None where the policy is the one that sampled them."""
    reference_logprobs: Tensor | None = None
    """[N] under the starting model; None without a KL term."""
    old_values: Tensor | None = None
    """[N] the critic's before the step's first update; None without a critic."""
    returns: Tensor | None = None
    """[N] what the critic learns; None without a critic."""
    idle: bool = False
    """Run so that ranks have equal work (dist/padding.py); what comes out of it counts for nothing."""

    def to(self, device: Any) -> Microbatch:
        """The same micro-batch on another device."""
        moved: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        moved["mm_kwargs"] = {key: value.to(device) for key, value in self.mm_kwargs.items()}
        return Microbatch(**{k: v.to(device) if hasattr(v, "to") else v for k, v in moved.items()})
