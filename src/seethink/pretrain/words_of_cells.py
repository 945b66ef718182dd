"""A connector to begin with: image tokens that are near the embeddings of the words for what a cell shows.

A language model that has never seen a picture knows the words "red" and "4". The parent's connector already tells what
each cell shows to its own language model, so that a linear map from it to the words' embeddings is found in seconds, by
least squares. What the tokens lack is learned afterwards, from conversations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seethink.pretrain.cells import cell_batches
from seethink.pretrain.codes import HEADS, KINDS, VALUES
from seethink.pretrain.relatives import Parent
from seethink.pretrain.settings import BaseConfig
from seethink.world.v2.names import NAMES
from seethink.world.v2.tasks.chains import MOVES

NUMBERS = tuple(map(str, range(VALUES)))
WORDS = (NAMES, NUMBERS, NAMES, NUMBERS, tuple(MOVES), KINDS, ("scratched",))
"""The words for what is told of a cell, by the heads of `codes.HEADS`."""
WEIGHTS = (1.0, 1.0, 0.5, 0.5, 1.0, 0.25, 1.0)
"""Of each head: less for a chart's second column, and for the way of showing."""
LATER = 0.5
"""The weight of a word's next token against the one before: so 12 is not 21, nor 1 11."""
PICTURES = BaseConfig(vision_steps=40, batch_size=32)
RIDGE = 1e-3
"""Times the mean square of a feature."""


@torch.no_grad()
def begin_connector(model: Any, tokenizer: Any, parent: Parent, seed: int) -> float:
    """Set the connector of an InternVL with `parent`'s vision encoder; returns the share of variance that it explains.

    Its first layer begins with `parent`'s, its last one is fitted.
    """
    connector = model.model.multi_modal_projector
    own = parent.weights("multi_modal_projector.", "")
    connector.layer_norm.weight.copy_(own["layer_norm.weight"])
    connector.layer_norm.bias.copy_(own["layer_norm.bias"])
    rows = len(own["linear_1.weight"])
    connector.linear_1.weight[:rows], connector.linear_1.bias[:rows] = own["linear_1.weight"], own["linear_1.bias"]
    tables = word_vectors(model.get_input_embeddings().weight, tokenizer)
    seen: list[Tensor] = []
    hook = connector.linear_2.register_forward_pre_hook(lambda _, given: seen.append(given[0].flatten(0, -2)))
    wanted = []
    for pixels, cells in cell_batches(BaseConfig(**{**vars(PICTURES), "seed": seed}), 0):
        model.get_image_features(pixel_values=pixels)
        wanted.append(torch.stack([table[cells[..., head]] for head, table in enumerate(tables)]).sum(0).flatten(0, 1))
    hook.remove()
    return _fit(connector.linear_2, torch.cat(seen).double(), torch.cat(wanted).double())


def _fit(layer: Any, given: Tensor, wanted: Tensor) -> float:
    """Ridge regression; returns the share of variance that is explained."""
    given_mean, wanted_mean = given.mean(0), wanted.mean(0)
    x, y = given - given_mean, wanted - wanted_mean
    square = x.T @ x
    square += RIDGE * square.diagonal().mean() * torch.eye(len(square), dtype=square.dtype)
    weight = torch.linalg.solve(square, x.T @ y).T
    layer.weight.copy_(weight)
    layer.bias.copy_(wanted_mean - weight @ given_mean)
    return 1 - float((y - x @ weight.T).square().sum() / y.square().sum())


@torch.no_grad()
def word_vectors(embeddings: Tensor, tokenizer: Any) -> list[Tensor]:
    """For each head of `codes.HEADS`, a vector for nothing and one for each case: [cases + 1, width].

    The vectors of a cell add up to the mean embedding with what the words add to it.
    """
    mean = embeddings.mean(0)
    tables = []
    for head, words in enumerate(WORDS):
        table = torch.zeros(HEADS[head] + 1, embeddings.shape[1])
        for case, word in enumerate(words, start=1):
            text = word if word.isdigit() else f" {word}"
            for place, token in enumerate(tokenizer(text, add_special_tokens=False)["input_ids"]):
                table[case] += WEIGHTS[head] * LATER**place * (embeddings[token] - mean)
        tables.append(table + mean / len(WORDS))
    return tables
