"""Where a response thinks: the tags of the dialects that models write, and what comes after them."""

from __future__ import annotations

import re

_NAMES = r"(?:seed:)?(?:think(?:ing)?|thoughts?|reasoning|reflection|scratchpad)"
_TAG = re.compile(
    rf"<(?P<close>/)?{_NAMES}>|\[(?P<bar>/)?(?:think|thinking|thought|reasoning)\]"
    r"|<\|(?P<end>end_of_|/)?(?:begin_of_)?(?:thought|think|thinking)\|>|◁(?P<kimi>/)?think▷",
    re.I,
)


def after_thinking(response: str) -> str | None:
    """What follows the last thought, the whole response where it has none, and None where a thought never ends.

    >>> after_thinking("<thinking>6 times 7</thinking> 42"), after_thinking("[THINK] 6 times 7")
    (' 42', None)
    """
    start, is_open = 0, False
    for tag in _TAG.finditer(response):
        if any(tag.groups()):
            start, is_open = tag.end(), False
        else:
            is_open = True
    return None if is_open else response[start:]


def thinks(text: str) -> bool:
    """Whether a text holds a thought's tag of any dialect."""
    return _TAG.search(text) is not None
