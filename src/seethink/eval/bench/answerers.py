"""Where answers come from: the decoder of this process, or an OpenAI-compatible server.

Letters: N items, K runs.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from seethink.config import ToolConfig
from seethink.config.endpoint import EndpointConfig
from seethink.core.errors import UserError
from seethink.core.types import Completion
from seethink.data.lengths import processor_identity
from seethink.data.prompts import PromptList
from seethink.endpoint.batch import Outcome, Request, State, ask_in_batches
from seethink.endpoint.chat import ChatSettings, Message, image_part, text_part, written
from seethink.eval.bench.benchmark import Item
from seethink.eval.bench.generations import Finish, Generation, Settings
from seethink.eval.bench.prompts import MARK
from seethink.generate.protocol import Generator, Sampling
from seethink.models.load import LoadedModel
from seethink.runs.identity import model_identity

CHUNK = 64
"""Items that the in-process decoder answers together. A chunk that was interrupted is answered anew as a whole, as what
a batch computes depends in its last digits on its members."""
_STREAM = 2 * 10**6
"""Sets the random numbers of benchmarks apart from those of training and of other evaluations."""
_PIXEL_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Work:
    """The items of one benchmark and which answers are missing."""

    name: str
    items: Sequence[Item]
    places: Sequence[int]
    """[N] The number of each item in the whole benchmark."""
    missing: Mapping[int, Mapping[int, str]]
    """Item -> run -> key of each answer that is to be made."""


@dataclass(slots=True)
class Failures:
    """Requests that got no answer: asked again by the same command, and never counted as answers."""

    count: int = 0
    reason: str = ""
    """Of the last one."""

    def note(self, reason: str) -> None:
        """One more."""
        self.count += 1
        self.reason = reason


class Answerer(Protocol):
    """A model that answers."""

    @property
    def identity(self) -> dict[str, Any]:
        """What its answers depend on besides prompt and sampling; JSON."""
        ...

    @property
    def failures(self) -> Failures: ...

    def answers(self, work: Work, settings: Settings) -> Iterator[list[Generation]]:
        """The missing answers as they come, some at a time."""
        ...


class InProcess:
    """The model in this process."""

    def __init__(self, loaded: LoadedModel, generator: Generator, tools: ToolConfig | None = None) -> None:
        """`tools` is what `generator` lets the model call."""
        self._loaded, self._generator = loaded, generator
        self._tools = tools or ToolConfig()
        self.failures = Failures()

    @property
    def identity(self) -> dict[str, Any]:
        weights = model_identity(self._loaded.source) or self._loaded.source
        processor = processor_identity(self._loaded.chat)
        return {"engine": "in-process", "weights": weights, "processor": processor, **self._tools.record}

    def answers(self, work: Work, settings: Settings) -> Iterator[list[Generation]]:
        """Chunks of items of like length, all runs of an item together; the chunks depend on the items alone."""
        lengths = [self._length(item, settings) for item in work.items]
        unasked = [place for place, length in enumerate(lengths) if isinstance(length, str)]
        if found := [_not_asked(work, n, run, str(lengths[n])) for n in unasked for run in _runs(work, n)]:
            yield found
        known = {n: length for n, length in enumerate(lengths) if isinstance(length, int)}
        order = sorted(known, key=lambda n: (known[n], n))
        for start in range(0, len(order), CHUNK):
            chunk = order[start : start + CHUNK]
            if any(_runs(work, n) for n in chunk):
                yield self._chunk(work, settings, chunk, max(known[n] for n in chunk))

    def _length(self, item: Item, settings: Settings) -> int | str:
        """Tokens of an item's prompt, or why the model cannot be asked it."""
        chat = self._loaded.chat
        try:
            length = chat.prompt_length(item.sample())
        except UserError as error:
            return str(error)
        if chat.context is not None and length >= chat.context:
            return f"the prompt has {length:,} tokens, and the model knows {chat.context:,} positions"
        return length

    def _chunk(self, work: Work, settings: Settings, chunk: list[int], longest: int) -> list[Generation]:
        context = self._loaded.chat.context
        room = settings.max_new_tokens if context is None else min(settings.max_new_tokens, context - longest)
        sampling = Sampling(room, settings.temperature, settings.top_p)
        prompts = PromptList([work.items[n].sample() for n in chunk], self._loaded.chat, kept_bytes=_PIXEL_BYTES)
        seed = (settings.seed, _STREAM, zlib.crc32(work.name.encode()))
        places = [work.places[n] for n in chunk]
        groups = self._generator.generate(prompts, settings.runs, sampling, seed, places=places)
        return [
            _of_completion(work, n, run, group[run])
            for n, group in zip(chunk, groups, strict=True)
            for run in _runs(work, n)
        ]


def _runs(work: Work, n: int) -> list[int]:
    return sorted(work.missing.get(n, ()))


def _of_completion(work: Work, n: int, run: int, completion: Completion) -> Generation:
    finish: Finish = "length" if completion.truncated else "stop"
    tokens = len(completion.token_ids)
    return Generation(work.missing[n][run], work.items[n].id, run, completion.text, "", finish, tokens)


def _not_asked(work: Work, n: int, run: int, why: str) -> Generation:
    return Generation(work.missing[n][run], work.items[n].id, run, "", "", "not_asked", 0, why)


@dataclass(slots=True)
class Server:
    """A model behind an OpenAI-compatible server. Images go to it as they are stored."""

    config: EndpointConfig
    counts_refused: bool = False
    """Whether a request that the server refuses for good is an item that the model cannot be asked: it counts 0."""
    failures: Failures = field(default_factory=Failures)

    @property
    def identity(self) -> dict[str, Any]:
        """The model's name on the server: which weights and which template it has, the server alone knows."""
        return {"engine": "server", "model": self.config.model}

    def answers(self, work: Work, settings: Settings) -> Iterator[list[Generation]]:
        places = {key: (n, run) for n, runs in work.missing.items() for run, key in runs.items()}
        for outcomes in ask_in_batches(self.config, _requests(work, settings), role="model"):
            made = [(one, self._generation(work, *places[one.key], one)) for one in outcomes]
            for outcome, generation in made:
                if generation is None:
                    self.failures.note(outcome.reason)
            yield [generation for _, generation in made if generation is not None]

    def _generation(self, work: Work, n: int, run: int, outcome: Outcome) -> Generation | None:
        """None where the request failed, or the server refused it: no words of the model's."""
        reply = outcome.reply
        if reply is None:
            is_counted = self.counts_refused and outcome.state is State.REFUSED
            return _not_asked(work, n, run, outcome.reason) if is_counted else None
        finish: Finish = "stop"
        if outcome.state is State.TRUNCATED:
            finish = "length"
        elif outcome.state is State.REFUSED:
            finish = "refused"
        name, tokens = work.items[n].id, reply.tokens or 0
        return Generation(outcome.key, name, run, reply.text, reply.reasoning, finish, tokens, outcome.reason)


def _requests(work: Work, settings: Settings) -> Iterator[Request]:
    """All runs of an item together: its images are read and written once."""
    top_p = settings.top_p if settings.top_p < 1 else None
    for n in sorted(work.missing):
        said = written(first_turns(work.items[n]))
        for run in _runs(work, n):
            seed = request_seed(work, n, run, settings)
            chosen = ChatSettings(settings.temperature, top_p, seed, settings.max_new_tokens)
            yield Request(work.missing[n][run], said, chosen)


def request_seed(work: Work, n: int, run: int, settings: Settings, turn: int = 0) -> int:
    """Of a turn of the model: seeds differ between items, runs and turns, and depend on nothing else."""
    where = f"{work.name}/{work.places[n]}/{run}/{settings.seed}" + (f"/{turn}" if turn else "")
    return zlib.crc32(where.encode()) & 0x7FFFFFFF


def first_turns(item: Item, introduction: str = "") -> list[Message]:
    """The turns of an item's prompt, its images as data URLs where they stand. `introduction` ends the system turn."""
    parts: list[dict[str, Any]] = []
    pieces = item.question.split(MARK)
    images = list(item.images)
    leading = images[: len(images) - (len(pieces) - 1)]
    parts += [image_part(image.encoded()) for image in leading]
    for piece, image in zip(pieces, [None, *images[len(leading) :]], strict=True):
        if image is not None:
            parts.append(image_part(image.encoded()))
        if piece:
            parts.append(text_part(piece))
    user = Message(role="user", content=parts)
    system = "\n\n".join(filter(None, (item.system, introduction)))
    return [Message(role="system", content=system), user] if system else [user]
