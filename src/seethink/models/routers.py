"""The routers of a mixture of experts: how many tokens each expert gets, and the loss that balances them.

The loss is transformers' `load_balancing_loss_func` (Switch Transformer, arXiv 2101.03961, equations 4-6): the number
of experts times the sum over experts of f P, where f is the share of tokens that go to an expert (it counts each of a
token's choices) and P its mean probability, both over all layers and tokens. Gradients flow through P alone, so the
loss of a step is a sum over its tokens once f is known of all of them: no division into micro-batches changes it.

Letters: L layers with experts, E experts, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seethink.core.errors import UserError

NO_LOAD = torch.zeros(0, 2, 0)
"""Of a model without routers."""


@dataclass(frozen=True, slots=True)
class Routers:
    """The routers of a model, in the order of its layers."""

    modules: tuple[nn.Module, ...]
    index: int
    """Where a router's output has its logits."""
    chosen: int
    """Experts of a token."""

    @contextmanager
    def recording(self) -> Iterator[list[Tensor]]:
        """The logits [T, E] of each router that runs inside, with their graph; not those of layers that backward
        computes again."""
        logits: list[Tensor] = []

        def record(_: nn.Module, __: Any, output: Any) -> None:
            logits.append(output[self.index] if isinstance(output, tuple) else output)

        handles = [module.register_forward_hook(record) for module in self.modules]
        try:
            yield logits
        finally:
            for handle in handles:
                handle.remove()

    def load(self, logits: list[Tensor], counted: Tensor) -> Tensor:
        """[L, 2, E] tokens of each expert, and its summed probability with gradient, over the tokens that are `counted`
        [B, T]; empty where no router ran."""
        if not logits:
            return NO_LOAD
        rows = counted.reshape(-1)
        found = []
        for layer in logits:
            chosen_TE = layer[rows]
            probs_TE = chosen_TE.to(torch.promote_types(layer.dtype, torch.float32)).softmax(-1)
            experts = probs_TE.topk(self.chosen, dim=-1).indices.reshape(-1)
            tokens = torch.bincount(experts, minlength=probs_TE.shape[-1]).to(probs_TE.dtype)
            found.append(torch.stack([tokens, probs_TE.sum(0)]))
        return torch.stack(found)


def routers_of(model: Any) -> Routers | None:
    """The routers whose logits transformers records and whose family was trained with this loss; None for other models.

    Families that balance by a bias (DeepSeek-V3, GLM-4.5V) choose experts by it, which their logits do not tell.
    """
    config = model.config.get_text_config()
    chosen = getattr(config, "num_experts_per_tok", None)
    if not chosen or not hasattr(config, "router_aux_loss_coef"):
        return None
    modules: list[nn.Module] = list(model.modules())
    for parent in modules:
        recorder: Any = (getattr(parent, "_can_record_outputs", None) or {}).get("router_logits")
        kind = getattr(recorder, "target_class", None)
        found = tuple(module for module in modules if isinstance(kind, type) and isinstance(module, kind))
        if any(hasattr(module, "e_score_correction_bias") for module in found):
            return None
        if found:
            return Routers(found, recorder.index, int(chosen))
    return None


def require_routers(model: Any, routers: Routers | None, coef: float) -> None:
    """Raises UserError for a coefficient that nothing takes."""
    if coef and routers is None:
        raise UserError(
            f"optim.router_aux_coef={coef:g}: the model ({model.config.model_type}) is no mixture of experts that is "
            "balanced by an auxiliary loss; leave the key out"
        )


def balancing_loss(load: Tensor, tokens: Tensor, chosen: int) -> Tensor:
    """A micro-batch's share of the step's loss, with gradient: `load` [L, 2, E] is its own, `tokens` [E] the number of
    tokens of each expert in the whole step, over all layers."""
    rows = tokens.sum() / chosen
    return len(tokens) * (tokens / rows * load[:, 1].sum(0) / rows).sum()


def balance(load: Tensor, chosen: int) -> dict[str, float]:
    """What the routers of a step [L, 2, E] did, as metrics."""
    shares_LE = load[:, 0] / load[:, 0].sum(-1, keepdim=True).clamp_min(1)
    entropy_L = -torch.special.xlogy(shares_LE, shares_LE).sum(-1)
    return {
        "router/balancing_loss": float(balancing_loss(load, load[:, 0].sum(0), chosen)),
        "router/max_share": float(shares_LE.max()),
        "router/min_share": float(shares_LE.min()),
        "router/idle_experts": float((shares_LE == 0).float().mean()),
        "router/entropy": float(entropy_L.mean()),
    }
