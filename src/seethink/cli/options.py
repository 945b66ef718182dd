"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

LARGEST_SEED = 2**64 - 1
"""Of torch's generators."""

Seed = Annotated[int, typer.Option(help="Of everything random.", min=0, max=LARGEST_SEED, metavar="INTEGER")]
