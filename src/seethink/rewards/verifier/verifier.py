"""The LLM verifier: a second opinion on answers that the rule grader called wrong.

    with Verifier(config, run_folder) as verifier:
        grades = verifier.verify([VerifyItem(question, gold, extracted), ...])

Callers ask only after the rule said wrong and something was extracted. A reply that cannot be read, an
error or a deadline makes `Verdict.ERROR`, which is masked: trouble with a server is a missing reward, never a
reward of 0.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from seethink.config.verifier import VerifierConfig
from seethink.core.errors import UserError
from seethink.core.types import Grade, Verdict
from seethink.endpoint.background import BackgroundLoop
from seethink.endpoint.client import Client
from seethink.endpoint.errors import RequestRefusedError, ServerDownError, ServerError, UnreadableReplyError
from seethink.endpoint.limits import rng
from seethink.rewards.verifier.cache import DisagreementLog, VerdictCache, cache_key
from seethink.rewards.verifier.canaries import CANARIES, CanaryHit, CanarySchedule
from seethink.rewards.verifier.counts import VerifierCounts
from seethink.rewards.verifier.prompt import VerifyItem, gate, messages, read_reply

__all__ = ["CanaryHit", "Verifier", "VerifierConfig", "VerifierRefusedError", "VerifyItem"]

logger = logging.getLogger(__name__)

_GREETING = VerifyItem("What is 1 + 1?", gold="2", extracted="3")
"""Asked to learn whether the server is up and takes our requests; its verdict is not used."""

_WHILE_DOWN = {
    "wait": "rewards wait for it (verifier.on_down = 'wait')",
    "rule_only": "the rule's verdicts stand meanwhile (verifier.on_down = 'rule_only')",
}


class VerifierRefusedError(UserError):
    """The server's first answer was a refusal: the address, the model's name or the key is wrong."""


class Verifier:
    """Judges answers through one server; may be called from any thread, and within a running event loop.

    The limits of the configuration hold for all threads of this process together. After a fork, make a new one.
    """

    def __init__(self, config: VerifierConfig, run_folder: Path | None = None) -> None:
        """Cache and disagreement log go to `run_folder`; without one, verdicts are kept in memory only."""
        self._config = config
        self._client = Client(
            config,
            role="verifier",
            greeting=lambda: messages(_GREETING),
            while_down=_WHILE_DOWN[config.on_down],
        )
        self._cache = VerdictCache(config.cache or (run_folder and run_folder / "verdicts.sqlite"))
        self._log = DisagreementLog(run_folder and run_folder / "verifier.jsonl")
        self._canaries = CanarySchedule(config.canary_every)
        self._counts = VerifierCounts()
        self._down_s_read = 0.0
        self._loop = BackgroundLoop(repr(self))

    def __repr__(self) -> str:
        return f"Verifier({self._config.model} at {self._config.base_url})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def verify(self, items: Sequence[VerifyItem]) -> list[Grade | None]:
        """One grade per item, in order. Verdicts do not depend on the order or company of a batch.

        CORRECT or WRONG is the verifier's verdict. ERROR means that it gave none: mask the reward. None means
        that it was not asked, because it is down under `on_down="rule_only"`: the rule's verdict stands.

        Raises `CanaryHit` when an attack was called correct and `VerifierRefusedError` when the server's
        first answer is a refusal.
        """
        return self._loop.run(self._verify(items))

    def metrics(self) -> dict[str, float]:
        """What happened since the last call, under `verifier/...`."""
        return self._loop.run(self._read_metrics())

    def ask_canaries(self) -> dict[VerifyItem, bool | None]:
        """Every canary with its verdict: True is a hit, None got no answer."""
        return self._loop.run(self._ask_each_aside(CANARIES))

    def reask(self, items: Sequence[VerifyItem]) -> dict[VerifyItem, bool | None]:
        """Fresh verdicts beside the cache, one attempt each; None where there was none."""
        return self._loop.run(self._ask_each_aside(items))

    def close(self) -> None:
        """Stop at once; a `verify` that still waits in another thread raises RuntimeError."""
        if self._loop.close(self._client.close):
            self._cache.close()

    # ---- a batch ----

    async def _verify(self, items: Sequence[VerifyItem]) -> list[Grade | None]:
        times = Counter(items)
        grades: dict[VerifyItem, Grade | None] = {}
        self._counts.items += len(items)
        known: list[VerifyItem] = []
        unknown: list[VerifyItem] = []
        for item, count in times.items():
            if reason := gate(item, self._config.max_answer_chars):
                grades[item] = Grade(Verdict.WRONG, item.extracted, reason)
                self._counts.gated += count
            elif (equivalent := self._cache.get(self._key(item))) is not None:
                grades[item] = self._grade(item, equivalent, " (cached)")
                known.append(item)
            else:
                unknown.append(item)
        grades |= await self._ask_server(unknown, self._drawn_for_recheck(known))
        for item in (*known, *unknown):
            self._counts.add(grades[item], times[item])
            self._counts.cached += times[item]
        self._counts.cached -= len(unknown)
        self._counts.asked += len(unknown)
        self._warn_if_mute([grades[item] for item in unknown])
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
        """Wait for all tasks; cancel those still open at the deadline, or when one of them raises."""
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
        start, down_s = time.monotonic(), self._client.down_s
        while True:
            await self._client.wait_until_up()
            up_s = time.monotonic() - start - (self._client.down_s - down_s)
            if up_s >= seconds:
                return
            await asyncio.sleep(seconds - up_s)

    async def _greet(self) -> None:
        """A refusal of the first request of all is a wrong configuration and stops the run."""
        try:
            await self._client.greet()
        except RequestRefusedError as error:
            raise VerifierRefusedError(
                f"{self!r} refuses: {error}. Check verifier.base_url, verifier.model and verifier.api_key_env"
            ) from None

    # ---- one item ----

    async def _judge(self, item: VerifyItem) -> Grade | None:
        """The verdict: ERROR after the last retry, None when the server is down under "rule_only"."""
        try:
            equivalent = await self._client.ask(messages(item), read_reply, waits=self._config.on_down == "wait")
        except ServerDownError:
            return None
        except (ServerError, UnreadableReplyError) as error:
            return Grade(Verdict.ERROR, item.extracted, f"verifier: {error}")
        return self._grade(item, self._cache.settle(self._key(item), equivalent))

    async def _ask_aside(self, item: VerifyItem) -> bool | None:
        """A verdict that no reward waits for: one attempt, None if there is any trouble."""
        if gate(item, self._config.max_answer_chars):
            return False
        return await self._client.ask_once(messages(item), read_reply)

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
        self._counts.canaries += equivalent is not None
        if equivalent:
            raise CanaryHit(self._config.model, canary)

    def _drawn_for_recheck(self, known: list[VerifyItem]) -> list[VerifyItem]:
        """A share of the cached items; none before the server has answered: a replay needs no server."""
        if not self._client.is_greeted:
            return []
        return [item for item in known if rng.random() < self._config.recheck_share]

    async def _recheck(self, item: VerifyItem) -> None:
        """Ask again about a cached item. Its cached verdict holds whatever comes back."""
        equivalent = await self._ask_aside(item)
        if equivalent is None:
            return
        self._counts.rechecked += 1
        if equivalent != self._cache.get(self._key(item)):
            self._counts.flipped += 1
            self._log.write("flip", item, "correct" if equivalent else "wrong")

    # ---- bookkeeping ----

    def _key(self, item: VerifyItem) -> str:
        return cache_key(self._config.model, item)

    def _grade(self, item: VerifyItem, equivalent: bool, note: str = "") -> Grade:
        if not equivalent:
            return Grade(Verdict.WRONG, item.extracted, f"verifier: different from the gold answer{note}")
        self._log.write("yes", item, "correct")
        return Grade(Verdict.CORRECT, item.extracted, f"verifier: equivalent to the gold answer{note}")

    def _warn_if_mute(self, grades: list[Grade | None]) -> None:
        """One line when most of a batch is masked: a judge without verdicts must not go unnoticed."""
        errors = [grade for grade in grades if grade and grade.verdict is Verdict.ERROR]
        if 2 * len(errors) > len(grades):
            message = "%r gave no verdict on %d of %d answers, which are masked; the last one: %s"
            logger.warning(message, self, len(errors), len(grades), errors[-1].reason)

    async def _read_metrics(self) -> dict[str, float]:
        counts, self._counts = self._counts, VerifierCounts()
        before, self._down_s_read = self._down_s_read, self._client.down_s
        down = {"verifier/down": float(self._client.is_down), "verifier/down_s": self._down_s_read - before}
        return counts.metrics(self._client.read_traffic()) | down
