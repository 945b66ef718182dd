"""What is told of each cell of a picture, and the image tokens that tell it best.

Such a token is the sum of one fixed random vector for everything that is told of its cell. The language model learns to
read these sums before there is a vision encoder, at the price of text, and the vision encoder learns to give the very
sums that the language model reads. The two need not wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from seethink.world.v2.domains import DOMAINS
from seethink.world.v2.names import NAMES
from seethink.world.v2.scene import COLUMNS, NUM_CELLS, Thing
from seethink.world.v2.shows import CHARTS, SHOWS
from seethink.world.v2.tasks.chains import MOVES

KINDS = (*SHOWS, *CHARTS)
VALUES = max(domain.high for domain in DOMAINS.values()) + 1
HEADS = (len(NAMES), VALUES, len(NAMES), VALUES, len(MOVES), len(KINDS), 1)
"""What is told of a cell, with the number of cases: name, value, those of a chart's second column, arrow, the way of
showing, scratched. Each has one case more, for nothing."""
SCALE = 0.1
"""The standard deviation of one vector: that of word embeddings before their first step."""


def told(things: Sequence[Thing]) -> Tensor:
    """[cells, heads]: 0 for nothing, else case + 1."""
    targets = torch.zeros(NUM_CELLS, len(HEADS), dtype=torch.long)
    for thing in things:
        name, value, kind = NAMES.index(thing.name) + 1, thing.value + 1, KINDS.index(thing.show) + 1
        if thing.show in CHARTS:
            column, second = divmod(thing.cells[0], 2)
            targets[column::COLUMNS, 2 * second : 2 * second + 2] = torch.tensor([name, value])
            targets[column::COLUMNS, 5] = kind
            continue
        arrow = list(MOVES).index(thing.arrow) + 1 if thing.arrow else 0
        targets[list(thing.cells)] = torch.tensor(
            [name, 0 if thing.show == "arrows" else value, 0, 0, arrow, kind, int(thing.scratched)]
        )
    return targets


def image_codes(targets: Tensor, width: int) -> Tensor:
    """[..., cells, heads] -> image tokens [..., cells, width]."""
    return torch.stack([table[targets[..., head]] for head, table in enumerate(_tables(width))]).sum(0)


@cache
def _tables(width: int) -> tuple[Tensor, ...]:
    """A vector for each case of each head, [cases + 1, width]."""
    generator = torch.Generator().manual_seed(0)
    return tuple(SCALE * torch.randn(cases + 1, width, generator=generator) for cases in HEADS)
