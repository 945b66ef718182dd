"""When the next request may start: concurrency, rate, pauses that the server asks for, backoff after a failure.

Everything here runs in one event loop, so nothing needs a lock.
"""

from __future__ import annotations

import asyncio
import email.utils
import random
import time

from aiolimiter import AsyncLimiter

_BACKOFF_FIRST_S = 0.25
BACKOFF_LONGEST_S = 30.0
_PAUSE_JITTER_S = 0.25

# A generator of its own: how often a server failed must not change what a run samples next.
rng = random.Random()


def backoff_s(failures: int) -> float:
    """Seconds to wait before the next attempt: doubled with each failure, drawn from the upper half, at most 30."""
    longest = min(BACKOFF_LONGEST_S, _BACKOFF_FIRST_S * 2.0 ** min(failures, 30))
    return rng.uniform(longest / 2, longest)


def retry_after_s(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks to wait (a number or an HTTP date), or None if it says nothing.

    >>> retry_after_s("1.5")
    1.5
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    # A NaN or an infinity is a broken header, not a wish.
    return max(seconds, 0.0) if abs(seconds) < 1e9 else None


class Limiter:
    """One limit for all callers: requests in flight, requests per minute, and pauses that the server asks for.

    async with limiter:
        ...  # one request
    """

    def __init__(self, concurrency: int, requests_per_minute: float | None) -> None:
        self._free = asyncio.Semaphore(concurrency)
        # A bucket that holds one request spaces the starts evenly; a larger one would let bursts through.
        self._rate = AsyncLimiter(1, 60.0 / requests_per_minute) if requests_per_minute else None
        self._paused_until = 0.0

    async def __aenter__(self) -> None:
        """Take one place among the requests in flight, when a request may start."""
        await self._free.acquire()
        try:
            if self._rate is not None:
                await self._rate.acquire()
            while (pause := self._paused_until - time.monotonic()) > 0:
                # Jitter after the pause, never before its end, so that the callers do not all return at once.
                await asyncio.sleep(pause + rng.uniform(0.0, _PAUSE_JITTER_S))
        except BaseException:
            self._free.release()
            raise

    async def __aexit__(self, *error: object) -> None:
        self._free.release()

    def pause(self, seconds: float) -> None:
        """Start no request of any caller for so long."""
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)
