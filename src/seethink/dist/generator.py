"""A generator whose prompts are dealt to the ranks; every rank gets all completions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from seethink.core.types import Completion, Prompt
from seethink.data.prompts import prompt_lengths
from seethink.dist.agreement import from_all
from seethink.dist.dealing import deal
from seethink.dist.world import rank, world_size
from seethink.generate.protocol import Generator, Sampling


class DealtGenerator:
    """Each rank samples its share of the prompts with its own engine.

    A completion's random numbers depend on the prompt's place among all, so that the tokens are those of one process.
    """

    def __init__(self, own: Generator, weights: Callable[[], AbstractContextManager[None]]) -> None:
        """`weights` makes the weights of the engine whole, where the ranks share them."""
        self._own, self._weights = own, weights

    @property
    def policy_version(self) -> int:
        return self._own.policy_version

    @policy_version.setter
    def policy_version(self, version: int) -> None:
        self._own.policy_version = version

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
        """As `Generator.generate`. Every rank must call it with the same prompts."""
        numbers = list(range(len(prompts))) if places is None else list(places)
        mine = deal(prompt_lengths(prompts), world_size())[rank()]
        with self._weights():
            groups = self._own.generate(
                [prompts[i] for i in mine],
                group_size,
                sampling,
                seed,
                progress=progress,
                places=[numbers[i] for i in mine],
            )
        found = {place: group for share in from_all(list(zip(mine, groups, strict=True))) for place, group in share}
        return [found[place] for place in range(len(prompts))]

    def load_weights(self, version: int) -> None:
        self._own.load_weights(version)

    def close(self) -> None:
        self._own.close()
