"""Generators of several ranks: every rank gets all completions. In process each rank samples its share; vLLM servers are
asked by rank 0 for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seethink.core.types import Completion, Prompt
from seethink.data.prompts import prompt_lengths
from seethink.dist.agreement import from_all, from_main
from seethink.dist.dealing import deal
from seethink.dist.world import is_main, rank, world_size
from seethink.generate.protocol import Generator, Sampling

if TYPE_CHECKING:
    from seethink.generate.vllm import VllmGenerator


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


class MainGenerator:
    """Rank 0 asks the servers and gives them the weights; the others take part where weights are gathered.

    Every rank must call each method at the same place with the same arguments.
    """

    def __init__(
        self,
        make: Callable[[], VllmGenerator],
        weights: Callable[[bool], Iterator[tuple[str, Tensor]]],
        *,
        sleeps: bool = False,
    ) -> None:
        """`make` is called on rank 0. `weights` is what it pushes, as of `VllmGenerator`; iterating may be collective.
        `sleeps`: servers share the ranks' GPUs."""
        self._own = make() if is_main() else None
        self._weights, self._sleeps = weights, sleeps
        self.policy_version = 0

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
        def attempt() -> list[list[Completion]] | None:
            assert self._own is not None
            return self._own.attempt(prompts, group_size, sampling, seed, progress, places=places)

        return self._pushing(attempt)

    def begin(self, prompts: Sequence[Prompt], group_size: int, sampling: Sampling, seed: tuple[int, ...]) -> None:
        def start() -> None:
            assert self._own is not None
            self._own.begin(prompts, group_size, sampling, seed)

        from_main(start)

    def wait(self) -> float:
        def wait() -> float:
            assert self._own is not None
            return self._own.wait()

        return from_main(wait)

    def finish(self) -> list[list[Completion]]:
        def rest() -> list[list[Completion]] | None:
            assert self._own is not None
            return self._own.rest()

        return self._pushing(rest)

    def sleep(self) -> None:
        """Send the servers to sleep, on whose GPUs the ranks train; `load_weights` wakes them."""

        def send() -> None:
            assert self._own is not None
            self._own.sleep()

        from_main(send)

    def load_weights(self, version: int) -> None:
        self.policy_version = version
        if self._sleeps and torch.cuda.is_available():
            torch.cuda.empty_cache()  # what a step has left free belongs to the servers now
        if from_main(lambda: self._own is not None and self._own.wants_weights(version)):
            self._push()

    def close(self) -> None:
        if self._own is not None:
            self._own.close()

    def _pushing(self, attempt: Callable[[], list[list[Completion]] | None]) -> list[list[Completion]]:
        """What `attempt` gives on rank 0; where it gives None, a server wants the weights first."""
        while (groups := from_main(attempt)) is None:
            self._push()
        return groups

    def _push(self) -> None:
        is_whole = from_main(lambda: self._own is None or self._own.wants_whole())
        if self._own is not None:
            self._own.push(is_whole)
            return
        for _ in self._weights(is_whole):
            pass
