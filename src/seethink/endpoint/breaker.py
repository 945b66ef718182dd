"""When a server counts as down, and how its return is noticed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from seethink.endpoint.limits import BACKOFF_LONGEST_S

logger = logging.getLogger(__name__)

_NOTICE_EVERY_S = 30.0
_FIRST_PROBE_S = 1.0


class Breaker:
    """Counts failures in a row; after too many of them no request is sent until a probe is answered.

    A closed breaker lets requests through. It opens at `trips_at` failures without a success between them. Then it
    probes by itself, at intervals that grow from 1 s to 30 s, logs a notice every half minute, and closes at the
    first answer.
    """

    def __init__(self, trips_at: int, probe: Callable[[], Awaitable[str | None]], server: str, while_down: str) -> None:
        """`probe` sends a harmless request and returns None when it is answered, else what went wrong.

        `server` and `while_down` complete the notices: which server is down, and what its users do meanwhile.
        """
        self._trips_at = trips_at
        self._probe = probe
        self._server = server
        self._while_down = while_down
        self._failures = 0
        self._down_before_s = 0.0
        self._opened_at: float | None = None
        self._closed = asyncio.Event()
        self._closed.set()
        self._reason = ""
        self._probes: asyncio.Task[None] | None = None
        self._notices: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        return self._opened_at is not None

    @property
    def down_s(self) -> float:
        """Seconds down so far, the present outage included."""
        return self._down_before_s + (0.0 if self._opened_at is None else time.monotonic() - self._opened_at)

    async def wait_closed(self) -> None:
        """Return when requests may be sent; at once where the breaker is closed."""
        await self._closed.wait()

    def success(self) -> None:
        """A request was answered properly; closes an open breaker."""
        self._failures = 0
        if self._opened_at is None:
            return
        logger.warning("%s answers again after %.0f s", self._server, time.monotonic() - self._opened_at)
        self._down_before_s, self._opened_at = self.down_s, None
        self._closed.set()
        if self._notices is not None:
            self._notices.cancel()

    def failure(self, reason: str) -> None:
        """A request got no proper answer."""
        self._failures += 1
        if self._failures >= self._trips_at:
            self.trip(reason)

    def trip(self, reason: str, probe_after_s: float | None = None) -> None:
        """Open now, unless open already. The first probe comes after a second, or after `probe_after_s`."""
        if self._opened_at is not None:
            return
        self._opened_at = time.monotonic()
        self._closed.clear()
        self._reason = reason
        self._notice()
        self._notices = asyncio.create_task(self._notice_for_ever())
        delay = _FIRST_PROBE_S if probe_after_s is None else probe_after_s
        self._probes = asyncio.create_task(self._probe_until_closed(self._opened_at, delay))

    async def _probe_until_closed(self, outage: float, delay: float) -> None:
        """`outage`: when it began, as a later one has probes of its own."""
        while True:
            await asyncio.sleep(delay)
            if self._opened_at != outage:  # a request from before the outage came through after all
                return
            reason = await self._probe()
            if reason is None:
                self.success()
                return
            self._reason = reason
            delay = min(2 * delay, BACKOFF_LONGEST_S)

    async def _notice_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_NOTICE_EVERY_S)
            self._notice()

    def _notice(self) -> None:
        message = "%s is down (%s), %.0f s so far; %s"
        logger.warning(message, self._server, self._reason, self.down_s, self._while_down)
