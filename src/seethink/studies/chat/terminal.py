"""`seethink chat` in a terminal: thoughts are dim, and tokens are shaded by their entropy on demand."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.style import Style
from rich.text import Text

from seethink.core.console import console, say
from seethink.core.errors import UserError
from seethink.core.redact import visible
from seethink.rewards.format import CLOSE, OPEN
from seethink.studies.chat.session import ChatSession

HELP = "/image FILE, /image (none), /mode slow|nothink|nowait|TOKENS, /entropy, /help, /quit; Ctrl-C ends an answer"
SHADES = ("", "#fff3d6", "#ffe0a3", "#ffc66e", "#ff9f43")
"""Backgrounds of tokens, by entropy."""
DARKEST = 2.0
"""Nats from which a token has the darkest shade."""


@dataclass
class Printer:
    """Prints a response token by token."""

    shaded: bool
    _text: str = ""

    def __call__(self, piece: str, entropy: float) -> None:
        before = self._is_thinking()
        self._text += piece
        dim = before or self._is_thinking()
        shade = SHADES[min(len(SHADES) - 1, int(entropy / DARKEST * (len(SHADES) - 1)))] if self.shaded else ""
        style = Style(dim=dim, color="black", bgcolor=shade) if shade else Style(dim=dim)
        console.print(Text(_plain(piece), style), end="", soft_wrap=True, highlight=False)

    def tell(self, answer: str) -> None:
        """A tool's answer, on a line of its own before the model's next turn."""
        console.print()
        console.print(Text(_plain(answer), "cyan"), soft_wrap=True, highlight=False)
        self._text = ""

    def _is_thinking(self) -> bool:
        return self._text.rfind(OPEN) > self._text.rfind(CLOSE)


def _plain(text: str) -> str:
    """Model output must not drive the terminal."""
    return "\n".join(map(visible, text.split("\n")))


def chat(session: ChatSession, question: str | None, *, shaded: bool) -> None:
    """Answer one question, or those that are typed, until the input ends."""
    if question is not None:
        _answer(session, question, shaded)
        return
    if sys.stdin.isatty():
        say(HELP, "dim")
    for line in _lines(lambda: f"{session.mode}{' · image' if session.images else ''}> "):
        if line in ("/quit", "/exit"):
            return
        if line == "/entropy":
            shaded = not shaded
            say(f"entropy shading is {'on' if shaded else 'off'}", "dim")
        elif line:
            _act(session, line, shaded)


def _act(session: ChatSession, line: str, shaded: bool) -> None:
    """One question or command; a mistake is said, and the chat goes on."""
    command, _, rest = line.partition(" ")
    try:
        if command == "/image":
            session.show_image(rest.strip())
        elif command == "/mode":
            session.use_mode(rest.strip())
        elif command.startswith("/"):
            say(HELP, "dim")
        else:
            _answer(session, line, shaded)
    except UserError as error:
        say(visible(str(error)), "yellow")


def _answer(session: ChatSession, question: str, shaded: bool) -> None:
    try:
        printer = Printer(shaded)
        completion = session.ask(question, printer, printer.tell)
    except KeyboardInterrupt:
        say("")
        return
    mean = sum(completion.entropies) / max(1, len(completion.entropies))
    cut = ", cut off at the length limit" if completion.truncated else ""
    say("")
    say(f"{len(completion.token_ids)} tokens, mean entropy {mean:.2f} nats{cut}", "dim")


def _lines(prompt: Callable[[], str]) -> Iterator[str]:
    """What is typed, or what standard input holds; without a prompt where no person types."""
    while True:
        try:
            line = input(prompt()) if sys.stdin.isatty() else next(sys.stdin)
        except (EOFError, StopIteration, KeyboardInterrupt):
            return
        yield line.strip()
