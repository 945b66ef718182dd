"""Tokens as they are drawn -> the texts that they add, whole characters at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from seethink.data.token_pieces import BROKEN, LONGEST
from seethink.generate.in_process.sampling import Draw
from seethink.models.load import LoadedModel

Show = Callable[[str, float], None]
"""(text that a token adds, entropy in nats of the distribution that it was drawn from)."""


class TokenStream:
    """`InProcessGenerator.on_draw` for one response: calls `show` with every text that is added."""

    def __init__(self, loaded: LoadedModel, show: Show) -> None:
        self._tokenizer: Any = loaded.chat.tokenizer
        self._stop, self._show = set(loaded.stop_ids), show
        self._context: list[int] = []
        self._pending: list[int] = []
        self._entropy = 0.0
        """Of the token that begins the pending ones: a character that several share is its own."""

    def __call__(self, draw: Draw) -> None:
        token = int(draw.token_ids[0])
        if token in self._stop:
            return
        if not self._pending:
            self._entropy = float(draw.entropies[0])
        self._pending.append(token)
        if not self._text().endswith(BROKEN) or len(self._pending) == LONGEST:
            self._show_pending()

    def end(self) -> None:
        """Show what is left: the bytes of a character that never became whole."""
        if self._pending:
            self._show_pending()

    def _show_pending(self) -> None:
        text = self._text()
        self._context, self._pending = self._pending, []
        self._show(text, self._entropy)

    def _text(self) -> str:
        """What the pending tokens add to those before."""
        before = self._decoded(self._context) if self._context else ""
        return self._decoded(self._context + self._pending)[len(before) :]

    def _decoded(self, token_ids: list[int]) -> str:
        return str(self._tokenizer.decode(token_ids))
