"""The format reward: does a response think first and answer afterwards? One linear scan, no regex."""

from __future__ import annotations

OPEN, CLOSE = "<think>", "</think>"


def has_think_format(text: str) -> bool:
    """Whether a response thinks first and answers afterwards: `<think>`...`</think>`... (paper 3.1).

    Args:
        text: A response. Each tag must be there exactly once, the block at the very start, and neither part empty.

    Returns:
        True where the response has the form, which is worth `RewardConfig.format_weight`.

    Examples:
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
