"""Tokens per minute: on a clock of the test's own, and through the client."""

from __future__ import annotations

import asyncio
import random

import pytest

from helpers.scripted_openai import Ask, ScriptedOpenAI, says
from helpers.verifying import hurry  # noqa: F401
from seethink.config.endpoint import EndpointConfig
from seethink.config.teacher import TeacherConfig
from seethink.endpoint import token_budget
from seethink.endpoint.chat import Message
from seethink.endpoint.client import Client
from seethink.endpoint.token_budget import Reserved, TokenBudget

LIMIT, LONGEST = 1000.0, 100


def simulated(seconds: int, *, counts: bool = True, tail: float = 0.05) -> list[tuple[float, float]]:
    """(time of the reply, tokens) of a server that answers after 2 s, at up to 8 requests at once."""
    now, rng = [0.0], random.Random(3)
    budget = TokenBudget(LIMIT, clock=lambda: now[0])
    flying: list[tuple[float, Reserved, int]] = []
    found: list[tuple[float, float]] = []
    for tick in range(seconds * 10):
        now[0] = tick / 10
        for one in [one for one in flying if one[0] <= now[0]]:
            flying.remove(one)
            if rng.random() < tail:
                budget.lose(one[1])
                found.append((now[0], 20 + one[2]))
            elif counts:
                budget.settle(one[1], 20, one[2])
                found.append((now[0], 20 + one[2]))
            else:
                budget.settle(one[1], None, None)
                found.append((now[0], one[2]))
        while len(flying) < 8 and budget.wait_s(LONGEST) == 0:
            flying.append((now[0] + 2, asyncio.run(budget.reserve(LONGEST)), rng.randrange(5, LONGEST + 1)))
    return found


def most_in_a_minute(found: list[tuple[float, float]]) -> float:
    return max(sum(tokens for at, tokens in found if start <= at < start + 60) for start, _ in found)


def test_no_minute_has_more_tokens_than_the_limit() -> None:
    found = simulated(300)
    assert most_in_a_minute(found) <= LIMIT
    assert sum(tokens for _, tokens in found) > 0.75 * 5 * LIMIT, "and the limit is used"


def test_what_a_server_does_not_count_is_as_long_as_it_may_be() -> None:
    found = simulated(180, counts=False, tail=0.0)
    assert 25 <= len(found) <= 3 * LIMIT / LONGEST
    assert most_in_a_minute(found) <= LIMIT


def test_a_request_larger_than_the_limit_goes_alone() -> None:
    budget = TokenBudget(50.0, clock=lambda: 0.0)
    first = asyncio.run(budget.reserve(9000))
    assert budget.wait_s(1) > 0
    budget.cancel(first)
    assert budget.wait_s(1) == 0


def test_a_teacher_keeps_to_it_and_a_verifier_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_budget, "WINDOW_S", 0.5)

    async def asked(config: EndpointConfig) -> None:
        client = Client(config, role="teacher", greeting=list, while_down="traces wait")
        chat = [Message(role="user", content="Hello")]
        await asyncio.gather(*(client.ask(chat, lambda reply: reply) for _ in range(10)))
        await client.close()

    def took(config_type: type[EndpointConfig], **options: float) -> float:
        with ScriptedOpenAI(lambda ask: says("7", tokens=15)) as server:
            asyncio.run(asked(config_type(base_url=server.base_url, model="m", max_tokens=15, **options)))
            assert len(server.asks) == 10
            return spread(server.asks)

    def spread(asks: list[Ask]) -> float:
        return max(ask.at for ask in asks) - min(ask.at for ask in asks)

    # 20 tokens a request and 80 in half a second: the tenth is two windows after the first.
    assert took(TeacherConfig, tokens_per_minute=80) >= 0.95
    assert took(EndpointConfig) < 0.5
