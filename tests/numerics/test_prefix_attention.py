"""Attention to a shared prompt without copies equals attention to copies, in value and in every gradient."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoModelForImageTextToText
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from helpers.families import FAMILY_PARAMS, save_family
from helpers.nano import gradients, nano_recipe, random_episode, relative_error
from helpers.training import make_loss, make_policy, microbatches
from seethink.models import prefix_attention
from seethink.models.forward import attention_configs
from seethink.models.load import LoadedModel, load_model
from seethink.models.prefix_attention import Run, SharedKeys, attention, copy_free, kernels_agree, runs_of
from seethink.models.shared_prompt import SharedPrompt

ROWS = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 4, 4, 4])
MASK = torch.ones(5, 9, dtype=torch.long)
MASK[2, :4] = MASK[4, :2] = 0


def test_runs_are_what_one_call_can_take() -> None:
    """Prompt 3 has no responses here; 2 and 4 are padded."""
    expected = [(0, 2, 0, 6, 0), (2, 3, 6, 8, 4), (4, 5, 8, 11, 2)]
    assert runs_of(ROWS, MASK) == tuple(Run(slice(a, b), slice(c, d), pad) for a, b, c, d, pad in expected)


def with_copies(q: Tensor, k: Tensor, v: Tensor, pk: Tensor, pv: Tensor, scale: float) -> Tensor:
    shared, length = q.shape[1] // k.shape[1], q.shape[2]
    keys, values = (torch.cat([p[ROWS], own], 2).repeat_interleave(shared, 1) for p, own in ((pk, k), (pv, v)))
    seen = MASK[ROWS].bool()[:, None].expand(-1, length, -1)
    own = torch.ones(length, length, dtype=torch.bool).tril().expand(len(ROWS), -1, -1)
    mask = torch.cat([seen, own], 2)[:, None]
    return scaled_dot_product_attention(q, keys, values, attn_mask=mask, scale=scale).transpose(1, 2)


@pytest.mark.parametrize("shared", [1, 3])
def test_equal_to_attention_over_copies(shared: int) -> None:
    generator = torch.Generator().manual_seed(shared)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    rows, length = len(ROWS), 13
    q, k, v = draw(rows, 2 * shared, length, 16), draw(rows, 2, length, 16), draw(rows, 2, length, 16)
    pk, pv = draw(5, 2, 9, 16), draw(5, 2, 9, 16)
    marked = k.clone()
    marked.shared = SharedKeys(pk, pv, runs_of(ROWS, MASK))  # type: ignore[attr-defined]
    ours, _ = attention(torch.nn.Module(), q, marked, v, None, scaling=0.3)
    theirs = with_copies(q, k, v, pk, pv, 0.3)
    above = torch.randn(ours.shape, generator=generator, dtype=torch.float64)
    pairs = zip(*(torch.autograd.grad(out, (q, k, v, pk, pv), above) for out in (ours, theirs)), strict=True)
    assert relative_error(ours, theirs) < 1e-14
    assert all(relative_error(a, b) < 1e-13 for a, b in pairs)
    # Padding and prompts without responses get none.
    (of_keys,) = torch.autograd.grad(attention(torch.nn.Module(), q, marked, v, None, scaling=0.3)[0].sum(), pk)
    assert not of_keys[3].any()
    assert not of_keys[2, :, :4].any()


def test_a_mask_is_refused() -> None:
    key = torch.zeros(2, 2, 3, 8)
    key.shared = SharedKeys(key, key, ())  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="shared_prompt=false"):
        attention(torch.nn.Module(), key, key, key, torch.ones(2, 1, 3, 3, dtype=torch.bool))


@pytest.mark.parametrize("family", FAMILY_PARAMS)
def test_which_families_need_no_copies(family: str, tmp_path: Path) -> None:
    """Those without sliding windows; attention does look for the prompt's keys, unless it makes them of latents."""
    loaded = load_model(str(save_family(family, tmp_path)))
    whole = family not in ("gemma3", "cohere2_vision", "aya_vision", "gemma4")
    assert copy_free(loaded.model, torch.float32) == whole
    assert _shared_after_use(loaded)._copy_free == (whole and family != "kimi_k25")


def test_only_the_loaded_model_is_changed_and_no_checkpoint(nano: LoadedModel, tmp_path: Path) -> None:
    """transformers' own attention stays, and a saved model loads with it."""
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is sdpa_attention_forward
    assert nano.model.config.get_text_config()._attn_implementation == prefix_attention.NAME
    nano.model.save_pretrained(tmp_path)
    assert "seethink" not in (tmp_path / "config.json").read_text()
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert {c._attn_implementation for c in attention_configs(plain)} == {"sdpa"}


def _shared_after_use(loaded: LoadedModel) -> SharedPrompt:
    episode = random_episode(loaded, [[0.0, 1.0]], images=[1])
    (batch,) = microbatches(nano_recipe(), episode, episode.groups[0].completions, [0, 1], loaded)
    assert batch.prefix is not None
    shared = SharedPrompt(loaded.model, batch.prefix)
    shared.hidden(batch)
    return shared


def test_attention_that_does_not_look_gets_copies(nano64: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model with an attention of its own trains all the same."""

    def gradient() -> Tensor:
        episode = random_episode(nano64, [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
        completions = [c for group in episode.groups for c in group.completions]
        batches = microbatches(nano_recipe(), episode, completions, list(range(6)), nano64)
        nano64.model.zero_grad()
        make_policy(nano64, nano_recipe(), 1).forward_backward(batches, make_loss(nano_recipe(), batches, None, None))
        return gradients(nano64.model)

    without = gradient()
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, prefix_attention.NAME, sdpa_attention_forward)
    assert not _shared_after_use(nano64)._copy_free
    assert relative_error(gradient(), without) < 1e-6  # the families' own float32 norms


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_kernels_are_tried_before_they_are_used(dtype: torch.dtype) -> None:
    kernels_agree.cache_clear()
    assert kernels_agree(torch.device("cpu"), dtype)


@pytest.mark.parametrize("fault", ["raises", "a wrong gradient", "a wrong sum"])
def test_kernels_that_differ_are_left_alone(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    forward, backward = prefix_attention._forward, prefix_attention._backward

    def broken_forward(*arguments: object, **options: object) -> tuple[Tensor, Tensor]:
        if fault == "raises":
            raise RuntimeError("no such kernel")
        out, sums = forward(*arguments, **options)  # type: ignore[arg-type]
        return out, sums + (fault == "a wrong sum")

    def broken_backward(*arguments: object, **options: object) -> tuple[Tensor, ...]:
        first, *others = backward(*arguments, **options)  # type: ignore[arg-type]
        return first * (1.1 if fault == "a wrong gradient" else 1), *others

    monkeypatch.setattr(prefix_attention, "_forward", broken_forward)
    monkeypatch.setattr(prefix_attention, "_backward", broken_backward)
    kernels_agree.cache_clear()
    assert not kernels_agree(torch.device("cpu"), torch.float32)
    kernels_agree.cache_clear()
