"""Tokens per minute: a request starts when the last minute's and those that others in flight may take leave room.

Belongs to one event loop, so that nothing needs a lock.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_S = 60.0
_NEAR_S = 0.05
"""Shortest sleep: a place may also come free because a reply was shorter than it might have been."""


@dataclass(frozen=True, slots=True)
class Reserved:
    tokens: float
    longest_reply: int


class TokenBudget:
    """No minute has more tokens than the limit, prompts included, whatever replies come to.

    A request reserves the largest prompt so far and its longest reply, and gives back what it did not take. The first
    request goes alone, since nobody knows yet what a prompt takes; so does one that may pass the limit by itself.
    """

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._clock = per_minute, clock
        self._prompt: int | None = None
        """The largest prompt that the server has counted, 0 where it counts none; None before the first reply."""
        self._taken: deque[tuple[float, float]] = deque()
        """(time, tokens) of the last minute's replies, the oldest first."""
        self._sum = self._reserved = 0.0
        self._order = asyncio.Lock()

    async def reserve(self, longest_reply: int) -> Reserved:
        """Tokens that the request may take, as soon as there is room for them; requests go in their order."""
        async with self._order:
            while (wait := self.wait_s(longest_reply)) > 0:
                await asyncio.sleep(wait)
            tokens = self._wanted(longest_reply)
            self._reserved += tokens
            return Reserved(tokens, longest_reply)

    def settle(self, reserved: Reserved, prompt: int | None, reply: int | None) -> None:
        """There is a reply. A reply that the server does not count is taken to be as long as it might have been."""
        self._prompt = max(prompt or 0, self._prompt or 0)
        self._take(reserved, float((prompt or 0) + (reserved.longest_reply if reply is None else reply)))

    def lose(self, reserved: Reserved) -> None:
        """There is no reply, and the server may have written one."""
        self._take(reserved, reserved.tokens)

    def cancel(self, reserved: Reserved) -> None:
        """The server turned the request away, which took nothing."""
        self._reserved -= reserved.tokens

    def wait_s(self, longest_reply: int) -> float:
        """Seconds after which to look again; 0 where there is room."""
        now = self._clock()
        while self._taken and self._taken[0][0] + WINDOW_S <= now:
            self._sum -= self._taken.popleft()[1]
        is_idle = not self._taken and not self._reserved
        if is_idle or self._sum + self._reserved + self._wanted(longest_reply) <= self._limit:
            return 0.0
        return _NEAR_S if self._reserved else max(_NEAR_S, self._taken[0][0] + WINDOW_S - now)

    def _wanted(self, longest_reply: int) -> float:
        return self._limit if self._prompt is None else min(self._limit, float(self._prompt + longest_reply))

    def _take(self, reserved: Reserved, tokens: float) -> None:
        self._reserved -= reserved.tokens
        self._taken.append((self._clock(), tokens))
        self._sum += tokens
