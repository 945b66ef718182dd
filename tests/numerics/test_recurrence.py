"""Linear attention under autocast: gradients as near those of float64 as bfloat16 weights would have them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.families import save_family
from helpers.nano import make_samples, relative_error
from seethink.models.load import LoadedModel, load_model

ANSWER = (50, 60, 70, 80)


def gradient(model: Any, ids: Tensor, around: AbstractContextManager[Any]) -> Tensor:
    """Of the log-probs of the last tokens, over all weights, in float64."""
    model.requires_grad_(True)
    with around:
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    said = logits[0, -len(ANSWER) - 1 : -1].double().log_softmax(-1)
    said.gather(1, ids[0, -len(ANSWER) :, None]).sum().backward()
    return torch.cat(
        [(torch.zeros_like(p) if p.grad is None else p.grad).flatten().double() for p in model.parameters()]
    )


@pytest.fixture(params=["qwen3_5", "minicpmv4_6"])
def loaded(request: pytest.FixtureRequest, tmp_path: Path) -> LoadedModel:
    loaded = load_model(str(save_family(request.param, tmp_path)))
    # Keys of a random model are near 0, and are divided by their length: its gradients are all rounding.
    for name, weight in loaded.model.named_parameters():
        if "conv1d" in name or "in_proj_qkv" in name:
            weight.data *= 4
    return loaded


def test_autocast_keeps_the_gradient(loaded: LoadedModel) -> None:
    ids = torch.tensor([[*loaded.chat.prompt(make_samples((0,))[0]).input_ids, *ANSWER]])
    exact = gradient(deepcopy(loaded.model).double(), ids, nullcontext())
    half = replace(loaded, compute_dtype=torch.bfloat16)
    assert relative_error(gradient(deepcopy(half.model), ids, half.autocast()), exact) < 0.1
    assert relative_error(gradient(deepcopy(loaded.model), ids, loaded.autocast()), exact) < 1e-5
