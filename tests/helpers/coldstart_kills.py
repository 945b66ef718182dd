"""Calls of `seethink coldstart` that are killed at random moments and given again. Run as a script, it is the process.

Importing takes seconds, so one process imports once and forks for every call. It reads a JSON object of
`words` (a list per call), `out` and `after` (seconds until SIGKILL; null: let it end), and prints exit statuses.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time


def call(words: list[str], after: float | None) -> int:
    """The exit code of one call, or the negative number of its signal."""
    child = os.fork()
    if child == 0:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        sys.argv = ["seethink", *words]
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        os._exit(code)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    import seethink.studies.coldstart.command  # once, before the forks

    if "reward" in sys.argv:
        import seethink.coldstart.reward_checkpoint  # noqa: F401
        from seethink.models.load import prepare_transformers

        prepare_transformers()
        from transformers import AutoModelForSequenceClassification, AutoProcessor  # noqa: F401
    from seethink.cli.main import main

    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        print(call(asked["words"], asked["after"]), flush=True)
