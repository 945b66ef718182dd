"""The LLM verifier: a second opinion on answers that the rule grader called wrong.

    with Verifier(config, run_dir) as verifier:
        grades = verifier.verify([VerifyItem(question, gold, extracted), ...])

Callers ask only after the rule said wrong and something was extracted. A reply that cannot be read, an
error or a deadline makes `Verdict.ERROR`, which is masked: trouble with a server is a missing reward, never a
reward of 0.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
import time
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from seethink.config.verifier import VerifierConfig
from seethink.core.types import Grade, Verdict
from seethink.endpoint.client import Endpoint, RateLimitedError, RequestRefusedError, ServerError
from seethink.endpoint.limits import Breaker, Limiter, backoff_s, logger, rng
from seethink.rewards.verifier.cache import DisagreementLog, VerdictCache, cache_key
from seethink.rewards.verifier.canaries import CANARIES, CanaryHit, CanarySchedule
from seethink.rewards.verifier.prompt import VerifyItem, gate, messages, read_verdict
from seethink.rewards.verifier.statistics import VerifierStats

__all__ = ["CanaryHit", "Verifier", "VerifierConfig", "VerifierRefusedError", "VerifyItem"]

T = TypeVar("T")

_GREETING = VerifyItem("What is 1 + 1?", gold="2", extracted="3")
"""Asked to learn whether the server is up and takes our requests; its verdict is not used."""

_LONG_PAUSE_S = 60.0
"""A server that asks to come back later than this is down, not busy."""

_POLICY = {
    "wait": "rewards wait for it (verifier.on_down = 'wait')",
    "rule_only": "the rule's verdicts stand meanwhile (verifier.on_down = 'rule_only')",
}


class VerifierRefusedError(RuntimeError):
    """The server's first answer was a refusal: the address, the model's name or the key is wrong."""


class _UnreadableError(Exception):
    """A proper reply without exactly one verdict in its last line."""


class _DownError(Exception):
    """Not sent: the server is down."""


class Verifier:
    """Judges answers through one server; may be called from any thread.

    The limits of the configuration hold for all threads of this process together.
    It keeps an event loop in a thread of its own, so it works with and without a running loop in the caller's
    (from a coroutine use `await asyncio.to_thread(verifier.verify, items)`). After a fork, make a new one.
    """

    def __init__(self, config: VerifierConfig, run_dir: Path | None = None) -> None:
        """Cache and disagreement log go to `run_dir`; without one, verdicts are kept in memory only."""
        self._config = config
        self._endpoint = Endpoint(config)
        self._cache = VerdictCache(config.cache or (run_dir and run_dir / "verdicts.sqlite"))
        self._log = DisagreementLog(run_dir and run_dir / "verifier.jsonl")
        self._limiter = Limiter(config.max_concurrency, config.requests_per_minute)
        server = f"{config.model} at {config.base_url}"
        self._breaker = Breaker(config.max_retries + 1, self._probe, server, _POLICY[config.on_down])
        self._canaries = CanarySchedule(config.canary_every)
        self._stats = VerifierStats()
        self._down_s_read = 0.0
        self._greeted = False
        self._pid = os.getpid()
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="verifier", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"Verifier({self._config.model} at {self._config.base_url})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def verify(self, items: Sequence[VerifyItem]) -> list[Grade | None]:
        """One grade an item, in order. Verdicts do not depend on the order or company of a batch.

        CORRECT or WRONG is the verifier's verdict. ERROR means that it gave none: mask the reward. None means
        that it was not asked, being down under `on_down="rule_only"`: the rule's verdict stands.

        Raises `CanaryHit` when an attack was called correct and `VerifierRefusedError` when the server's
        first answer is a refusal.
        """
        return self._run(self._verify(items))

    def metrics(self) -> dict[str, float]:
        """What happened since the last call, under `verifier/...`."""
        return self._run(self._read_metrics())

    def ask_canaries(self) -> dict[VerifyItem, bool | None]:
        """Every canary with its verdict: True is a hit, None got no answer."""
        return self._run(self._ask_each_aside(CANARIES))

    def reask(self, items: Sequence[VerifyItem]) -> dict[VerifyItem, bool | None]:
        """Fresh verdicts beside the cache, one attempt each; None where there was none."""
        return self._run(self._ask_each_aside(items))

    def close(self) -> None:
        """Stop at once; a `verify` that still waits in another thread raises."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._cache.close()

    # ---- from the caller's thread into the loop ----

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._closed or os.getpid() != self._pid:
            work.close()
            why = "was closed" if self._closed else "was made before this process was forked; make one here"
            raise RuntimeError(f"{self!r} {why}")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise RuntimeError(f"{self!r} was closed while it was asked") from None
        except BaseException:  # Ctrl-C in the caller: the requests go too
            future.cancel()
            raise

    async def _shut_down(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._endpoint.close()

    # ---- a batch ----

    async def _verify(self, items: Sequence[VerifyItem]) -> list[Grade | None]:
        counts = Counter(items)
        grades: dict[VerifyItem, Grade | None] = {}
        self._stats.items += len(items)
        known: list[VerifyItem] = []
        unknown: list[VerifyItem] = []
        for item, count in counts.items():
            if reason := gate(item, self._config.max_answer_chars):
                grades[item] = Grade(Verdict.WRONG, item.extracted, reason)
                self._stats.gated += count
            elif (equivalent := self._cache.get(self._key(item))) is not None:
                grades[item] = self._grade(item, equivalent, " (cached)")
                known.append(item)
            else:
                unknown.append(item)
        grades |= await self._ask_server(unknown, self._drawn_for_recheck(known))
        for item in (*known, *unknown):
            self._stats.add(grades[item], counts[item])
            self._stats.cached += counts[item]
        self._stats.cached -= len(unknown)
        self._stats.asked += len(unknown)
        self._say_if_mute([grades[item] for item in unknown])
        return [grades[item] for item in items]

    async def _ask_server(self, unknown: list[VerifyItem], recheck: list[VerifyItem]) -> dict[VerifyItem, Grade | None]:
        """Ask about the unknown, and beside them canaries and rechecks, until the batch's deadline."""
        if unknown:
            await self._greet()
        canaries = self._canaries.due(len(unknown)) if unknown else []
        asks = {item: asyncio.create_task(self._judge(item)) for item in unknown}
        aside = [asyncio.create_task(self._ask_canary(item)) for item in canaries]
        aside += [asyncio.create_task(self._recheck(item)) for item in recheck]
        await self._until_deadline([*asks.values(), *aside])
        late = f"verifier: batch not done within {self._config.batch_timeout_s:g} s"
        return {
            item: Grade(Verdict.ERROR, item.extracted, late) if task.cancelled() else task.result()
            for item, task in asks.items()
        }

    async def _until_deadline(self, tasks: list[asyncio.Task[Any]]) -> None:
        """Wait for all tasks; cancel what is open at the deadline, or when one of them raises."""
        if not tasks:
            return
        deadline = asyncio.create_task(self._up_for(self._config.batch_timeout_s))
        everything: asyncio.Future[list[Any]] = asyncio.gather(*tasks)
        either: set[asyncio.Future[Any]] = {everything, deadline}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if everything.done():
                everything.result()
        finally:
            for task in (deadline, *tasks):
                task.cancel()
            await asyncio.gather(everything, deadline, *tasks, return_exceptions=True)

    async def _up_for(self, seconds: float) -> None:
        """Return after so many seconds in which the server was not down."""
        start, down_s = time.monotonic(), self._breaker.down_s
        while True:
            await self._breaker.wait_closed()
            up_s = time.monotonic() - start - (self._breaker.down_s - down_s)
            if up_s >= seconds:
                return
            await asyncio.sleep(seconds - up_s)

    # ---- one item ----

    async def _judge(self, item: VerifyItem) -> Grade | None:
        """Ask until there is a verdict: ERROR after the last retry, None when down under "rule_only"."""
        failures = rate_limits = 0
        while True:
            if self._breaker.is_open:
                if self._config.on_down == "rule_only":
                    return None
                await self._breaker.wait_closed()
            try:
                equivalent = await self._ask(item)
            except _DownError:
                continue
            except RateLimitedError as error:  # costs time, which the deadline bounds, but no attempt
                rate_limits += 1
                self._slow_down(error, rate_limits)
            except (ServerError, _UnreadableError) as error:
                failures += 1
                if self._is_hopeless(failures):
                    return Grade(Verdict.ERROR, item.extracted, f"verifier: {error}")
                self._stats.retries += 1
                await asyncio.sleep(0.0 if self._breaker.is_open else backoff_s(failures))
            else:
                settled = self._cache.settle(self._key(item), equivalent)
                return self._grade(item, settled)

    async def _ask(self, item: VerifyItem) -> bool:
        """One request for one verdict, in its turn."""
        async with self._limiter.slot():
            if self._breaker.is_open:  # it may have opened while this call queued
                raise _DownError
            start = time.monotonic()
            try:
                reply = await self._endpoint.ask(messages(item))
            except ServerError as error:
                self._limiter.pause(error.retry_after or 0.0)
                self._breaker.failure(str(error))
                raise
        self._breaker.success()
        self._stats.latencies_s.append(time.monotonic() - start)
        equivalent = None if reply is None else read_verdict(reply)
        if equivalent is None:
            raise _UnreadableError("cut off" if reply is None else "no single verdict in the last line")
        return equivalent

    def _is_hopeless(self, failures: int) -> bool:
        """Whether to give an item up.

        While the server is down its failures are not the item's, so it may try again afterwards. But not for
        ever: an item that breaks the server each time would bring it down each time.
        """
        allowed = self._config.max_retries
        return failures > (2 * allowed + 1 if self._breaker.is_open else allowed)

    def _slow_down(self, error: RateLimitedError, times: int) -> None:
        self._stats.rate_limited += 1
        wait = error.retry_after or backoff_s(times)  # a wish of 0 s would be asked for again and again
        if wait > _LONG_PAUSE_S:
            self._breaker.trip(f"{error}, back in {wait:.0f} s", probe_after_s=wait)
        else:
            self._limiter.pause(wait)

    # ---- requests that are not rewards ----

    async def _greet(self) -> None:
        """The first request of all. A refusal of it is a wrong configuration and stops the run."""
        if self._greeted or self._breaker.is_open:
            return
        try:
            await self._endpoint.ask(messages(_GREETING))
        except RequestRefusedError as error:
            raise VerifierRefusedError(
                f"{self!r} refuses: {error}. Check verifier.base_url, verifier.model and verifier.api_key_env"
            ) from None
        except ServerError as error:
            self._breaker.failure(str(error))
        except RateLimitedError as error:
            self._slow_down(error, 1)
        else:
            self._greeted = True

    async def _probe(self) -> str | None:
        try:
            await self._endpoint.ask(messages(_GREETING))
        except (ServerError, RateLimitedError) as error:
            return str(error)
        return None

    async def _ask_aside(self, item: VerifyItem) -> bool | None:
        """A verdict that no reward waits for: one attempt, None if there is any trouble."""
        if gate(item, self._config.max_answer_chars):
            return False
        try:
            return await self._ask(item)
        except RateLimitedError as error:
            self._slow_down(error, 1)
        except (ServerError, _UnreadableError, _DownError):
            pass
        return None

    async def _ask_each_aside(self, items: Iterable[VerifyItem]) -> dict[VerifyItem, bool | None]:
        tasks = {item: asyncio.create_task(self._ask_aside(item)) for item in items}
        await self._until_deadline(list(tasks.values()))
        return {item: None if task.cancelled() else task.result() for item, task in tasks.items()}

    async def _ask_canary(self, canary: VerifyItem) -> None:
        equivalent = None
        try:
            equivalent = await self._ask_aside(canary)
        finally:  # at the batch's deadline too
            if equivalent is None:
                self._canaries.owe(canary)
        self._stats.canaries += equivalent is not None
        if equivalent:
            raise CanaryHit(self._config.model, canary)

    def _drawn_for_recheck(self, known: list[VerifyItem]) -> list[VerifyItem]:
        """A share of the cached items; none before the server has answered: a replay needs no server."""
        if not self._greeted:
            return []
        return [item for item in known if rng.random() < self._config.recheck_share]

    async def _recheck(self, item: VerifyItem) -> None:
        """Ask again about a cached item. Its cached verdict holds whatever comes back."""
        equivalent = await self._ask_aside(item)
        if equivalent is None:
            return
        self._stats.rechecked += 1
        if equivalent != self._cache.get(self._key(item)):
            self._stats.flipped += 1
            self._log.write("flip", item, "correct" if equivalent else "wrong")

    # ---- bookkeeping ----

    def _key(self, item: VerifyItem) -> str:
        return cache_key(self._config.model, item)

    def _grade(self, item: VerifyItem, equivalent: bool, note: str = "") -> Grade:
        if not equivalent:
            return Grade(Verdict.WRONG, item.extracted, f"verifier: different from the gold answer{note}")
        self._log.write("yes", item, "correct")
        return Grade(Verdict.CORRECT, item.extracted, f"verifier: equivalent to the gold answer{note}")

    def _say_if_mute(self, grades: list[Grade | None]) -> None:
        """One line when most of a batch is masked: a judge without verdicts must not go unnoticed."""
        errors = [grade for grade in grades if grade and grade.verdict is Verdict.ERROR]
        if 2 * len(errors) > len(grades):
            logger.warning(
                "%r gave no verdict on %d of %d answers, which are masked; the last one: %s",
                self,
                len(errors),
                len(grades),
                errors[-1].reason,
            )

    async def _read_metrics(self) -> dict[str, float]:
        stats, self._stats = self._stats, VerifierStats()
        before, self._down_s_read = self._down_s_read, self._breaker.down_s
        down = {"verifier/down": float(self._breaker.is_open), "verifier/down_s": self._down_s_read - before}
        return stats.metrics() | down
