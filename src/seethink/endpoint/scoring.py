"""Servers that answer with a number instead of a text: reward models behind vLLM's `/classify`, `/pooling`, `/score`.

Requests and replies have the form of vLLM's documentation, read on 2026-11-29:

- `/classify` and its chat parameters: https://docs.vllm.ai/en/latest/models/pooling_models/classify/
- `/pooling`, with its task set in the request: https://docs.vllm.ai/en/latest/models/pooling_models/
- which task a kind of reward model has: https://docs.vllm.ai/en/latest/models/pooling_models/reward/
- `/score`: https://docs.vllm.ai/en/latest/models/pooling_models/scoring/

A number travels as the text of a `Reply`, so that limits, retries and outages are the chat client's own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from seethink.config.endpoint import EndpointConfig
from seethink.config.reward_model import RewardModelConfig
from seethink.endpoint.chat import Chat, ChatSettings, Message, Reply
from seethink.endpoint.connection import GREEDY, Connection
from seethink.endpoint.errors import RequestRefusedError, ServerError

_MOST_BYTES = 8 << 20
"""A reward model may send a number for each of many thousand tokens, of which the last one counts."""
_FIELD = {"pooling": "data", "classify": "probs", "score": "score"}
"""Route -> where its numbers are, in the first element of the reply's `data`."""


def connect(config: EndpointConfig) -> Connection:
    """The connection that a configuration asks for. Raises UserError for a key that cannot be used."""
    return ScoreConnection(config) if isinstance(config, RewardModelConfig) else Connection(config)


class ScoreConnection(Connection):
    """Sends a chat whose last turn is the response, and reads its score."""

    def __init__(self, config: RewardModelConfig) -> None:
        super().__init__(config.model_copy(update={"base_url": config.root}))
        self._route: str = config.route

    async def complete(self, messages: Chat, settings: ChatSettings = GREEDY) -> Reply:
        """The score of the last message after those before it, as text; `settings` mean nothing here.

        Raises ServerError (RequestRefusedError for a refusal, and for a model that gives no single number) or
        RateLimitedError.
        """
        turns = json.loads(messages) if isinstance(messages, bytes) else messages
        asked = {"model": self._config.model, **_asked(self._route, turns)}
        body = await self.post(self._route, json.dumps(asked).encode(), _MOST_BYTES)
        try:
            found = json.loads(body)["data"][0][_FIELD[self._route]]
        except (ValueError, RecursionError, LookupError, TypeError):
            raise ServerError(f"not a reply of /{self._route}: {self.shown(body)}") from None
        return Reply(repr(one_number(found)), "stop")


def _asked(route: str, messages: Sequence[Message]) -> dict[str, Any]:
    """The request's own fields. Pairs of texts have no pictures.

    Without `use_activation`, vLLM puts one label through a sigmoid, in which the best scores all become 1.
    """
    if route == "score":
        *before, last = messages
        query = "\n\n".join(map(_text, before)) or _text(last)  # a greeting has one turn
        return {"queries": query, "documents": _text(last), "use_activation": False}
    chat = {"messages": list(messages), "add_generation_prompt": False, "use_activation": False}
    return {**chat, "task": "token_classify"} if route == "pooling" else chat


def _text(message: Message) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")


def one_number(found: Any) -> float:
    """The number that a reply comes to: of numbers for each token, the last token's.

    >>> one_number(0.5), one_number([[0.1], [0.7]])
    (0.5, 0.7)

    Raises RequestRefusedError for several numbers, which are an embedding or classes, and for anything else.
    """
    value = found
    while isinstance(value, list) and value and (len(value) == 1 or isinstance(value[-1], list)):
        value = value[-1]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        kind = f"{len(value):,} numbers" if isinstance(value, list) else f"{type(value).__name__} {str(value)[:40]!r}"
        raise RequestRefusedError(f"expected one score, found {kind}: is it a reward model?")
    return float(value)
