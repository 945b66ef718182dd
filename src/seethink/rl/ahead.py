"""Rollouts one step ahead: while an episode is trained on, servers sample the next one's completions.

What has been sampled and not yet trained on belongs to the state of a run: the weights that sampled it are gone, so
that a checkpoint holds the completions themselves.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from seethink.core.console import say
from seethink.core.types import Completion, Prompt, RolloutGroup
from seethink.data.chat import Chat
from seethink.generate.protocol import AheadGenerator
from seethink.rl.rollout import FirstRound, Rollouts

State = dict[str, Any]
"""JSON values."""


@dataclass(slots=True)
class _Held:
    """The first round of an episode that is not trained on yet."""

    step: int
    position: int
    """Of the prompts in the source."""
    prompts: list[Prompt]
    version: int
    """Of the weights that were asked for."""
    completions: list[list[Completion]]
    seconds: float = 0.0


class Ahead:
    """Samples the first round of each episode while the episode before is trained on."""

    def __init__(self, rollouts: Rollouts, generator: AheadGenerator, state: State | None = None) -> None:
        """`state` is that of a run that goes on, whose source of prompts is where it was."""
        self._rollouts, self._generator = rollouts, generator
        self._held = None if state is None else self._restored(state)

    def take(self, step: int) -> tuple[FirstRound, int] | None:
        """(what has been sampled for a step, version of the weights that it was asked of); None for the first step."""
        held, self._held = self._held, None
        if held is None:
            return None
        assert held.step == step
        groups = [RolloutGroup(*pair) for pair in zip(held.prompts, held.completions, strict=True)]
        return FirstRound(groups, held.seconds), held.version

    def begin(self, step: int) -> None:
        """Begin to sample for `step` in the background, from the weights that are served now."""
        rollouts = self._rollouts
        position = rollouts.source.position
        prompts = rollouts.take(step, rollouts.rollout.prompts_per_step)
        self._generator.begin(prompts, rollouts.rollout.group_size, rollouts.sampling(step), (rollouts.seed, step, 0))
        self._held = _Held(step, position, prompts, self._generator.policy_version, [])

    def wait(self) -> None:
        """Return when nothing is being sampled any more. New weights may be served then."""
        if self._held is not None:
            self._held.seconds = self._generator.wait()

    def finish(self) -> None:
        """Take the completions; what could not be sampled in the background is sampled now."""
        if self._held is not None:
            self._held.completions = self._generator.finish()

    def state(self) -> State:
        """What a checkpoint must hold, the position of the next prompts in place of the source's own."""
        held = self._held
        if held is None:
            return {"ahead": None}
        completions = [completion for group in held.completions for completion in group]
        return {
            "position": held.position,
            "ahead": {
                "request": self._request(held.step, held.prompts),
                "version": held.version,
                "seconds": held.seconds,
                "versions": [completion.policy_version for completion in completions],
                "truncated": [completion.truncated for completion in completions],
                "lengths": [len(completion.token_ids) for completion in completions],
                "token_ids": _packed([i for c in completions for i in c.token_ids], "<i4"),
                "logprobs": _packed([p for c in completions for p in c.generator_logprobs], "<f8"),
            },
        }

    def _request(self, step: int, prompts: Sequence[Prompt]) -> State:
        """What was asked for: completions of something else are of no use."""
        rollouts = self._rollouts
        sampling = asdict(rollouts.sampling(step))
        asked = [[prompt.sample.id, len(prompt.input_ids)] for prompt in prompts]
        return {
            "step": step,
            "seed": rollouts.seed,
            "prompts": asked,
            "group_size": rollouts.rollout.group_size,
            **{key: sampling[key] for key in ("max_new_tokens", "temperature", "top_p")},
        }

    def _restored(self, state: State) -> _Held | None:
        """What a checkpoint holds; None where the recipe or the data have changed since, so that it is sampled anew."""
        rollouts, wanted = self._rollouts, state["request"]
        source, step, group_size = rollouts.source, wanted["step"], rollouts.rollout.group_size
        position = source.position
        prompts = rollouts.take(step, rollouts.rollout.prompts_per_step)
        if self._request(step, prompts) != wanted:
            source.position = position
            say(f"what was sampled ahead for step {step + 1} was asked for otherwise than now: it is sampled again")
            return None
        completions = _unpacked(state, source.chat)
        groups = [completions[at : at + group_size] for at in range(0, len(completions), group_size)]
        return _Held(step, position, prompts, state["version"], groups, state["seconds"])


def _packed(values: Sequence[float], dtype: str) -> str:
    return base64.b64encode(np.asarray(values, dtype=dtype).tobytes()).decode()


def _unpacked(state: State, chat: Chat) -> list[Completion]:
    """Letter: R responses."""
    ends = np.cumsum(state["lengths"])[:-1]
    ids_R = np.split(np.frombuffer(base64.b64decode(state["token_ids"]), "<i4"), ends)
    logprobs_R = np.split(np.frombuffer(base64.b64decode(state["logprobs"]), "<f8"), ends)
    rows = zip(ids_R, logprobs_R, state["truncated"], state["versions"], strict=True)
    return [
        Completion(ids.tolist(), logprobs.tolist(), [], chat.decode((ids if cut else ids[:-1]).tolist()), cut, version)
        for ids, logprobs, cut, version in rows
    ]
