"""The captured decoding step and attention over shared prompts, against the model's own forward and a plain softmax."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from helpers.families import FAMILY_PARAMS, save_family
from helpers.nano import make_samples
from seethink.config import LoraConfig
from seethink.core.types import Prompt
from seethink.generate.in_process import decode_batch
from seethink.generate.in_process import step as step_module
from seethink.generate.in_process.decode_batch import DecodeBatch, prompt_attention
from seethink.generate.in_process.generator import InProcessGenerator
from seethink.generate.in_process.step import Step
from seethink.generate.protocol import Sampling
from seethink.models.forward import hidden_states, output_head
from seethink.models.load import LoadedModel, load_model
from seethink.models.lora import add_adapters

SEED = (5, 0, 0)


def made_prompts(loaded: LoadedModel, images: tuple[int, ...] = (1, 0, 1)) -> list[Prompt]:
    return [loaded.chat.prompt(sample) for sample in make_samples(images)]


@torch.inference_mode()
def stepped(loaded: LoadedModel, prompts: list[Prompt], *, captured: bool, steps: int = 3) -> list[Tensor]:
    """Logits of some greedy steps."""
    batch = DecodeBatch.prefill(loaded, prompts, 2)
    step = Step(loaded, batch.attend)
    assert step.captured is not None
    if not captured:
        step.captured = None
    logits = [batch.first_logits]
    for _ in range(steps):
        logits.append(step(logits[-1].argmax(-1), batch.positions))
        batch.advance()
    return logits


@pytest.mark.parametrize("family", FAMILY_PARAMS)
@torch.inference_mode()
def test_every_family_is_captured_and_the_capture_changes_nothing(
    family: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("torch"), "propagate", True)
    loaded = load_model(str(save_family(family, tmp_path)))
    prompts = [loaded.chat.prompt(sample) for sample in make_samples((1, 1))]
    if family in ("qwen3_vl_moe", "glm4v_moe", "kimi_k25"):
        assert Step(loaded, DecodeBatch.prefill(loaded, prompts, 1).attend).captured is None, (
            "the fused product of experts cannot be traced, nor can latents of which keys and values are made"
        )
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
        return
    plain, captured = (stepped(loaded, prompts, captured=c) for c in (False, True))
    assert all(torch.equal(a, b) for a, b in zip(plain, captured, strict=True))


@torch.inference_mode()
def test_the_capture_sees_updated_weights(nano: LoadedModel) -> None:
    prompts = made_prompts(nano)
    generator = InProcessGenerator(nano)
    generator.generate(prompts, 2, Sampling(8, 0.0), SEED)
    with torch.inference_mode(False), torch.no_grad():
        for parameter in nano.model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    again = generator.generate(prompts, 2, Sampling(8, 0.0), SEED)
    fresh = InProcessGenerator(nano).generate(prompts, 2, Sampling(8, 0.0), SEED)
    assert [[c.token_ids for c in g] for g in again] == [[c.token_ids for c in g] for g in fresh]


def test_models_of_one_structure_share_a_capture_but_no_weights() -> None:
    """The second model's own weights decide its logits, the first one's memory is freed, and adapters share nothing."""
    step_module._CAPTURES.clear()
    first = load_model("nano")
    prompts = made_prompts(first)
    stepped(first, prompts, captured=True)
    weight = weakref.ref(output_head(first.model).weight)
    del first
    gc.collect()
    assert weight() is None

    second = load_model("nano")
    with torch.no_grad():
        for parameter in second.model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    plain, captured = (stepped(second, prompts, captured=c) for c in (False, True))
    assert all(torch.equal(a, b) for a, b in zip(plain, captured, strict=True))
    with torch.inference_mode(), torch.enable_grad():
        stepped(second, prompts, captured=True)
        assert torch.is_grad_enabled()
    assert len(step_module._CAPTURES) == 1

    add_adapters(second.model, LoraConfig(parts=("language",), rank=2), seed=0)
    stepped(second, prompts, captured=True)
    assert len(step_module._CAPTURES) == 1


@torch.inference_mode()
def test_logits_equal_a_forward_over_the_whole_sequence(frozen_nano: LoadedModel) -> None:
    """With rows leaving, so that prompts have unlike numbers of rows, and a prompt none at all."""
    prompts = made_prompts(frozen_nano)
    batch = DecodeBatch.prefill(frozen_nano, prompts, 3)
    step = Step(frozen_nano, batch.attend)
    ids = torch.randint(5, 300, (40, 9), generator=torch.Generator().manual_seed(0))
    for number in range(40):
        if number == 3:
            batch.select(torch.tensor([0, 1, 2, 3, 5, 7]))
        if number == 10:
            batch.select(torch.tensor([1, 4, 5]))  # of prompts 0, 1 and 2; then of 0 and 2
        if number == 35:
            batch.select(torch.tensor([0, 2]))
        logits = step(ids[number, batch.rows], batch.positions)
        batch.advance()
        if number in (2, 3, 9, 10, 39):
            for row, got in zip(batch.rows.tolist(), logits, strict=True):
                prompt = prompts[row // 3]
                whole = torch.tensor([[*prompt.input_ids, *ids[: number + 1, row].tolist()]])
                hidden = hidden_states(frozen_nano.model, whole, torch.arange(whole.shape[1])[None], prompt.mm_kwargs)
                expected = output_head(frozen_nano.model)(hidden[0, -1])
                assert (got - expected).abs().max() < 2e-5 * expected.abs().max()


def plain_attention(q: Tensor, prompts: list[tuple[Tensor, Tensor]], own: list[tuple[Tensor, Tensor]]) -> Tensor:
    """[R, 1, H, D]: every row alone over prompt and own keys, each ([T, K, D], [T, K, D])."""
    rows = []
    for query, (pk, pv), (ok, ov) in zip(q[:, :, 0], prompts, own, strict=True):
        keys, values = (
            torch.cat(pair).repeat_interleave(len(query) // pk.shape[1], 1) for pair in ((pk, ok), (pv, ov))
        )
        weights = (torch.einsum("hd,thd->ht", query, keys) * query.shape[-1] ** -0.5).softmax(-1)
        rows.append(torch.einsum("ht,thd->hd", weights, values))
    return torch.stack(rows)[:, None]


@pytest.mark.parametrize("window", [0, 12, 4])
@pytest.mark.parametrize("padded", [False, True])
def test_attention_equals_a_plain_softmax_in_float64(padded: bool, window: int) -> None:
    """Windows that end inside the prompt, at it, and among the row's own tokens."""
    torch.manual_seed(0)
    prompts, group, heads, kv, width, length, steps = 2, 3, 4, 2, 8, 10, 7
    keys, values = torch.randn(2, prompts, kv, length, width, dtype=torch.float64)
    mask = torch.ones(prompts, length, dtype=torch.long)
    pads = [4, 0] if padded else [0, 0]
    for row, pad in enumerate(pads):
        mask[row, :pad] = 0
    zeros = torch.zeros(prompts * group)
    batch = DecodeBatch([(keys, values)], mask, zeros[:, None], zeros.long())
    own: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(prompts * group)]
    for _ in range(steps):
        q = torch.randn(prompts * group, heads, 1, width, dtype=torch.float64)
        k, v = torch.randn(2, prompts * group, kv, 1, width, dtype=torch.float64)
        got = batch.attend(0, q, k, v, width**-0.5, window)
        batch.advance()
        for row, pair in enumerate(own):
            pair.append((k[row, :, 0], v[row, :, 0]))
        seen = window or 10_000
        first = max(0, length + batch.length - seen)
        expected = plain_attention(
            q,
            [
                tuple(t[r // group, :, max(first, pads[r // group]) :].transpose(0, 1) for t in (keys, values))
                for r in range(prompts * group)
            ],
            [tuple(torch.stack(t)[-seen:] for t in zip(*pair, strict=True)) for pair in own],
        )
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_the_two_forms_of_attention_over_prompts_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """The written-out form serves devices without the CPU's kernel."""
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 9, 8), torch.randn(2, 3, 9, 8)
    mask = torch.zeros(2, 1, 1, 9).masked_fill(torch.arange(9) < 4, float("-inf"))
    for hidden in (None, mask):
        kernel = prompt_attention(q, k, v, hidden)
        monkeypatch.setattr(decode_batch, "HAS_KERNEL", ())
        plain = prompt_attention(q, k, v, hidden)
        monkeypatch.undo()
        for a, b in zip(kernel, plain, strict=True):
            torch.testing.assert_close(a, b)


def spied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many prompts each batch began with."""
    sizes: list[int] = []
    prefill: Callable[..., DecodeBatch] = DecodeBatch.prefill

    def noted(loaded: LoadedModel, prompts: list[Prompt], group_size: int) -> DecodeBatch:
        sizes.append(len(prompts))
        return prefill(loaded, prompts, group_size)

    monkeypatch.setattr(DecodeBatch, "prefill", noted)
    return sizes


@pytest.mark.slow
def test_prompts_enter_while_others_are_decoded(frozen_nano: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same tokens whether 4 or 64 rows run at once, though with 4 prompts enter one after another."""
    prompts = made_prompts(frozen_nano, (1, 0, 1, 0, 1, 1))
    together = InProcessGenerator(frozen_nano, max_rows=64).generate(prompts, 2, Sampling(24), SEED)
    sizes = spied(monkeypatch)
    steps = 0
    advance = InProcessGenerator._advance

    def counted(self: InProcessGenerator, token_ids: Tensor) -> Tensor:
        nonlocal steps
        steps += 1
        assert len(token_ids) <= 4
        return advance(self, token_ids)

    monkeypatch.setattr(InProcessGenerator, "_advance", counted)
    entering = InProcessGenerator(frozen_nano, max_rows=4).generate(prompts, 2, Sampling(24), SEED)
    assert [[c.token_ids for c in g] for g in entering] == [[c.token_ids for c in g] for g in together]
    assert sum(sizes) == len(prompts)
    assert len(sizes) > 1
    longest_of_pairs = sorted((max(len(c.token_ids) for c in g) for g in together), reverse=True)
    assert steps < sum(longest_of_pairs[:6]), "prompts did not overlap"
