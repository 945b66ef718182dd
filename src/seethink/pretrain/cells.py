"""The first phase of the second nano: a linear probe must tell from each image token what its cell shows.

In charts, which are read by columns, every token must tell the values of the two columns that pass through it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn import functional as F

from seethink.pretrain.batches import pixels_of
from seethink.pretrain.losses import VisionLoss
from seethink.pretrain.settings import BaseConfig
from seethink.world.v2.domains import DOMAINS
from seethink.world.v2.names import NAMES
from seethink.world.v2.scene import COLUMNS, NUM_CELLS, Thing
from seethink.world.v2.shows import CHARTS, SHOWS
from seethink.world.v2.talk import watched
from seethink.world.v2.tasks.chains import MOVES

KINDS = (*SHOWS, *CHARTS)
VALUES = max(domain.high for domain in DOMAINS.values()) + 1
HEADS = (len(NAMES), VALUES, len(NAMES), VALUES, len(MOVES), len(KINDS), 1)
"""What is told of a token, with the number of cases: name, value, those of a chart's second column, arrow, the way of
showing, scratched. Each has one case more, for nothing."""


def cell_batches(config: BaseConfig, first: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(pixels [B, 3, H, W], targets [B, cells, heads]) of the steps from `first` on: 0 for nothing, else case + 1."""
    for step in range(first, config.vision_steps):
        rng = np.random.default_rng([config.seed, 0, step])
        images: list[Image] = []
        targets = torch.zeros(config.batch_size, NUM_CELLS, len(HEADS), dtype=torch.long)
        for row in targets:
            item = watched(rng)
            images.append(item.image)
            row.copy_(told(item.problem.things))
        yield pixels_of(images), targets


def told(things: Sequence[Thing]) -> Tensor:
    """[cells, heads]"""
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


def cell_probing(width: int) -> tuple[VisionLoss, list[torch.nn.Parameter]]:
    """(a loss, the parameters of its probe). `width` is the size of an image token."""
    sizes = [cases + 1 for cases in HEADS]
    probe = torch.nn.Linear(width, sum(sizes))
    ends = list(accumulate(sizes))

    def loss(tokens: Tensor, _: Tensor, targets: Tensor) -> Tensor:
        logits = probe(tokens).flatten(0, 1)
        heads = [logits[:, end - size : end] for end, size in zip(ends, sizes, strict=True)]
        columns = targets.flatten(0, 1).unbind(1)
        return torch.stack([F.cross_entropy(h, t) for h, t in zip(heads, columns, strict=True)]).sum()

    return loss, list(probe.parameters())
