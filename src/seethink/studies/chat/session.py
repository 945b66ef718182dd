"""One model answers one question after another about one picture, token by token."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from seethink.config import LogConfig, ToolConfig
from seethink.core.errors import UserError
from seethink.core.types import Completion, Sample
from seethink.data.images import ImageRef, check_image
from seethink.environments.protocol import Step
from seethink.generate.conversations import ConversationGenerator, introduced, with_environment
from seethink.generate.in_process.generator import InProcessGenerator
from seethink.generate.protocol import Sampling
from seethink.models.load import LoadedModel
from seethink.studies.chat.stream import Show, TokenStream
from seethink.studies.modes.inference_modes import MODES, ModesConfig, Variant, mode_rules, without_think

STREAM = 3 * 10**6
"""Sets the random numbers of a chat apart from those of training, evaluation and traces."""


class ChatSession:
    """A model, a picture and an inference mode. Questions are independent: none sees an earlier one or its answer."""

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        max_new_tokens: int = 512,
        temperature: float = 1.0,
        seed: int = 0,
        tools: ToolConfig | None = None,
    ) -> None:
        """Raises UserError where the model cannot take the tool's turns."""
        self._loaded, self._generator = loaded, InProcessGenerator(loaded)
        self._tools = tools or ToolConfig()
        loaded.chat = introduced(self._tools, loaded.chat)
        self._asking = with_environment(self._tools, self._generator, loaded.chat)
        self._max_new_tokens, self._temperature, self._seed = max_new_tokens, temperature, seed
        self._asked = 0
        self._variant = Variant("slow")
        self.images: tuple[ImageRef, ...] = ()

    @property
    def mode(self) -> str:
        return self._variant.label

    def show_image(self, file: str) -> None:
        """Ask about this picture from now on; "" for none. Raises UserError where it cannot be read."""
        path = Path(file).expanduser()
        image = check_image(path.name, path.parent) if file else None
        self.images = (image,) if isinstance(image, ImageRef) else ()

    def use_mode(self, mode: str) -> None:
        """`slow`, `nothink`, `nowait`, or a number of thinking tokens. Raises UserError."""
        if self._tools.environment is not None and mode != "slow":
            raise UserError(f"mode {mode!r} asks without tools: leave --environment out, or use slow")
        if mode.isdigit() and 0 < int(mode) < self._max_new_tokens:
            self._variant = Variant("budget", int(mode), forced=True)
        elif mode in MODES:
            self._variant = Variant(mode)
        else:
            raise UserError(
                f"no mode {mode!r}; choose from {', '.join(MODES)}, or give a number of thinking tokens below "
                f"{self._max_new_tokens}"
            )

    def ask(self, question: str, show: Show, tell: Callable[[str], None] = lambda _: None) -> Completion:
        """The response; `show` is called while it grows, and `tell` with what a tool answers between its turns.

        Raises UserError for a question that the model cannot take.
        """
        chat = self._loaded.chat.edited(without_think) if self._variant.mode == "nothink" else self._loaded.chat
        prompt = chat.prompt(Sample(f"chat-{self._asked}", question, self.images))
        words = LogConfig().critical_words
        rules, room = mode_rules(
            self._loaded, ModesConfig(max_new_tokens=self._max_new_tokens, words=words), self._variant
        )
        if chat.context is not None:
            room = min(room, chat.context - len(prompt.input_ids))
            if room < 1:
                raise UserError(f"the question fills the model's {chat.context} positions; ask a shorter one")
        stream = self._generator.on_draw = TokenStream(self._loaded, show)
        if isinstance(self._asking, ConversationGenerator):
            self._asking.on_reply = partial(_between, stream, tell)
        self._asked += 1
        sampling = Sampling(room, self._temperature, rules=rules)
        ((completion,),) = self._asking.generate([prompt], 1, sampling, (self._seed, STREAM, self._asked))
        stream.end()
        return completion


def _between(stream: TokenStream, tell: Callable[[str], None], step: Step) -> None:
    """What stands between two turns of the model."""
    stream.end()
    tell(step.text)
