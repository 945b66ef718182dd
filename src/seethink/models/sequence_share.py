"""Sequence parallelism over the language model: ranks of a group share the tokens of each row (DeepSpeed-Ulysses).

Every rank of the group has the same micro-batch and embeds all of it, images too. From the first decoder layer on it
has its share of the places. Around attention, shares of places with all heads become whole rows with a share of the
heads, and come back (Jacobs et al. 2023, arXiv 2309.14509, section 3). Each rank scores the tokens of its places, and
all of them get the scores of all. Their losses are then equal, and a rank's backward is that of its own places: the
gradient is the sum over ranks, as where ranks have sequences of their own.

Letters: B rows, T tokens, S ranks of the group, H query heads, K key-value heads, D head width, N loss tokens.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import pad

from seethink.core.errors import UserError
from seethink.core.types import Microbatch
from seethink.models.forward import attention_configs, has_latent_attention, stateful_layers
from seethink.models.prefix_attention import NAME, SHARE


class SequenceShare:
    """This rank's share of every row, and what the group exchanges. Every rank of the group calls the same methods."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group, self.ranks, self.rank = group, dist.get_world_size(group), dist.get_rank(group)
        self.due = 0
        """Layers that have begun and whose attention has not been shared yet."""

    def padded(self, batch: Microbatch) -> Microbatch:
        """The micro-batch with columns of padding, so that every rank has equally many places."""
        more = -batch.input_ids.shape[1] % self.ranks
        if not more:
            return batch
        tensors: dict[str, Any] = {
            name: pad(getattr(batch, name), (0, more)) for name in ("input_ids", "position_ids", "loss_mask")
        }
        rope = None if batch.rope_ids is None else pad(batch.rope_ids, (0, more))
        return replace(batch, **tensors, rope_ids=rope)

    def own(self, tensor: Tensor, dim: int) -> Tensor:
        """This rank's places along `dim`; in backward the others' gradient is zero."""
        return tensor.chunk(self.ranks, dim)[self.rank]

    def all_rows(self, own: Tensor, chosen: Tensor) -> Tensor:
        """own [n, ...] of this rank's chosen places -> [N, ...] of the group's, in row-major order of chosen [B, T]."""
        owners = torch.arange(self.ranks, device=chosen.device).repeat_interleave(chosen.shape[1] // self.ranks)
        owners = owners.expand_as(chosen)[chosen]
        rows: Tensor = _Gather.apply(own, owners, self)  # type: ignore[no-untyped-call]
        return rows

    def to_heads(self, states: Tensor) -> Tensor:
        """[B, H, T/S, D] of all heads -> [B, H/S, T, D] of this rank's."""
        return self._exchanged(states, 1, 2)

    def to_places(self, states: Tensor) -> Tensor:
        """[B, T, H/S, D] -> [B, T/S, H, D]."""
        return self._exchanged(states, 1, 2)

    def _exchanged(self, states: Tensor, scatter: int, gather: int) -> Tensor:
        moved: Tensor = _Exchange.apply(states, scatter, gather, self)  # type: ignore[no-untyped-call]
        return moved

    def attention(
        self, attend: Any, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **how: Any
    ) -> tuple[Tensor, None]:
        """`attend` over whole rows, of this rank's heads. query [B, H, T/S, D], key and value [B, K, T/S, D] ->
        [B, T/S, H, D]."""
        self.due -= 1
        heads, key_heads = query.shape[1], key.shape[1]
        caller: Any = module
        if key_heads % self.ranks:  # each query head has a copy of its key head
            key, value = (t.repeat_interleave(heads // key_heads, 1) for t in (key, value))
            caller = SimpleNamespace(num_key_value_groups=1, is_causal=getattr(module, "is_causal", True))
        query, key, value = (self.to_heads(t) for t in (query, key, value))
        out, _ = attend(caller, query, key, value, mask, **how)
        return self.to_places(out), None


class _Exchange(torch.autograd.Function):
    """Scatters one dimension over the ranks of a group and gathers another from them."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, scatter: int, gather: int, share: SequenceShare) -> Tensor:
        ctx.dims, ctx.share = (scatter, gather), share
        return _exchange(states, scatter, gather, share)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        scatter, gather = ctx.dims
        return _exchange(grad, gather, scatter, ctx.share), None, None, None


def _exchange(states: Tensor, scatter: int, gather: int, share: SequenceShare) -> Tensor:
    sent = torch.stack(states.chunk(share.ranks, scatter))
    received = torch.empty_like(sent)
    dist.all_to_all_single(received, sent, group=share.group)
    return torch.cat(received.unbind(0), gather)


class _Gather(torch.autograd.Function):
    """own [n, ...] of rank r -> [N, ...]: row i is the next of rank owners[i]'s. Backward keeps a rank's own rows."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, owners: Tensor, share: SequenceShare) -> Tensor:
        ctx.mine = owners == share.rank
        most = int(owners.bincount(minlength=share.ranks).max()) if len(owners) else 0
        padded = own.new_zeros(most, *own.shape[1:])
        padded[: len(own)] = own
        pieces = [torch.empty_like(padded) for _ in range(share.ranks)]
        dist.all_gather(pieces, padded, group=share.group)
        rows = own.new_empty(len(owners), *own.shape[1:])
        for number, piece in enumerate(pieces):
            theirs = owners == number
            rows[theirs] = piece[: int(theirs.sum())]
        return rows

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return grad[ctx.mine], None, None


def share_sequences(model: Any, share: SequenceShare) -> None:
    """Let the model's decoder layers work on this rank's places wherever they have no cache.

    Raises UserError where the model's attention cannot be shared.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    refuse(model, share.ranks)
    layers: list[Any] = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer) and _is_decoder(m)]
    layers[0].register_forward_pre_hook(_first, with_kwargs=True)
    for layer in layers:
        layer.register_forward_pre_hook(_each, with_kwargs=True)
        layer.register_forward_hook(_after, with_kwargs=True)
        layer.sequence_share = share
    model.sequence_share = share


def share_of(model: Any) -> SequenceShare | None:
    """What `share_sequences` gave the model."""
    return getattr(model, "sequence_share", None)


def refuse(model: Any, ranks: int) -> None:
    """Raises UserError where `ranks` ranks cannot share this model's sequences."""
    config = model.config.get_text_config()
    heads = int(config.num_attention_heads)
    why = None
    if heads % ranks:
        why = f"its language model has {heads} attention heads, which {ranks} does not divide"
    elif others := stateful_layers(model):
        why = f"its {others} layers carry more than keys and values from token to token"
    elif has_latent_attention(model):
        why = "its attention makes keys and values of latents"
    elif any(c._attn_implementation != NAME for c in attention_configs(model)):
        why = f"its attention is {config._attn_implementation!r} and not transformers' sdpa"
    elif any(hasattr(module, "_deepstack_process") for module in model.modules()):
        why = "image features enter between its layers (DeepStack)"
    if why is not None:
        raise _cannot(ranks, why)


def _cannot(ranks: int, why: str) -> UserError:
    return UserError(f"cluster.sequence_parallel={ranks} cannot share this model's sequences: {why}; set it to 1")


def _is_decoder(layer: Any) -> bool:
    return hasattr(getattr(layer, "self_attn", None), "layer_idx")


def _caches(kwargs: dict[str, Any]) -> bool:
    return kwargs.get("past_key_values") is not None


def _first(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if _caches(kwargs):
        return None
    share: SequenceShare = layer.sequence_share
    return (share.own(args[0], 1).contiguous(), *args[1:]), kwargs


def _each(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if _caches(kwargs):
        return None
    share: SequenceShare = layer.sequence_share
    if "position_embeddings" not in kwargs:
        raise _cannot(share.ranks, f"{type(layer).__name__} is given no rotary angles")
    share.due += 1
    angles = tuple(share.own(t, -2) for t in kwargs["position_embeddings"])
    return args, kwargs | {"position_embeddings": angles, "position_ids": None, SHARE: share}


def _after(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
    share: SequenceShare = layer.sequence_share
    if share.due:  # its attention has seen this rank's places alone
        raise _cannot(share.ranks, f"{type(layer).__name__} does not hand keywords on to its attention")
