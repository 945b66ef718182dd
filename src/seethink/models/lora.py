"""Low-rank adapters (peft) on chosen parts. Checkpoints hold the adapters; exports have them merged."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from seethink.config import LoraConfig
from seethink.core.errors import UserError
from seethink.models.forward import output_head
from seethink.models.parts import PartsError, split_parts
from seethink.models.quantized import BITS, QuantizedLinear, quantize_layers, require_bitsandbytes

_ADAPTER = ".lora_"


def add_adapters(model: Any, config: LoraConfig, seed: int) -> None:
    """Put adapters on every linear layer of `config.parts` but the head; `param_groups` freezes the weights beneath.

    The initial weights are a function of `seed` alone. Raises PartsError where a part has no linear layer, and
    UserError where peft is not installed.
    """
    try:
        import peft
    except ImportError:
        raise UserError("lora.parts needs the peft library: pip install 'seethink[lora]'") from None
    # peft takes a shared expert's layers for the fused experts of some families, which it knows by the model's config.
    unnamed = nn.ModuleDict({"all": model})
    targets = [f"all.{name}" for name in _adapted(model, config)]
    settings = peft.LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=targets, lora_dropout=0.0)  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(settings, unnamed)
    # peft copies the dtype of half-precision bases; adapters are trained weights and stay float32.
    for name, parameter in model.named_parameters():
        if _ADAPTER in name and parameter.dtype in (torch.float16, torch.bfloat16):
            parameter.data = parameter.data.float()


def require_base(config: LoraConfig) -> None:
    """Raises UserError where `lora.base` needs a library that is not installed."""
    if config.base != "float32":
        require_bitsandbytes()


def quantize_base(model: Any, config: LoraConfig) -> None:
    """Keep the weights that adapters will be put on as `config.base` says, which takes rounding; call it before
    `add_adapters`.

    Raises PartsError where a part has no linear layer, and UserError where bitsandbytes is not installed.
    """
    if config.base != "float32":
        quantize_layers(model, _adapted(model, config), BITS[config.base])


def _adapted(model: Any, config: LoraConfig) -> list[str]:
    """The linear layers that get adapters; a router that is one gives more than a product. Raises PartsError."""
    modules = model.named_modules()
    linear = {n for n, m in modules if isinstance(m, nn.Linear) and not type(m).__module__.startswith("transformers.")}
    head, parts = output_head(model), split_parts(model)
    targets: list[str] = []
    for part in config.parts:
        owned = {name.rpartition(".")[0] for name in parts[part]} & linear
        owned = {name for name in owned if model.get_submodule(name) is not head}
        if not owned:
            raise PartsError(f"lora.parts names {part}, which has no linear layer; leave it to full training")
        targets += sorted(owned)
    return targets


def has_adapters(model: nn.Module) -> bool:
    return any(_ADAPTER in name for name, _ in model.named_parameters())


def is_adapter(name: str) -> bool:
    return _ADAPTER in name


def merged_state(model: nn.Module, weights: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The state dict of the model without adapters, each adapted weight with its product added. The model stays.

    A weight in few bits is restored to float32 first. `weights` is the model's state dict, where the model itself does
    not have all of it.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers: dict[str, Any] = {n: module for n, module in model.named_modules() if isinstance(module, BaseTunerLayer)}
    given = model.state_dict() if weights is None else weights
    state: dict[str, Tensor] = {}
    for name, tensor in given.items():
        if _ADAPTER in name:
            continue
        owner, _, rest = name.partition(".base_layer.")
        if rest == "weight" and owner in layers:
            base = layers[owner].get_base_layer()
            tensor = base.restored() if isinstance(base, QuantizedLinear) else tensor
            b, a = (given[adapter] for adapter in adapter_names(owner))
            tensor = tensor + adapter_product(layers[owner], b, a).to(tensor)
        state[name.replace(".base_layer.", ".")] = tensor
    return state


def adapter_names(layer: str) -> tuple[str, str]:
    """The names of B and A of a layer's adapter."""
    return f"{layer}{_ADAPTER}B.default.weight", f"{layer}{_ADAPTER}A.default.weight"


def adapter_product(layer: Any, b: Tensor, a: Tensor) -> Tensor:
    """What an adapter adds to its layer's weight: scaling * B A."""
    product: Tensor = b @ a * layer.scaling["default"]
    return product
