"""A process that another one started ends when that one has."""

from __future__ import annotations

import os
import signal
import threading
import time

_EVERY = 1.0
"""Seconds between two looks."""


def stop_with_parent() -> None:
    """From now on, this process gets SIGTERM within a second of its parent's end, however that ended."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_EVERY)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
