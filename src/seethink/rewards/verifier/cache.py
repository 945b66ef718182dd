"""Known verdicts on disk, so that a run replays without its server, and a log of disagreements."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from seethink.core.errors import UserError
from seethink.rewards.verifier.prompt import PROMPT_VERSION, VerifyItem


def cache_key(model: str, item: VerifyItem) -> str:
    """Everything the verdict depends on, hashed. Escaped ASCII, so that a lone surrogate hashes too."""
    parts = [model, PROMPT_VERSION, item.question, item.gold, item.extracted]
    return hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()


_SWITCH_TRIES, _SWITCH_PAUSE_S = 100, 0.05


class VerdictCache:
    """A table of key -> equivalent or not, shared by threads and by processes of one machine.

    Write-ahead logging lets processes read while one writes; it does not work between machines that share
    a network file system, so give each machine its own file.
    """

    def __init__(self, path: Path | None) -> None:
        """Open or create the file; None keeps verdicts in memory only. Raises UserError for a file of another kind."""
        self._path = path
        self._lock = threading.Lock()
        with self._readable():
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            # Our own lock guards the connection; isolation_level=None makes every statement its own transaction.
            self._database = sqlite3.connect(
                path or ":memory:", timeout=60.0, isolation_level=None, check_same_thread=False
            )
            self._create()

    def _create(self) -> None:
        try:
            self._write_ahead()
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS verdicts"
                " (key TEXT PRIMARY KEY, equivalent INTEGER NOT NULL, asked_at REAL NOT NULL) WITHOUT ROWID"
            )
            # A table of other columns, or with damaged pages, is known before a run relies on it.
            self._database.execute("SELECT count(*), max(equivalent), max(asked_at) FROM verdicts").fetchone()
        except sqlite3.DatabaseError:
            self._database.close()
            raise

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        """What is wrong with the file is a UserError that names it."""
        try:
            yield
        except (sqlite3.DatabaseError, OSError) as error:
            raise UserError(f"{self._path} is not a readable verdict cache ({error}); move it away") from error

    def _write_ahead(self) -> None:
        """Switch to write-ahead logging. SQLite does not wait for a process that is switching the same new file."""
        for _ in range(_SWITCH_TRIES):
            with contextlib.suppress(sqlite3.OperationalError):
                self._database.execute("PRAGMA journal_mode=WAL")
                return
            time.sleep(_SWITCH_PAUSE_S)
        self._database.execute("PRAGMA journal_mode=WAL")

    def get(self, key: str) -> bool | None:
        with self._lock, self._readable():
            row = self._database.execute("SELECT equivalent FROM verdicts WHERE key = ?", (key,)).fetchone()
        return None if row is None else bool(row[0])

    def settle(self, key: str, equivalent: bool) -> bool:
        """Store a verdict unless one is known, and return the one that holds.

        The first verdict wins, so that threads and processes that asked at the same moment agree.
        """
        with self._lock, self._readable():
            self._database.execute(
                "INSERT OR IGNORE INTO verdicts VALUES (?, ?, ?)", (key, int(equivalent), time.time())
            )
        known = self.get(key)
        return equivalent if known is None else known

    def close(self) -> None:
        with self._lock:
            self._database.close()


class DisagreementLog:
    """JSON lines for people: answers that the rule called wrong and the verifier right, and verdicts that flipped.

    Example: `{"time": 1.7e9, "kind": "yes", "question": "...", "gold": "1/2 m", "extracted": "half a metre",
    "verdict": "correct"}`
    """

    def __init__(self, path: Path | None) -> None:
        """Append to the file; None writes nothing."""
        self._path = path
        self._seen: set[tuple[str, VerifyItem]] = set()

    def write(self, kind: str, item: VerifyItem, verdict: str) -> None:
        """Add a line, once per item and kind however often its verdict is used."""
        if self._path is None or (kind, item) in self._seen:
            return
        self._seen.add((kind, item))
        row = {"time": round(time.time(), 3), "kind": kind, "question": item.question, "gold": item.gold}
        row |= {"extracted": item.extracted, "verdict": verdict}
        # One write of one line in append mode: lines of several processes do not mix.
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(file, (json.dumps(row) + "\n").encode("ascii"))
        finally:
            os.close(file)
