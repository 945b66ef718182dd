"""The weights that another engine is given: the tensors of an export by the names of an export, adapters merged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from helpers.families import NESTED_VISION_FAMILIES, save_family
from helpers.nano import load_nano
from seethink.config import LoraConfig
from seethink.models.load import export_model, load_model
from seethink.models.lora import add_adapters
from seethink.models.weight_stream import checkpoint_weights


@pytest.mark.parametrize("family", ["nano", NESTED_VISION_FAMILIES[0]])
def test_they_are_those_of_an_export(family: str, random_nano: Path, tmp_path: Path) -> None:
    """nano has a tied head, which comes once; the others' names differ in memory and in a checkpoint."""
    source = random_nano if family == "nano" else save_family(family, tmp_path / "start")
    loaded = load_nano(random_nano) if family == "nano" else load_model(str(source))
    export_model(loaded.model, loaded.chat, tmp_path / "export", {})
    expected = load_file(tmp_path / "export" / "model.safetensors")
    found = dict(checkpoint_weights(loaded.model, torch.float32))
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert {t.dtype for _, t in checkpoint_weights(loaded.model, torch.bfloat16)} == {torch.bfloat16}


def test_adapters_are_merged_in_every_part(random_nano: Path, tmp_path: Path) -> None:
    loaded = load_nano(random_nano)
    before = dict(checkpoint_weights(loaded.model, torch.float32))
    before = {name: tensor.clone() for name, tensor in before.items()}
    add_adapters(loaded.model, LoraConfig(parts=("vision", "connector", "language"), rank=2), seed=0)
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if ".lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(1))
    export_model(loaded.model, loaded.chat, tmp_path / "merged", {})
    expected = load_file(tmp_path / "merged" / "model.safetensors")
    found = dict(checkpoint_weights(loaded.model, torch.float32))
    assert set(found) == set(expected) == set(before)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    changed = [name for name in found if not torch.equal(found[name], before[name])]
    assert all(any(part in name for name in changed) for part in ("vision_tower", "projector", "language_model"))
    assert len(changed) < len(found), "norms have no adapter"
