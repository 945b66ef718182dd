"""A model behind an OpenAI-compatible server that may call a tool: chats of several turns, with pictures in later ones.

The tool runs here. What it answers is a user's turn, the pictures before the text, as in training (docs/tools.md).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from seethink.config import ToolConfig
from seethink.core.png import png_bytes
from seethink.endpoint.batch import Outcome, Request, State, ask_in_batches
from seethink.endpoint.chat import ChatSettings, Message, image_part, text_part
from seethink.environments.make import ENVIRONMENTS
from seethink.environments.protocol import Environment, Step
from seethink.eval.bench.answerers import Server, Work, first_turns, request_seed
from seethink.eval.bench.generations import Generation, Settings
from seethink.generate.conversations import TURNS

PART = 4
"""Chats that go on together, per request at once: a part is asked turn by turn, and a kill takes part of one."""


@dataclass(slots=True)
class _Talk:
    """One answer while it is made."""

    n: int
    run: int
    environment: Environment
    later: list[Message] = field(default_factory=list)
    """The turns after the question."""
    written: int = 0
    """The model's tokens so far, as the server counts them; a server that does not count leaves it at 0."""


@dataclass(slots=True)
class ConversingServer(Server):
    """As `Server`, and a tool answers the model's turns. The final turn is the answer."""

    tools: ToolConfig = field(default_factory=ToolConfig)
    """With an environment."""

    @property
    def identity(self) -> dict[str, Any]:
        return {"engine": "server", "model": self.config.model, **self.tools.record}

    def answers(self, work: Work, settings: Settings) -> Iterator[list[Generation]]:
        """The missing answers, part by part. A chat of which a turn failed is begun anew by the same command."""
        talks = self._talks(work)
        while part := list(islice(talks, PART * self.config.max_concurrency)):
            active = {work.missing[talk.n][talk.run]: talk for talk in part}
            turns = self.tools.turns or TURNS
            for turn in range(turns):
                if not active:
                    break
                requests = self._requests(work, settings, active, turn)
                active = yield from self._turn(work, settings, active, requests, last=turn == turns - 1)

    def _talks(self, work: Work) -> Iterator[_Talk]:
        assert self.tools.environment is not None
        for n in sorted(work.missing):
            for run in sorted(work.missing[n]):
                environment = ENVIRONMENTS[self.tools.environment]()
                environment.reset(work.items[n].sample())
                yield _Talk(n, run, environment)

    def _requests(self, work: Work, settings: Settings, active: dict[str, _Talk], turn: int) -> Iterator[Request]:
        for key, talk in active.items():
            room = settings.max_new_tokens - talk.written
            chosen = ChatSettings(
                settings.temperature,
                settings.top_p if settings.top_p < 1 else None,
                request_seed(work, talk.n, talk.run, settings, turn),
                min(room, self.tools.turn_tokens or room),
            )
            first = first_turns(work.items[talk.n], talk.environment.instructions)
            yield Request(key, [*first, *talk.later], chosen)

    def _turn(
        self, work: Work, settings: Settings, active: dict[str, _Talk], requests: Iterator[Request], *, last: bool
    ) -> Generator[list[Generation], None, dict[str, _Talk]]:
        """Yields the answers that this turn ends, and returns the chats that go on."""
        going: dict[str, _Talk] = {}
        for outcomes in ask_in_batches(self.config, requests, role="model"):
            ended: list[Generation] = []
            for outcome in outcomes:
                talk = active[outcome.key]
                step = self._step(talk, outcome)
                full = talk.written >= settings.max_new_tokens
                if step is not None and not step.done and not last and not full:
                    talk.later += [Message(role="assistant", content=outcome.reply.text), _user(step)]  # type: ignore[union-attr]
                    going[outcome.key] = talk
                    continue
                made = self._generation(work, talk.n, talk.run, outcome)
                if made is None:
                    self.failures.note(outcome.reason)
                else:
                    cut = step is not None and not step.done and not last
                    ended.append(replace(made, tokens=talk.written, finish="length" if cut else made.finish))
            yield ended
        return going

    def _step(self, talk: _Talk, outcome: Outcome) -> Step | None:
        """What the tool makes of a turn; None where there is no whole turn of the model's."""
        if outcome.reply is None:
            return None
        talk.written += outcome.reply.tokens or 0
        whole = outcome.state in (State.ANSWERED, State.EMPTY)
        return talk.environment.step(outcome.reply.text) if whole else None


def _user(step: Step) -> Message:
    """The tool's answer as a user's turn."""
    return Message(
        role="user", content=[*(image_part(png_bytes(image)) for image in step.images), text_part(step.text)]
    )
