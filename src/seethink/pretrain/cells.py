"""The first phase of the second nano: an image token tells all that its cell shows, in the language model's code.

In charts, which are read by columns, every token must tell the values of the two columns that pass through it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn import functional as F

from seethink.pretrain.batches import pixels_of
from seethink.pretrain.codes import HEADS, KINDS, image_codes, told
from seethink.pretrain.losses import VisionLoss
from seethink.pretrain.settings import BaseConfig
from seethink.world.v2.canvas import CELL
from seethink.world.v2.talk import watched

WARPED = ("digits", "dots", "numbered")
"""Kinds whose value stays when a cell is turned or stretched a little."""
WARP_SHARE = 0.8
"""Of such cells."""
WARP = ((0.12, 0.12, 0.03), (0.12, 0.12, 0.03))
"""Standard deviations of an affine map's entries; the last column moves, in half cells."""
SHRINK = 1.05
"""So that what stands at a cell's edge is seldom cut."""


def cell_batches(config: BaseConfig, first: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(pixels [B, 3, H, W], what is told [B, cells, heads]) of the steps from `first` on."""
    for step in range(first, config.vision_steps):
        rng = np.random.default_rng([config.seed, 0, step])
        images: list[Image] = []
        targets: list[Tensor] = []
        for _ in range(config.batch_size):
            item = watched(rng)
            images.append(item.image)
            targets.append(told(item.problem.things))
        cells = torch.stack(targets)
        yield warped(pixels_of(images), cells, torch.Generator().manual_seed(step)), cells


def warped(pixels: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
    """The pictures [B, 3, H, W] with most cells of WARPED kinds turned, sheared and scaled a little.

    There are some hundred handwritings of each digit: without this, they are learned by heart.
    """
    patches = F.unfold(pixels, CELL, stride=CELL).transpose(1, 2).reshape(-1, 3, CELL, CELL)
    kinds = torch.tensor([KINDS.index(kind) + 1 for kind in WARPED])
    chosen = torch.isin(targets[..., 5].flatten(), kinds)
    chosen &= torch.rand(len(chosen), generator=generator) < WARP_SHARE
    if not chosen.any():
        return pixels
    change = torch.randn(int(chosen.sum()), 2, 3, generator=generator) * torch.tensor(WARP)
    grid = F.affine_grid(SHRINK * torch.eye(2, 3) + change, [len(change), 3, CELL, CELL], align_corners=False)
    patches[chosen] = F.grid_sample(patches[chosen], grid, padding_mode="border", align_corners=False)
    rows = patches.view(len(pixels), -1, 3 * CELL * CELL).transpose(1, 2)
    return F.fold(rows, pixels.shape[-2:], CELL, stride=CELL)


def cell_probing(width: int) -> tuple[VisionLoss, list[torch.nn.Parameter]]:
    """(a loss, the parameters of its probe). `width` is the size of an image token.

    The loss is the cross-entropies of a linear probe, from which features are learned soonest, and the squared distance
    from the code, as a share of its variance.
    """
    sizes = [cases + 1 for cases in HEADS]
    probe = torch.nn.Linear(width, sum(sizes))
    ends = list(accumulate(sizes))

    def loss(tokens: Tensor, _: Tensor, targets: Tensor) -> Tensor:
        logits = probe(tokens).flatten(0, 1)
        heads = [logits[:, end - size : end] for end, size in zip(ends, sizes, strict=True)]
        columns = targets.flatten(0, 1).unbind(1)
        wanted = image_codes(targets, width)
        distance = F.mse_loss(tokens, wanted) / wanted.var()
        return torch.stack([F.cross_entropy(h, t) for h, t in zip(heads, columns, strict=True)]).sum() + distance

    return loss, list(probe.parameters())
