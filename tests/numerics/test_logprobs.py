"""Log-probabilities and entropies against a full softmax worked out in float64."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch

from helpers.nano import gradients, nano_recipe, random_episode, relative_error
from helpers.training import microbatches
from seethink.core.types import Microbatch
from seethink.models import logprobs as module
from seethink.models.load import LoadedModel
from seethink.models.logprobs import logprobs_and_entropy, token_logprobs

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def naive(logits: list[float], target: int, temperature: float, banned: tuple[int, ...]) -> tuple[float, float]:
    """Python floats, one row: log p(target) and -sum p log p over what is allowed."""
    weights = {i: math.exp(x / temperature) for i, x in enumerate(logits) if i not in banned}
    total = sum(weights.values())
    entropy = -sum(w / total * math.log(w / total) for w in weights.values())
    return math.log(weights[target] / total), entropy


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("temperature", [1.0, 0.6, 2.5])
@pytest.mark.parametrize("banned", [(), (0, 4, 10)])
def test_equals_a_full_softmax(banned: tuple[int, ...], temperature: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    logits = 3 * torch.randn(20, 11, dtype=dtype)
    targets = torch.randint(5, 10, (20,))
    chosen, entropy = logprobs_and_entropy(logits, targets, temperature=temperature, banned_ids=banned)
    pairs = zip(logits.tolist(), targets.tolist(), strict=True)
    expected = torch.tensor([naive(row, t, temperature, banned) for row, t in pairs], dtype=dtype)
    torch.testing.assert_close(chosen, expected[:, 0], rtol=0, atol=TOLERANCE[dtype])
    torch.testing.assert_close(entropy, expected[:, 1], rtol=0, atol=TOLERANCE[dtype])


def test_banned_ids_have_no_probability_and_no_gradient() -> None:
    """Also where they had nearly all of it; nothing is NaN."""
    logits = torch.zeros(3, 6, dtype=torch.float64)
    logits[:, 2] = 500.0
    logits.requires_grad_()
    chosen, entropy = logprobs_and_entropy(logits, torch.tensor([0, 1, 5]), banned_ids=(2, 3))
    chosen.sum().backward()
    assert chosen.tolist() == pytest.approx([-math.log(4)] * 3, abs=1e-12)
    assert entropy.tolist() == pytest.approx([math.log(4)] * 3, abs=1e-12)
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[:, [2, 3]].abs().max() == 0


def test_gradient_is_target_minus_softmax() -> None:
    torch.manual_seed(1)
    logits = torch.randn(4, 9, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 8, 3, 3])
    chosen, entropy = logprobs_and_entropy(logits, targets, temperature=0.5)
    chosen.sum().backward()
    expected = (torch.nn.functional.one_hot(targets, 9) - (logits / 0.5).softmax(-1)) / 0.5
    torch.testing.assert_close(logits.grad, expected.detach(), rtol=0, atol=1e-12)
    assert not entropy.requires_grad


def test_half_precision_is_computed_in_float32() -> None:
    """The only loss is that of the bf16 logits themselves."""
    torch.manual_seed(2)
    logits = (4 * torch.randn(50, 400)).bfloat16()
    targets = torch.randint(400, (50,))
    ours = logprobs_and_entropy(logits, targets)
    exact = logprobs_and_entropy(logits.double(), targets)
    assert all(value.dtype == torch.float32 for value in ours)
    for value, reference in zip(ours, exact, strict=True):
        torch.testing.assert_close(value.double(), reference, rtol=0, atol=1e-5)


def backward(loaded: LoadedModel, batch: Microbatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    loaded.model.zero_grad()
    chosen, entropy, _ = token_logprobs(loaded.model, batch, temperature=0.9, banned_ids=loaded.banned_ids)
    (chosen * torch.linspace(-1, 1, len(chosen), dtype=chosen.dtype)).sum().backward()
    return chosen.detach(), entropy, gradients(loaded.model)


def test_chunks_change_nothing(nano64: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    episode = random_episode(nano64, [[0.0, 1.0], [1.0, 0.0]])
    completions = [c for group in episode.groups for c in group.completions]
    (batch,) = microbatches(nano_recipe("", "optim.shared_prompt=false"), episode, completions, [0, 1, 2, 3], nano64)
    plain = backward(nano64, batch)
    monkeypatch.setattr(module, "LOGITS", 3 * nano64.model.lm_head.weight.shape[0] + 1)
    assert len(plain[0]) % 3, "the last chunk should be a short one"
    for whole, chunked in zip(plain, backward(nano64, batch), strict=True):
        assert relative_error(chunked, whole) < 1e-12


def test_targets_are_the_next_tokens(nano64: LoadedModel) -> None:
    """Position by position with the whole model: log p of token t is read at t - 1."""
    episode = random_episode(nano64, [[1.0]])
    group = episode.groups[0]
    (batch,) = microbatches(nano_recipe("", "optim.shared_prompt=false"), episode, group.completions, [0], nano64)
    chosen, entropy, _ = token_logprobs(nano64.model, batch, banned_ids=nano64.banned_ids)
    prompt, response = group.prompt, group.completions[0].token_ids
    for number, token in enumerate(response):
        ids = torch.tensor([prompt.input_ids + response[:number]])
        logits = nano64.model(input_ids=ids, **prompt.mm_kwargs).logits[0, -1]
        expected = naive(logits.tolist(), token, 1.0, nano64.banned_ids)
        assert (chosen[number].item(), entropy[number].item()) == pytest.approx(expected, abs=1e-10)


MEMORY = """
import re, sys
from types import SimpleNamespace
import torch
from seethink.models import logprobs
torch.set_num_threads(1)
torch.manual_seed(0)


def peak():
    # Not ru_maxrss, which begins with the parent's.
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])


vocabulary, tokens, width = int(sys.argv[1]), 1500, 16
head = torch.nn.Linear(width, vocabulary, bias=False)
hidden = torch.randn(1, tokens + 1, width, requires_grad=True)
logprobs.hidden_states = lambda *_: hidden
config = SimpleNamespace(get_text_config=SimpleNamespace)
model = SimpleNamespace(get_output_embeddings=lambda: head, config=config)
mask = torch.ones(1, tokens + 1, dtype=torch.bool)
ids = torch.randint(vocabulary, (1, tokens + 1))
given = {"input_ids": ids, "position_ids": ids, "rope_ids": None, "loss_mask": mask}
batch = SimpleNamespace(prefix=None, mm_kwargs={}, **given)
before = peak()
chosen, entropy, _ = logprobs.token_logprobs(model, batch, banned_ids=(3,))
chosen.sum().backward()
print(peak() - before)
"""


@pytest.mark.slow
def test_memory_is_flat_in_the_vocabulary() -> None:
    """1,500 tokens over 152,000 words: one tensor of all logits would be 912 MB, and several are needed."""

    def peak_mb(vocabulary: int) -> float:
        command = [sys.executable, "-c", MEMORY, str(vocabulary)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / 1024

    small, large = peak_mb(19_000), peak_mb(152_000)
    assert large < 700
    assert large < 1.5 * small + 50, f"{small:.0f} MB at 19,000 words, {large:.0f} MB at 152,000"
