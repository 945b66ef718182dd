"""A checkpoint on this machine as the teacher: the way from an RL policy back to SFT data (paper 6.1)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from seethink.coldstart.questions import Question
from seethink.coldstart.teacher import Ask, Take, Told, told
from seethink.config.coldstart import ColdstartConfig
from seethink.core.errors import UserError
from seethink.core.types import Prompt
from seethink.generate.make import make_generator
from seethink.generate.protocol import Sampling
from seethink.models.load import load_model
from seethink.runs.identity import model_identity

STREAM = 2 * 10**6
"""Sets the random numbers of traces apart from those of training steps and of evaluation."""
AT_ONCE = 256
"""Questions whose answers are lost where the process is killed."""


class LocalTeacher:
    """Samples traces with the in-process decoder. What it draws is a function of question, number and seed alone."""

    system = ""

    def __init__(self, source: str, folder: Path, config: ColdstartConfig, seed: int) -> None:
        """`folder` has the pictures. Raises UserError for a model that cannot be loaded."""
        self._folder, self._config, self._seed = folder, config, seed
        self._loaded = load_model(source)
        self._generator = make_generator(self._loaded)
        self.identity: dict[str, Any] = {"local": model_identity(source) or source}
        self.name = source

    def ask(self, asks: Sequence[Ask], take: Take) -> None:
        for start in range(0, len(asks), AT_ONCE):
            self._ask_batch(asks[start : start + AT_ONCE], take)

    def rendered(self, question: Question) -> str:
        return self._loaded.chat.template_text(question.asked(self._folder))

    def close(self) -> None:
        self._generator.close()

    def _ask_batch(self, asks: Sequence[Ask], take: Take) -> None:
        prompts: list[tuple[Ask, Prompt]] = []
        for ask in asks:
            try:
                prompts.append((ask, self._prompt(ask.question)))
            except UserError as error:  # a special token as text, more images than the model takes
                take(ask, Told("failed", error=str(error)[:300]))
        for number in sorted({ask.number for ask, _ in prompts}):
            own = [(ask, prompt) for ask, prompt in prompts if ask.number == number]
            sampling = Sampling(self._config.max_tokens, self._config.temperature, self._config.top_p)
            places = [int(ask.question.key[:15], 16) for ask, _ in own]
            started = time.monotonic()
            groups = self._generator.generate(
                [prompt for _, prompt in own], 1, sampling, (self._seed, STREAM, number), places=places
            )
            seconds = round((time.monotonic() - started) / len(own), 4)
            for (ask, prompt), (completion,) in zip(own, groups, strict=True):
                tokens = len(prompt.input_ids), len(completion.token_ids)
                found = told(completion.text, cut_off=completion.truncated, latency_s=seconds)
                take(ask, replace(found, tokens_in=tokens[0], tokens_out=tokens[1]))

    def _prompt(self, question: Question) -> Prompt:
        """Raises UserError, also where prompt and trace together do not fit into the model."""
        prompt = self._loaded.chat.prompt(question.asked(self._folder))
        context = self._loaded.chat.context
        if context is not None and len(prompt.input_ids) + self._config.max_tokens > context:
            room = context - len(prompt.input_ids)
            raise UserError(
                f"a prompt of {len(prompt.input_ids)} tokens leaves {room} of the model's {context} positions for a "
                f"trace, less than coldstart.max_tokens={self._config.max_tokens}: lower it"
            )
        return prompt
