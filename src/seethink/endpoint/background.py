"""An event loop in a thread of its own, for synchronous code that talks to servers."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class BackgroundLoop:
    """Runs coroutines for callers in any thread, whether or not they have a running loop themselves.

    From a coroutine use `await asyncio.to_thread(...)`. After a fork, make a new one.
    """

    def __init__(self, owner: str) -> None:
        """`owner` names the thread and is what error messages speak of."""
        self._owner = owner
        self._pid = os.getpid()
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=owner, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`. Raises RuntimeError when the loop was closed before or meanwhile, or was forked."""
        future = self.start(work)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise RuntimeError(f"{self._owner} was closed while it was asked") from None
        except BaseException:  # Ctrl-C in the caller: the requests go too
            future.cancel()
            raise

    def start(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Begin `work` and return at once. Raises RuntimeError when the loop was closed or was forked."""
        if self._closed or os.getpid() != self._pid:
            work.close()
            why = "was closed" if self._closed else "was made before this process was forked; make one here"
            raise RuntimeError(f"{self._owner} {why}")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self, last: Callable[[], Awaitable[None]]) -> bool:
        """Cancel everything that runs, then await `last()`; a waiting `run` raises. False where it was done before."""
        if self._closed or os.getpid() != self._pid:
            return False
        self._closed = True
        asyncio.run_coroutine_threadsafe(_cancel_others(last), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        return True


async def _cancel_others(last: Callable[[], Awaitable[None]]) -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await last()
