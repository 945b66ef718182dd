"""One forward for every family: ids, positions and images -> the last hidden states. Trainer and decoder share it.

Letters: B rows, T tokens, H hidden width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache

from seethink.core.types import Microbatch
from seethink.models.parts import family_of


def model_positions(batch: Microbatch) -> Tensor:
    """The `position_ids` that a model takes: [B, T], or [4, B, T] with M-RoPE, the plain positions first."""
    return batch.position_ids if batch.rope_ids is None else torch.cat([batch.position_ids[None], batch.rope_ids])


def hidden_states(
    model: Any,
    input_ids: Tensor,
    position_ids: Tensor,
    mm_kwargs: dict[str, Tensor],
    *,
    attention_mask: Tensor | None = None,
    cache: Cache | None = None,
) -> Tensor:
    """[B, T, H]. `position_ids` is [B, T], or [3 or 4, B, T] with M-RoPE (4: the plain positions first).

    With a cache, its keys and values come before `input_ids` and it is extended.
    """
    family = family_of(model)
    common: dict[str, Any] = {"attention_mask": attention_mask, "position_ids": position_ids, "past_key_values": cache}
    common["use_cache"] = cache is not None
    if family.body == "language_model":
        body = without_head(model.language_model)
        return body(inputs_embeds=_embed(model, input_ids, mm_kwargs), **common).last_hidden_state  # type: ignore[no-any-return]
    # A response is text: only the prompt's forward needs to know which tokens are image.
    if family.token_types and (cache is None or cache.get_seq_length() == 0):
        common[family.token_types] = is_image_token(model, input_ids).long()
    return model.model(input_ids=input_ids, **common, **beside_weights(model, mm_kwargs)).last_hidden_state  # type: ignore[no-any-return]


def beside_weights(model: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A processor's tensors, pixels in the precision of the weights: Kimi's and Llama 4's encoders do not see to it."""
    return {key: t.to(model.dtype) if t.is_floating_point() else t for key, t in tensors.items()}


def without_head(language: Any) -> Any:
    """The module that gives hidden states; of Llama 4's, whose base is itself, the model inside."""
    base = language.base_model
    return getattr(base, "model", base) if base is language else base


def next_logits(
    model: Any, token_ids: Tensor, positions: Tensor, cache: Cache, attention_mask: Tensor | None = None
) -> Tensor:
    """[R, V] logits after one token [R] of each row, at positions [R]; all that was before is in the cache."""
    columns = positions[:, None]
    placed = columns.expand(3, -1, -1) if family_of(model).positions == "M-RoPE" else columns
    hidden = hidden_states(model, token_ids[:, None], placed, {}, attention_mask=attention_mask, cache=cache)
    return to_logits(model, hidden[:, -1])


def is_image_token(model: Any, input_ids: Tensor) -> Tensor:
    """True at the places that image features take."""
    return input_ids == image_token_id(model.config)


def is_video_token(model: Any, input_ids: Tensor) -> Tensor:
    """True at the places that video features take; nowhere where a family shows frames as images."""
    return input_ids == getattr(model.config, "video_token_id", -1)


def vocabulary_size(model: Any) -> int:
    """The number of logits per token."""
    head: Any = output_head(model)
    return int(head.weight.shape[0])


def cached_states(cache: Any) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of every layer in a cache after a forward, each [B, key heads, T, D]."""
    return [(layer.keys, layer.values) for layer in cache.layers]


def stateful_layers(model: Any) -> str:
    """Kinds of layers that carry more than keys and values from token to token (linear attention, short convolutions,
    state spaces, chunks), separated by commas; "" for none."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None) or ())
    return ", ".join(sorted(kinds - {"full_attention", "sliding_attention"}))


def has_latent_attention(model: Any) -> bool:
    """Whether caches keep low-rank latents of which each step makes keys and values anew (DeepSeek-V3, Kimi)."""
    return getattr(model.config.get_text_config(), "kv_lora_rank", None) is not None


def attention_configs(model: Any) -> list[Any]:
    """The configurations in which the layers that can have a cache look up their attention; some families copy it."""
    configs = {id(c): c for m in model.modules() if hasattr(m, "layer_idx") and (c := getattr(m, "config", None))}
    text = model.config.get_text_config()
    return list((configs | {id(text): text}).values())


def image_token_id(config: Any) -> int:
    """The id of the token whose places image features take; configs of different age name it differently."""
    return int(config.image_token_id if hasattr(config, "image_token_id") else config.image_token_index)


def output_head(model: Any) -> nn.Module:
    """The matrix of the vocabulary, which may not yet give logits: `to_logits` does."""
    head: nn.Module = model.get_output_embeddings()
    return head


def to_logits(model: Any, hidden: Tensor) -> Tensor:
    """[..., H] -> [..., V] logits as the language model defines them.

    Gemma bounds them softly; Cohere and Granite scale them. Of transformers' classes with images (5.19) most leave out
    the scale, which vLLM and the language models' own classes apply: the likeliest token is the same, its probability
    is another.
    """
    logits: Tensor = output_head(model)(hidden)
    text = model.config.get_text_config()
    if (bound := getattr(text, "final_logit_softcapping", None)) is not None:
        logits = bound * torch.tanh(logits / bound)
    scale = logit_scale(text)
    return logits if scale == 1.0 else scale * logits


def logit_scale(text: Any) -> float:
    """The factor in a language model's configuration: Cohere's, or the inverse of Granite's; 1 where there is none."""
    factor, divisor = getattr(text, "logit_scale", None), getattr(text, "logits_scaling", None)
    return float(factor) if isinstance(factor, int | float) else 1.0 / float(divisor or 1.0)


def _embed(model: Any, input_ids: Tensor, mm_kwargs: dict[str, Tensor]) -> Tensor:
    """Token embeddings with the connector's outputs in the image places."""
    embeds: Tensor = model.get_input_embeddings()(input_ids)
    if not mm_kwargs:
        return embeds
    seen = model.get_image_features(**beside_weights(model, mm_kwargs), return_dict=True)
    features = getattr(seen, "pooler_output", None)
    if features is None:  # Llama 4 leaves the connector to its forward.
        features = model.get_submodule(family_of(model).connector[0])(seen.last_hidden_state)
    places = is_image_token(model, input_ids)[..., None].expand_as(embeds)
    if places.sum() != features.numel():
        found, wanted = int(places[..., 0].sum()), features.shape[:-1].numel()
        raise ValueError(f"the prompt has {found} image tokens but the images give {wanted}")
    return embeds.masked_scatter(places, features.to(embeds.dtype))


@contextmanager
def checkpointed(model: nn.Module, *, enabled: bool) -> Iterator[None]:
    """Recompute each layer in backward.

    transformers ties this to training mode, which would also turn dropout on. So only the layers themselves are put
    into it, and only for the forward: a decoding layer would drop its cache.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)] if enabled else []
    for layer in layers:
        layer.training = True
        # The caches of shared prompts return the same states when a layer runs again.
        layer._can_checkpoint_with_cache = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = layer._can_checkpoint_with_cache = False


def enable_checkpointing(model: Any) -> None:
    """Let the model's layers be recomputed; `checkpointed` says when they are."""
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


_GRIDS = ("image_grid_thw", "video_grid_thw", "second_per_grid_ts")
"""What the positions of images and videos follow from; the last is Qwen2.5-VL's alone."""


def rope_positions(model: Any, input_ids: list[int], mm_kwargs: dict[str, Tensor]) -> Tensor | None:
    """[3, T] positions of a prompt with M-RoPE; None where positions simply count."""
    if family_of(model).positions == "1-D":
        return None
    ids = torch.tensor([input_ids])
    grids = {key: mm_kwargs[key] for key in _GRIDS if key in mm_kwargs}
    if not grids:
        return torch.arange(len(input_ids)).expand(3, -1)
    kinds = is_image_token(model, ids).int() + 2 * is_video_token(model, ids).int()
    positions, _ = model.model.get_rope_index(ids, kinds, **grids)
    return positions[:, 0]  # type: ignore[no-any-return]
