"""Mistakes that a user can correct: shown as one line with exit code 2, never as a traceback."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class UserError(ValueError):
    """Says what was expected, what was found, where, and what to do."""


class OtherRankError(UserError, RuntimeError):
    """Another process of the same run could not do its share; the message has its reason."""


def as_user_error(work: Callable[[], T]) -> T:
    """Run `work`; a ValueError or a missing file is the user's to correct."""
    try:
        return work()
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from None
