"""The reward of the experiment `random-rewards`: the control that shows what RL does without a signal."""

from __future__ import annotations

import hashlib

from seethink.core.types import Sample


def right(response: str, sample: Sample) -> float:
    """0 or 1, each as likely, whatever the answer; the same for the same response.

    >>> right("It is 4.", Sample("a", "How many?", "4")) in (0.0, 1.0)
    True
    """
    return float(hashlib.sha256(f"{sample.id}/{response}".encode()).digest()[0] % 2)
