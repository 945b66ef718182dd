"""Measured entropies and masses against float64 over the full logits of transformers' own forward."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.nano import load_nano, make_samples
from seethink.core.types import Completion, Prompt, RolloutGroup
from seethink.data.prompts import PromptList
from seethink.entropy.critical import watched_ids
from seethink.entropy.meter import EntropyMeter
from seethink.eval.tasks.source import SourceTask
from seethink.generate.in_process.generator import InProcessGenerator
from seethink.generate.in_process.sampling import sample_tokens
from seethink.generate.protocol import Sampling
from seethink.models.load import LoadedModel
from seethink.models.logprobs import logprobs_and_entropy
from seethink.studies.entropy.measurement import EntropySettings, measure_entropy, rescore_entropy, score_groups

WORDS = ("the", "sum", "digits in")
"""Of the random nano's own vocabulary, so that it draws some."""


def reference(loaded: LoadedModel, prompt: Prompt, ids: list[int], temperature: float) -> tuple[Tensor, Tensor]:
    """([T] entropies, [T] masses of the watched ids): one plain forward of the whole sequence, all logits, float64."""
    whole = torch.tensor([prompt.input_ids + ids])
    with torch.no_grad():
        logits = loaded.model(input_ids=whole, **prompt.mm_kwargs).logits[0].double() / temperature
    logits[:, list(loaded.banned_ids)] = float("-inf")
    probs = logits[len(prompt.input_ids) - 1 : -1].softmax(-1)
    entropies = -(probs * probs.clamp_min(1e-300).log()).sum(-1)
    return entropies, probs[:, list(watched_ids(loaded.chat, WORDS))].sum(-1)


def drawn(loaded: LoadedModel, prompts: PromptList, temperature: float) -> list[list[Completion]]:
    sampling = Sampling(24, temperature, watched_ids=watched_ids(loaded.chat, WORDS))
    return InProcessGenerator(loaded).generate(prompts, 3, sampling, (5,))


@pytest.mark.parametrize(
    ("dtype", "temperature"),
    [
        (torch.float64, 0.6),
        (torch.float32, 1.0),
        pytest.param(torch.float64, 1.0, marks=pytest.mark.slow),
        pytest.param(torch.float32, 0.6, marks=pytest.mark.slow),
    ],
)
def test_sampling_and_scoring_agree_with_full_logits(random_nano: Path, dtype: torch.dtype, temperature: float) -> None:
    """1e-6 nats apart at most; in float32 another order of the forward's sums moves the logits themselves by more.

    Three prompts with 2, 1 and no images, three responses each.
    """
    near = 1e-6 if dtype == torch.float64 else 1e-5
    loaded = load_nano(random_nano, dtype)
    prompts = PromptList(make_samples([2, 1, 0]), loaded.chat)
    sampled = drawn(loaded, prompts, temperature)
    groups = [RolloutGroup(prompt, group) for prompt, group in zip(prompts, sampled, strict=True)]
    settings = EntropySettings(words=WORDS, temperature=temperature)
    meter = EntropyMeter(loaded.chat, WORDS, 4)
    scored = score_groups(loaded, groups, settings, meter)
    starts = 0
    for prompt, first, second in zip(prompts, sampled, scored, strict=True):
        for before, after in zip(first, second, strict=True):
            entropies, masses = reference(loaded, prompt, before.token_ids, temperature)
            for found in (before, after):
                assert len(found.entropies) == len(before.token_ids)
                assert (torch.tensor(found.entropies) - entropies).abs().max() < near
            assert (torch.tensor(before.watched_mass) - masses).abs().max() < near
            begins = torch.from_numpy(meter.marks(before.token_ids).starts)
            assert (torch.tensor(after.watched_mass)[begins] - masses[begins]).abs().max() < near
            assert torch.tensor(after.watched_mass)[~begins].isnan().all()
            starts += int(begins.sum())
    assert starts >= 9, "every response begins a sentence"


@pytest.mark.parametrize("vocabulary", [435, 151_936])
@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0, 20.0])
def test_float32_logits_give_the_entropy_of_float64_to_1e6(vocabulary: int, scale: float) -> None:
    """From flat to peaked, with banned tokens; both where tokens are drawn and where they are scored."""
    generator = torch.Generator().manual_seed(vocabulary)
    logits = scale * torch.randn(24, vocabulary, generator=generator)
    logits[:, [3, 7]] = float("-inf")
    probs = logits.double().softmax(-1)
    expected = -(probs * probs.clamp_min(1e-300).log()).sum(-1)
    scored = logprobs_and_entropy(logits, torch.zeros(24, dtype=torch.long))[1]
    drawn = sample_tokens(logits, torch.full((24,), 0.5), Sampling(1)).entropies
    assert (scored - expected).abs().max() < 1e-6
    assert (drawn - expected).abs().max() < 1e-6


@pytest.mark.slow
def test_a_report_is_what_the_tokens_say(random_nano: Path) -> None:
    """Sampled and scored again: the same tokens, the same means; by hand from the completions."""
    loaded = load_nano(random_nano)
    task = SourceTask("t", make_samples([1, 0, 1, 1]))
    prompts = PromptList(task.samples, loaded.chat)
    settings = EntropySettings(words=WORDS, window=3, samples=3, max_new_tokens=24, threshold=4.0)
    report = measure_entropy(loaded, task, settings, seed=5)
    sampling = Sampling(24, watched_ids=watched_ids(loaded.chat, WORDS))
    groups = InProcessGenerator(loaded).generate(prompts, 3, sampling, (5, 10**6))
    tokens = [(e, i, c) for g in groups for c in g for i, e in enumerate(c.entropies)]
    meter = EntropyMeter(loaded.chat, WORDS, 3)
    everything = [e for e, _, _ in tokens]
    critical = [e for e, i, c in tokens if meter.marks(c.token_ids).critical[i]]
    assert critical, "the random model draws some of its words"
    assert report.groups["all"].sketch.count == len(everything)
    assert report.groups["all"].estimate.mean == pytest.approx(np.mean(everything), abs=1e-12)
    assert report.groups["all"].tail.mean == pytest.approx(np.mean(np.array(everything) > 4.0), abs=1e-12)
    assert report.critical.mean == pytest.approx(np.mean(critical), abs=1e-12)
    assert report.completions == 12
    again = rescore_entropy(loaded, prompts, groups, settings)
    for name, group in report.groups.items():
        other = again.groups[name]
        assert other.sketch.count == group.sketch.count, name
        assert other.estimate.mean == pytest.approx(group.estimate.mean, abs=1e-6, nan_ok=True), name
    assert again.critical_mass.n == report.critical_mass.n
    assert again.critical_mass.mean == pytest.approx(report.critical_mass.mean, abs=1e-6)
    assert again.accuracy.n == report.accuracy.n


@pytest.mark.slow
def test_without_words_there_is_no_mass(random_nano: Path) -> None:
    loaded = load_nano(random_nano)
    task = SourceTask("t", make_samples([1, 0]))
    report = measure_entropy(loaded, task, EntropySettings(words=(), samples=1, max_new_tokens=4))
    assert report.critical_mass.n == report.critical.n == report.groups["following"].sketch.count == 0
    assert report.groups["all"].sketch.count > 0
