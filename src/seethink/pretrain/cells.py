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
from seethink.pretrain.codes import HEADS, image_codes, told
from seethink.pretrain.losses import VisionLoss
from seethink.pretrain.settings import BaseConfig
from seethink.world.v2.talk import watched


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
        yield pixels_of(images), torch.stack(targets)


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
