"""What callers of the Python API give: a wrong argument is a UserError that names it and says what is expected."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

from seethink.core.errors import UserError

SEEDS = 2**64
"""Seeds are below this, as torch takes them."""


def require_whole(least: int, **numbers: Any) -> None:
    """Each is a whole number of at least `least`."""
    for name, value in numbers.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            raise UserError(f"{name} must be a whole number of at least {least}, not {value!r}")


def require_seed(seed: Any) -> None:
    """A whole number that random generators take."""
    require_whole(0, seed=seed)
    if seed >= SEEDS:
        raise UserError(f"seed must be below 2^64, not {seed!r}")


def require_number(name: str, value: Any, *, above: float = -math.inf, least: float = -math.inf) -> None:
    """A finite number, `above` one limit and at `least` the other."""
    fits = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or value <= above or value < least:
        wanted = f"above {above:g}" if above > -math.inf else f"of at least {least:g}"
        raise UserError(f"{name} must be a finite number {wanted}, not {value!r}")


def require_list(kind: type, **lists: Any) -> None:
    """Each is a list or another sequence of `kind`; a text is not one of its letters."""
    for name, value in lists.items():
        if isinstance(value, str | bytes) or not isinstance(value, Sequence):
            raise UserError(f"{name} must be a list of {kind.__name__}, not {value!r:.80}: give [...] for one")
        strange = next((one for one in value if not isinstance(one, kind)), None)
        if strange is not None:
            raise UserError(f"{name} must be a list of {kind.__name__}, but holds {strange!r:.80}")


def require_one_of(name: str, value: Any, known: Sequence[str]) -> None:
    """A name out of a list."""
    if value not in known:
        raise UserError(f"{name} must be one of {', '.join(known)}, not {value!r}")
