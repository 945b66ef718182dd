"""The interface of a generator, which samples completions in this process or in a server.

Letters: P prompts, G completions per prompt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from seethink.core.errors import UserError
from seethink.core.types import Completion, Prompt


@dataclass(frozen=True, slots=True)
class Forbid:
    """No completion contains any of these sequences of token ids."""

    sequences: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class ThinkingBudget:
    """A completion that has not written `close` within its first `tokens` tokens must write `close_ids` next."""

    tokens: int
    close: str
    """The tag, such as `</think>`, which is found in the text however the tokens cut it."""
    close_ids: tuple[int, ...]
    """Token ids that write the tag."""


@dataclass(frozen=True, slots=True)
class ForkTemperature:
    """A temperature of its own at forks, and one elsewhere, besides that of the `Sampling`.

    A fork is a place where `ids` have a probability of `share` or more before anything is divided.
    """

    ids: tuple[int, ...]
    share: float
    forks: float = 1.0
    elsewhere: float = 1.0

    def __post_init__(self) -> None:
        """Raises UserError for temperatures that no token could be drawn with."""
        if not (0 < self.forks < math.inf and 0 < self.elsewhere < math.inf):
            raise UserError(f"temperatures at forks and elsewhere must be above 0: {self.forks}, {self.elsewhere}")


Rule = Forbid | ThinkingBudget | ForkTemperature


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw tokens; data alone, so that any engine can take it. `temperature=0` is greedy."""

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    rules: tuple[Rule, ...] = ()
    """Log-probs and entropies are those of the distribution that the rules leave."""
    watched_ids: tuple[int, ...] = ()
    """Tokens whose summed probability is recorded at every place (`Completion.watched_mass`)."""

    def __post_init__(self) -> None:
        """Raises UserError for values that no token could be drawn with."""
        if self.max_new_tokens < 1:
            raise UserError(f"max_new_tokens must be at least 1, not {self.max_new_tokens}")
        if not 0 <= self.temperature < math.inf:
            raise UserError(f"temperature must be 0 (greedy) or more, not {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p must be above 0 and at most 1, not {self.top_p}")


class Generator(Protocol):
    """Samples completions from one version of the policy's weights."""

    policy_version: int
    """Optimizer steps behind the weights that are served; every completion carries it."""

    def generate(
        self,
        prompts: Sequence[Prompt],
        group_size: int,
        sampling: Sampling,
        seed: tuple[int, ...],
        progress: Callable[[int], None] | None = None,
        *,
        places: Sequence[int] | None = None,
    ) -> list[list[Completion]]:
        """`group_size` completions per prompt, [P][G].

        The random numbers of completion (p, g) are a function of (seed, p, g) alone; where the prompts are some of a
        longer list, `places` are their p in it. `progress` is called with the number of prompts that have been finished
        since its last call.
        """
        ...

    def load_weights(self, version: int) -> None:
        """Serve the trainer's current weights, as version `version`."""
        ...

    def close(self) -> None:
        """Release all resources; the generator must not be used afterwards."""
        ...


class AheadGenerator(Generator, Protocol):
    """One that can sample in the background, while the trainer's weights change."""

    def begin(self, prompts: Sequence[Prompt], group_size: int, sampling: Sampling, seed: tuple[int, ...]) -> None:
        """Begin what `generate` does and return at once. No weights may be loaded before `wait` has returned."""
        ...

    def wait(self) -> float:
        """Return when nothing is being sampled any more; gives the seconds that sampling took."""
        ...

    def finish(self) -> list[list[Completion]]:
        """The completions, [P][G]. Those that could not be had from the weights of `begin` are sampled now, from the
        current ones, as their `policy_version` tells."""
        ...
