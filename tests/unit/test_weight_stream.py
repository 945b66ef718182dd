"""The weights that another engine is given: the tensors of an export by the names of an export, adapters merged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from helpers.families import NESTED_VISION_FAMILIES, save_family
from helpers.nano import load_nano
from seethink.config import LoraConfig
from seethink.core.errors import UserError
from seethink.generate.kept_weights import A, B, KeptWeights
from seethink.models.load import LoadedModel, export_model, load_model
from seethink.models.lora import add_adapters
from seethink.models.weight_stream import checkpoint_weights, refuse_joined, separate_weights

MIXTURES = ("qwen3_vl_moe", "glm4v_moe", "qwen3_5_moe", "llama4")


@pytest.mark.parametrize("family", ["nano", NESTED_VISION_FAMILIES[0], *MIXTURES])
def test_they_are_those_of_an_export(family: str, random_nano: Path, tmp_path: Path) -> None:
    """nano has a tied head, which comes once; the others' names differ in memory and in a checkpoint, experts' tensors
    lie there the other way round, or one by one."""
    source = random_nano if family == "nano" else save_family(family, tmp_path / "start")
    loaded = load_nano(random_nano) if family == "nano" else load_model(str(source))
    export_model(loaded.model, loaded.chat, tmp_path / "export", {})
    expected = load_file(tmp_path / "export" / "model.safetensors")
    found = dict(checkpoint_weights(loaded.model, torch.float32))
    # No training changes a router's correction bias, which is a buffer.
    assert {name for name in expected if not name.endswith(".e_score_correction_bias")} == set(found)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
    assert {t.dtype for _, t in checkpoint_weights(loaded.model, torch.bfloat16)} == {torch.bfloat16}


def test_published_experts_are_read_and_written_as_they_are(tmp_path: Path) -> None:
    """Qwen3-VL-MoE's lie the other way round than in transformers."""
    loaded = load_model(str(save_family("qwen3_vl_moe", tmp_path / "start")))
    export_model(loaded.model, loaded.chat, tmp_path / "export", {})
    published, written = (load_file(tmp_path / name / "model.safetensors") for name in ("start", "export"))
    assert all(torch.equal(published[name], tensor) for name, tensor in written.items())
    name = "model.language_model.layers.0.mlp.experts.gate_up_proj"
    text = loaded.model.config.get_text_config()
    assert written[name].shape == (text.num_experts, text.hidden_size, 2 * text.moe_intermediate_size)
    assert torch.equal(written[name], loaded.model.get_parameter(name).transpose(1, 2))


def test_joined_tensors_are_refused(tmp_path: Path) -> None:
    loaded = load_model(str(save_family("kimi_k25", tmp_path)))
    with pytest.raises(UserError, match=r"is made of several of the model's tensors.*rollout.engine='in_process'"):
        refuse_joined(loaded.model)


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


def draw_adapters(loaded: LoadedModel, seed: int) -> None:
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if ".lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(seed))


def sent(loaded: LoadedModel, dtype: torch.dtype, *, trained_alone: bool) -> dict[str, torch.Tensor]:
    return dict(separate_weights(loaded.model, dtype, (A, B), trained_alone=trained_alone))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_keeps_them_merges_adapters_into_the_very_weights(random_nano: Path, dtype: torch.dtype) -> None:
    """All once, then adapters alone: the weights are to the bit those that merging on this side gives."""
    loaded = load_nano(random_nano)
    loaded.model.requires_grad_(False)
    add_adapters(loaded.model, LoraConfig(parts=("vision", "language"), rank=2, alpha=4.0), seed=0)
    kept = KeptWeights()
    assert not kept
    for seed, trained_alone in ((1, False), (2, True), (3, True)):
        draw_adapters(loaded, seed)
        stream = sent(loaded, dtype, trained_alone=trained_alone)
        assert all(name.endswith((A, B)) for name in stream) == trained_alone
        for name, tensor in stream.items():
            kept.take(name, tensor.clone())
        merged, expected = list(kept.merged(dtype)), list(checkpoint_weights(loaded.model, dtype))
        assert [name for name, _ in merged] == [name for name, _ in expected]
        for (_, ours), (_, theirs) in zip(merged, expected, strict=True):
            assert ours.dtype == dtype
            assert torch.equal(ours, theirs)


def test_trained_weights_come_without_the_frozen_ones(random_nano: Path) -> None:
    """A connector that is trained alone, as a whole, beside adapters on the language model."""
    loaded = load_nano(random_nano)
    loaded.model.requires_grad_(False)
    add_adapters(loaded.model, LoraConfig(parts=("language",), rank=2), seed=0)
    for name, parameter in loaded.model.named_parameters():
        parameter.requires_grad_("projector" in name or ".lora_" in name)
    stream = sent(loaded, torch.float32, trained_alone=True)
    plain = [name for name in stream if not name.endswith((A, B))]
    assert plain == [n for n, _ in checkpoint_weights(loaded.model, torch.float32) if "mlp1" in n or "projector" in n]
    assert plain
    assert all("language" in name for name in stream.keys() - set(plain))


def test_adapters_without_their_weights_are_refused() -> None:
    kept = KeptWeights()
    kept.take("layer.weight" + A, torch.ones(2, 3))
    with pytest.raises(LookupError, match=r"adapters came for layer\.weight"):
        list(kept.merged(torch.float32))
    kept.take("layer.weight", torch.ones(4, 3))
    with pytest.raises(LookupError, match="lora_B"):
        list(kept.merged(torch.float32))
