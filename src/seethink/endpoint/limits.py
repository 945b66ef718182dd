"""How fast the verifier may be asked, and when its server counts as down.

Everything here runs in the verifier's one event loop, so nothing needs a lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable

logger = logging.getLogger("seethink.rewards.verifier.verifier")

_BACKOFF_FIRST_S = 0.25
_BACKOFF_LONGEST_S = 30.0
_PAUSE_JITTER_S = 0.25
_NOTICE_EVERY_S = 30.0
_FIRST_PROBE_S = 1.0

# Apart from the global generator: how often a server failed must not change what a run samples next.
rng = random.Random()


def backoff_s(failures: int) -> float:
    """Wait before the next attempt: doubles with each failure, drawn from its upper half, at most 30 s."""
    longest = min(_BACKOFF_LONGEST_S, _BACKOFF_FIRST_S * 2.0 ** min(failures, 30))
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
    """One limit for all callers: requests in flight, requests per minute, and pauses the server asked for."""

    def __init__(self, concurrency: int, requests_per_minute: float | None) -> None:
        self._free = asyncio.Semaphore(concurrency)
        self._spacing_s = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._next_start = 0.0
        self._paused_until = 0.0

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold one place among the requests in flight, entered when a request may start."""
        async with self._free:
            await self._turn()
            yield

    def pause(self, seconds: float) -> None:
        """Start nothing for so long, whoever asks."""
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)

    async def _turn(self) -> None:
        start = max(time.monotonic(), self._next_start)
        self._next_start = start + self._spacing_s
        await asyncio.sleep(start - time.monotonic())
        while (pause := self._paused_until - time.monotonic()) > 0:
            # Jitter after the pause, never before its end: not everybody comes back in the same instant.
            await asyncio.sleep(pause + rng.uniform(0.0, _PAUSE_JITTER_S))


class Breaker:
    """Counts failures in a row; when there are too many, nothing is asked until a probe is answered.

    A closed breaker lets calls through. It opens at `trips_at` failures without a success between them; then
    it probes by itself, ever more rarely (1 s to 30 s), says so every half minute, and closes at the
    first answer.
    """

    def __init__(self, trips_at: int, probe: Callable[[], Awaitable[str | None]], server: str, policy: str) -> None:
        """`probe` asks something harmless and returns None when answered, else what went wrong."""
        self._trips_at = trips_at
        self._probe = probe
        self._server = server
        self._policy = policy
        self._failures = 0
        self._down_before_s = 0.0
        self._opened_at: float | None = None
        self._closed = asyncio.Event()
        self._closed.set()
        self._probing: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        return self._opened_at is not None

    @property
    def down_s(self) -> float:
        """Seconds down so far, the present outage included."""
        return self._down_before_s + (0.0 if self._opened_at is None else time.monotonic() - self._opened_at)

    async def wait_closed(self) -> None:
        await self._closed.wait()

    def success(self) -> None:
        """A request was answered properly; closes an open breaker."""
        self._failures = 0
        if self._opened_at is None:
            return
        logger.warning("verifier %s answers again after %.0f s", self._server, time.monotonic() - self._opened_at)
        self._down_before_s, self._opened_at = self.down_s, None
        self._closed.set()

    def failure(self, reason: str) -> None:
        """A request got no proper answer."""
        self._failures += 1
        if self._failures >= self._trips_at:
            self.trip(reason)

    def trip(self, reason: str, probe_after_s: float | None = None) -> None:
        """Open now, unless open already; a second later the first probe, unless said otherwise."""
        if self._opened_at is not None:
            return
        self._opened_at = time.monotonic()
        self._closed.clear()
        self._notice(reason)
        self._probing = asyncio.create_task(self._probe_until_closed(probe_after_s or _FIRST_PROBE_S))

    async def _probe_until_closed(self, delay: float) -> None:
        noticed = time.monotonic()
        while True:
            await asyncio.sleep(delay)
            if self._opened_at is None:  # a request from before the outage came through after all
                return
            reason = await self._probe()
            if reason is None:
                self.success()
                return
            if time.monotonic() - noticed >= _NOTICE_EVERY_S:
                noticed = time.monotonic()
                self._notice(reason)
            delay = min(2 * delay, _BACKOFF_LONGEST_S)

    def _notice(self, reason: str) -> None:
        logger.warning("verifier %s is down (%s), %.0f s so far; %s", self._server, reason, self.down_s, self._policy)
