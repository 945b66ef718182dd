"""Norms and gated layers in closed form, against autograd through the families' own modules."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers.families import FAMILY_PARAMS, save_family
from seethink.models.load import LoadedModel, load_model
from seethink.models.small_cpu.closed_form import use_closed_forms

OTHERS = {"gemma3", "gemma4", "blip-2"}
"""Norms of 1 + weight and a gate of GELU; LayerNorm and an MLP without a gate."""


class Norm(nn.Module):
    """transformers' RMSNorm without the upcast."""

    def __init__(self, weight: Tensor, eps: float) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = nn.Parameter(weight), eps

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


def language_parts(model: Any) -> dict[str, nn.Module]:
    """The norms and gated layers of the language model, by name."""
    found = {n: m for n, m in model.named_modules() if hasattr(m, "variance_epsilon") or hasattr(m, "gate_proj")}
    return {name: module for name, module in found.items() if "vision" not in name and "visual" not in name}


def gradients(module: nn.Module, x: Tensor) -> list[Tensor]:
    """The output, and the gradients of the input and of every parameter."""
    x = x.detach().requires_grad_()
    out = module(x)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), [x, *module.parameters()])]


def width_of(module: Any) -> int:
    return int(module.weight.shape[0] if hasattr(module, "weight") else module.gate_proj.in_features)


@pytest.mark.parametrize("family", FAMILY_PARAMS)
def test_gradients_equal_autograds_in_every_family(family: str, tmp_path: Path) -> None:
    model = load_model(str(save_family(family, tmp_path))).model
    plain = {name: copy.deepcopy(module) for name, module in language_parts(model).items()}
    replaced = use_closed_forms(model)
    if family in OTHERS:
        assert not replaced
        return
    if family in ("cohere2_vision", "aya_vision"):  # its norms take the mean off first
        plain = {name: module for name, module in plain.items() if name.endswith("mlp")}
    assert plain
    assert set(plain) <= set(replaced), "not in closed form"
    for name, module in plain.items():
        x = torch.randn(3, 5, width_of(module), generator=torch.Generator().manual_seed(1))
        expected, found = gradients(module, x), gradients(model.get_submodule(name), x)
        assert torch.equal(found[0], expected[0]), name
        for a, b in zip(found, expected, strict=True):
            assert torch.allclose(a, b, rtol=1e-5, atol=1e-6 * float(b.abs().max())), name


def test_in_float64_they_agree_to_1e_12(nano: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The norm's upcast to float32 is turned off, so that what is left is the formula."""
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self)
    x = torch.randn(2, 4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    norm = Norm(torch.linspace(0.5, 2, 8, dtype=torch.float64), 1e-3)
    norms, mlps = (
        [m, copy.deepcopy(m)] for m in (norm, language_parts(nano.model)["model.language_model.layers.0.mlp"])
    )
    for (plain, closed), given in ((norms, x), ([m.double() for m in mlps], torch.randn(2, 4, 128).double())):
        assert use_closed_forms(closed) == [""]
        for a, b in zip(gradients(closed, given), gradients(plain, given), strict=True):
            assert torch.allclose(a, b, rtol=1e-12, atol=1e-12 * float(b.abs().max()))
    closed = norms[1]
    assert torch.autograd.gradcheck(closed, x.requires_grad_())


def test_by_hand() -> None:
    """x = (3, 4), eps 0: the root mean square is sqrt(12.5); out = weight * x / it, gradient 0 along x."""
    norm = Norm(torch.tensor([1.0, 2.0]), 0.0)
    assert use_closed_forms(norm) == [""]
    x = torch.tensor([[3.0, 4.0]], requires_grad=True)
    norm(x).sum().backward()
    root = math.sqrt(12.5)
    # d/dx_j sum_i w_i x_i / r = w_j / r - x_j (sum_i w_i x_i) / (2 r^3)
    expected = [w / root - x_j * 11 / (2 * root**3) for w, x_j in ((1, 3), (2, 4))]
    assert x.grad is not None
    assert x.grad[0].tolist() == pytest.approx(expected, rel=1e-5)
    assert norm.weight.grad is not None
    assert norm.weight.grad.tolist() == pytest.approx([3 / root, 4 / root])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_the_modules_own_output_and_types(nano: LoadedModel, dtype: torch.dtype) -> None:
    for name in ("model.language_model.norm", "model.language_model.layers.0.mlp"):
        plain = copy.deepcopy(nano.model.get_submodule(name)).to(dtype)
        closed = copy.deepcopy(plain)
        assert use_closed_forms(closed) == [""]
        x = torch.randn(7, 128, generator=torch.Generator().manual_seed(3)).to(dtype)
        expected, found = gradients(plain, x), gradients(closed, x)
        assert torch.equal(found[0], expected[0])
        for a, b in zip(found, expected, strict=True):
            assert a.dtype == b.dtype == dtype
            assert torch.allclose(a, b, rtol=0.03, atol=0.03 * float(b.abs().max()))


def test_what_computes_something_else_stays(nano: LoadedModel) -> None:
    class OneMore(nn.Module):
        """Gemma's norm: 1 + weight."""

        variance_epsilon = 1e-6

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(8))

        def forward(self, x: Tensor) -> Tensor:
            return (1 + self.weight) * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)

    assert use_closed_forms(OneMore()) == []
    mlp = copy.deepcopy(nano.model.get_submodule("model.language_model.layers.0.mlp"))
    mlp.act_fn = nn.GELU()
    assert use_closed_forms(mlp) == []
    hooked = copy.deepcopy(nano.model.get_submodule("model.language_model.norm"))
    hooked.forward = hooked.forward
    assert use_closed_forms(hooked) == []


def test_a_copy_computes_with_its_own_weights(nano: LoadedModel) -> None:
    norm = copy.deepcopy(nano.model.get_submodule("model.language_model.norm"))
    assert use_closed_forms(norm) == [""]
    assert use_closed_forms(norm) == [], "done twice"
    other = copy.deepcopy(norm)
    with torch.no_grad():
        other.weight.zero_()
    assert not other(torch.ones(2, 128)).any()


def test_less_is_kept_for_backward(nano: LoadedModel) -> None:
    """An MLP keeps gate, up and their product; the norm its input and one number a token."""

    def kept(module: nn.Module) -> int:
        sizes: dict[int, int] = {}
        parameters = {id(p) for p in module.parameters()}
        x = torch.randn(64, 128, requires_grad=True)

        def pack(t: Tensor) -> Tensor:
            if id(t) not in parameters and t.untyped_storage().data_ptr() != x.untyped_storage().data_ptr():
                sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes() // t.element_size() // 64
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            out = module(x)
        del out
        return sum(sizes.values())

    modules = {"mlp": "model.language_model.layers.0.mlp", "norm": "model.language_model.norm"}
    plain = {key: copy.deepcopy(nano.model.get_submodule(name)) for key, name in modules.items()}
    closed = copy.deepcopy(plain)
    for module in closed.values():
        use_closed_forms(module)
    weights = 3 * 128 * 384 // 64  # transposed views of the projections are saved as well
    assert kept(closed["norm"]) <= 1 < 128 <= kept(plain["norm"])
    assert kept(plain["mlp"]) - kept(closed["mlp"]) == 384
    assert kept(closed["mlp"]) <= 3 * 384 + weights
