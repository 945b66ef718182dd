"""The format reward: does a response think first and answer afterwards? One linear scan, no regex."""

from __future__ import annotations

OPEN, CLOSE = "<think>", "</think>"


def has_think_format(text: str) -> bool:
    """`<think>` something `</think>` something: each tag exactly once, the block at the very start.

    >>> has_think_format("<think>2+2 is 4</think> 4")
    True
    >>> has_think_format("<think></think> 4")
    False
    """
    if text.count(OPEN) != 1 or text.count(CLOSE) != 1:
        return False
    before, _, rest = text.partition(OPEN)
    thought, closed, answer = rest.partition(CLOSE)
    return not before.strip() and bool(closed) and bool(thought.strip()) and bool(answer.strip())
