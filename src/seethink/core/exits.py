"""A run that was asked to stop did: no error, but not finished either. Apart, so that the command line is quick."""

from __future__ import annotations

from pathlib import Path

EXIT_RESUME = 75
"""Exit code of a run that was asked to stop and can be resumed: EX_TEMPFAIL of sysexits.h, "try again"."""


EXIT_WATCHDOG = 76
"""Exit code of a run that one of its watchdogs stopped: it is saved, but going on as it was would be of no use."""


EXIT_OTHER_RANK = 70
"""Exit code of a rank that ended because another one had: EX_SOFTWARE of sysexits.h."""


class RunStopped(Exception):  # noqa: N818  (the run did what it was asked)
    """The message says what was saved and how to go on."""

    def __init__(self, message: str, *, finished: Path | None = None) -> None:
        """`finished` is the model of a run that was complete when the signal came; what was to follow must not."""
        super().__init__(message)
        self.finished = finished


class StoppedByWatchdog(Exception):  # noqa: N818
    """The message says which watchdog, on what numbers, and what to do."""
