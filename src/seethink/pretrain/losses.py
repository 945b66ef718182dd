"""The losses of base training: language on conversations, and what image tokens must tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from seethink.models.forward import hidden_states, is_image_token, to_logits
from seethink.models.load import load_model
from seethink.models.parts import family_of
from seethink.pretrain.batches import Batch
from seethink.pretrain.codes import image_codes
from seethink.pretrain.nano import IMAGE_SEQ_LENGTH
from seethink.world.draw import COLORS
from seethink.world.scenes import DOMAINS

if TYPE_CHECKING:
    from seethink.pretrain.variants import Variant

VisionLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(image tokens [B, Q, H], pixels [B, 3, H, W], targets [B, colours]) -> scalar."""


def batch_loss(model: Any, batch: Batch, variant: Variant) -> Tensor:
    """Mean cross-entropy over the assistant's tokens, a scalar.

    Padding stands on the right, where causal attention needs no mask for it.
    """
    images = variant.image_inputs(batch.pixel_values) if batch.pixel_values is not None else {}
    positions = _positions(model, batch.input_ids, images)
    if batch.told is not None:
        hidden = _told_states(model, batch.input_ids, positions, batch.told)
    else:
        hidden = hidden_states(model, batch.input_ids, positions, images)
    targets = batch.loss_mask[:, 1:]
    logits = to_logits(model, hidden[:, :-1][targets])
    return F.cross_entropy(logits, batch.input_ids[:, 1:][targets])


def _told_states(model: Any, input_ids: Tensor, positions: Tensor, told: Tensor) -> Tensor:
    """[B, T, H]: the language model's states where the image tokens are the codes of what is told [N, Q, heads]."""
    embeds = model.get_input_embeddings()(input_ids)
    codes = image_codes(told, embeds.shape[-1]).to(embeds.dtype)
    embeds = embeds.masked_scatter(is_image_token(model, input_ids)[..., None], codes)
    body = model.model.language_model
    states: Tensor = body(inputs_embeds=embeds, position_ids=positions, use_cache=False).last_hidden_state
    return states


def _positions(model: Any, input_ids: Tensor, images: dict[str, Tensor]) -> Tensor:
    """[B, T], or [3, B, T] with M-RoPE."""
    plain = torch.arange(input_ids.shape[1]).expand(input_ids.shape)
    if family_of(model).positions == "1-D":
        return plain
    if not images:
        return plain.expand(3, -1, -1)
    kinds = is_image_token(model, input_ids).int()
    positions: Tensor
    positions, _ = model.model.get_rope_index(input_ids, kinds, image_grid_thw=images["image_grid_thw"])
    return positions


def image_tokens(model: Any, images: dict[str, Tensor]) -> Tensor:
    """[N, Q, H]: the vectors that the language model receives for each picture."""
    return torch.stack([*model.get_image_features(**images, return_dict=True).pooler_output])


def probing(width: int) -> tuple[VisionLoss, list[torch.nn.Parameter]]:
    """(a loss, the parameters of its probe): a linear probe must tell the value of every colour.

    `width` is the size of an image token.
    """
    values = max(domain.high for domain in DOMAINS.values()) + 2
    probe = torch.nn.Linear(IMAGE_SEQ_LENGTH * width, len(COLORS) * values)

    def loss(tokens: Tensor, _: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(probe(tokens.flatten(1)).view(-1, values), targets.flatten())

    return loss, list(probe.parameters())


def imitation(base: str) -> VisionLoss:
    """The squared distance from a packaged base's image tokens, as a share of their variance."""
    teacher = load_model(base).model

    def loss(tokens: Tensor, pixels: Tensor, _: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = image_tokens(teacher, {"pixel_values": pixels})
        return F.mse_loss(tokens, wanted) / wanted.var()

    return loss
