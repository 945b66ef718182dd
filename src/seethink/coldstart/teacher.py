"""What a teacher is asked and what comes back. A teacher never sees a gold answer: what it is given holds none."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from seethink.coldstart.questions import Question

State = Literal["done", "truncated", "empty", "refused", "failed"]
"""`done` alone is a trace. `failed`: the server gave no answer, and the question may be asked again."""

LOCAL = "local:"
"""Begins the name of a teacher that is a checkpoint on this machine."""
SYSTEM = (
    "Look at the image closely and solve the problem. First reason step by step inside <think> and </think>. After "
    "</think> summarise the solution briefly and state the final answer in \\boxed{}; for a multiple-choice question "
    "the letter of the right option."
)
"""Asked of a server where `coldstart.system` says nothing."""

_THINKING = r"(?:seed:)?(?:think(?:ing)?|thoughts?|reasoning)"
_DIALECT = re.compile(rf"<(/)?{_THINKING}>|\[(/)?(?:think|thinking|thought|reasoning)\]|◁(/)?think▷", re.I)


@dataclass(frozen=True, slots=True)
class Ask:
    """One sample of one question."""

    key: str
    question: Question
    number: int
    """Which sample of the question it is, from 0."""


@dataclass(frozen=True, slots=True)
class Told:
    """What came back."""

    state: State
    text: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    """As the teacher counts them; None where it does not say."""
    latency_s: float | None = None
    model: str | None = None
    """The name that the server answers under."""
    server: str | None = None
    error: str | None = None


Take = Callable[[Ask, Told], None]


class Teacher(Protocol):
    """A model that writes traces."""

    name: str

    @property
    def identity(self) -> dict[str, Any]:
        """What its traces depend on besides the sampling; part of every trace's key."""
        ...

    @property
    def system(self) -> str:
        """The system text where the recipe gives none."""
        ...

    def ask(self, asks: Sequence[Ask], take: Take) -> None:
        """Ask everything; each answer is handed to `take` as soon as it is there, in any order."""
        ...

    def rendered(self, question: Question) -> str:
        """What the teacher is sent about a question, as text for people."""
        ...

    def close(self) -> None: ...


def one_form(text: str, reasoning: str | None = None) -> str:
    """A response as `<think>...</think>` and an answer, however the teacher marks its thoughts.

    Thoughts may come apart from the text, in another dialect's tags, or with their closing tag alone, where the chat
    template has written the opening one.

    >>> one_form("So 7.</think>The answer is 7."), one_form("7", "3 and 4.")
    ('<think>So 7.</think>The answer is 7.', '<think>3 and 4.</think>7')
    """
    if reasoning and reasoning.strip():
        return f"<think>{_tags(reasoning)}</think>{_tags(text)}"
    text = _DIALECT.sub(lambda tag: "</think>" if any(tag.groups()) else "<think>", text).strip()
    if "</think>" in text and "<think>" not in text:
        text = f"<think>{text}"
    return text


def _tags(text: str) -> str:
    """Without tags of its own: the server has told thought and answer apart."""
    return _DIALECT.sub("", text).strip()


def told(text: str, *, cut_off: bool, refused: bool = False, reasoning: str | None = None, **about: Any) -> Told:
    """A reply as what it is: a trace, or why it is none."""
    form = one_form(text, reasoning)
    state: State = "refused" if refused else "truncated" if cut_off else "done" if text.strip() else "empty"
    return Told(state, form, **about)
