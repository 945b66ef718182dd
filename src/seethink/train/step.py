"""What the loop and its stages say to each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from seethink.entropy.meter import Tokens
from seethink.rl.rollout import Episode
from seethink.train.policy import Policy

Record = dict[str, Any]
"""One sample of a skipped step, in JSON values."""


@dataclass(slots=True)
class StepResult:
    """One finished step, before anything of it is written."""

    metrics: dict[str, float]
    """Hooks add theirs."""
    tokens: Tokens | None
    """The entropies of its responses' tokens; None where the update was not made."""
    faults: list[str] = field(default_factory=list)
    """What was not finite; the updates that it would have made were skipped."""
    blame: Callable[[], list[Record]] = list
    """The samples of a step with faults, with a word on each that is to blame."""
    episode: Episode | None = None
    """What was sampled; None in SFT."""


class Stage(Protocol):
    """SFT, GRPO or PPO: what one step does. A stage touches no file."""

    policy: Policy
    total_steps: int

    def step(self, number: int) -> StepResult:
        """Do step `number`, counted from 0."""
        ...

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold beside weights and optimizers, as JSON values."""
        ...
