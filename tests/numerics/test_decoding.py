"""The in-process decoder against transformers' `generate` and against the trainer's own forward."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from helpers.nano import make_samples, nano_recipe
from helpers.training import microbatches
from seethink.core.types import Completion, Prompt, RolloutGroup
from seethink.generate.in_process import generator as module
from seethink.generate.in_process.generator import InProcessGenerator
from seethink.generate.protocol import Sampling
from seethink.models.load import LoadedModel
from seethink.models.logprobs import token_logprobs
from seethink.rl.rollout import Episode

IMAGES = (1, 0, 2, 1, 0)
LENGTH = 24
GREEDY = Sampling(LENGTH, temperature=0.0)
SEED = (11, 0, 0)


def made_prompts(loaded: LoadedModel, images: Sequence[int] = IMAGES) -> list[Prompt]:
    return [loaded.chat.prompt(sample) for sample in make_samples(images)]


def tokens(groups: list[list[Completion]]) -> list[list[list[int]]]:
    return [[c.token_ids for c in group] for group in groups]


def transformers_generate(loaded: LoadedModel, prompts: list[Prompt]) -> list[list[int]]:
    """Greedy, one left-padded batch, cut after the first stop token."""
    width = max(len(p.input_ids) for p in prompts)
    padded = [[loaded.chat.pad_id] * (width - len(p.input_ids)) + p.input_ids for p in prompts]
    mask = [[0] * (width - len(p.input_ids)) + [1] * len(p.input_ids) for p in prompts]
    images = [p.mm_kwargs["pixel_values"] for p in prompts if p.mm_kwargs]
    extra: dict[str, Any] = {"pixel_values": torch.cat(images)} if images else {}
    output = loaded.model.generate(
        input_ids=torch.tensor(padded),
        attention_mask=torch.tensor(mask),
        do_sample=False,
        max_new_tokens=LENGTH,
        eos_token_id=list(loaded.stop_ids),
        suppress_tokens=list(loaded.banned_ids),
        **extra,
    )
    return [_cut(row, loaded.stop_ids) for row in output[:, width:].tolist()]


def _cut(ids: list[int], stop_ids: tuple[int, ...]) -> list[int]:
    ends = [i for i, token in enumerate(ids) if token in stop_ids]
    return ids[: ends[0] + 1] if ends else ids


@pytest.fixture(scope="module")
def decoder(frozen_nano: LoadedModel) -> InProcessGenerator:
    """One generator for many tests: its first call captures the decoding step, which takes a second."""
    return InProcessGenerator(frozen_nano)


@pytest.fixture(scope="module")
def early(frozen_nano: LoadedModel, decoder: InProcessGenerator) -> LoadedModel:
    """Two more stop tokens, which greedy decoding of some prompts meets on the way and of others does not."""
    greedy = decoder.generate(made_prompts(frozen_nano), 1, GREEDY, SEED)
    stops = (greedy[0][0].token_ids[9], greedy[3][0].token_ids[4])
    return replace(frozen_nano, stop_ids=(*frozen_nano.stop_ids, *stops))


@pytest.fixture(scope="module")
def early_decoder(early: LoadedModel) -> InProcessGenerator:
    return InProcessGenerator(early)


@pytest.mark.parametrize("group_size", [pytest.param(1, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize("images", [IMAGES, (0, 0, 0), (2,)], ids=["mixed", "text only", "alone"])
def test_greedy_equals_transformers_generate(
    frozen_nano: LoadedModel, decoder: InProcessGenerator, images: tuple[int, ...], group_size: int
) -> None:
    prompts = made_prompts(frozen_nano, images)
    ours = decoder.generate(prompts, group_size, GREEDY, SEED)
    theirs = transformers_generate(frozen_nano, prompts)
    assert tokens(ours) == [[ids] * group_size for ids in theirs]


@pytest.mark.parametrize("group_size", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_greedy_with_stops_equals_transformers_generate(
    early: LoadedModel, early_decoder: InProcessGenerator, group_size: int
) -> None:
    prompts = made_prompts(early)
    ours = early_decoder.generate(prompts, group_size, GREEDY, SEED)
    assert tokens(ours) == [[ids] * group_size for ids in transformers_generate(early, prompts)]
    lengths = {len(c.token_ids) for group in ours for c in group}
    assert len(lengths) > 1, "rows should end at different times"


def test_stop_and_truncation(frozen_nano: LoadedModel) -> None:
    loaded = replace(frozen_nano, stop_ids=(*frozen_nano.stop_ids, *range(100, 130)))
    groups = InProcessGenerator(loaded).generate(made_prompts(loaded), 8, Sampling(LENGTH), SEED)
    completions = [c for group in groups for c in group]
    assert {c.truncated for c in completions} == {True, False}
    for c in completions:
        stops = [i for i, token in enumerate(c.token_ids) if token in loaded.stop_ids]
        assert stops == ([] if c.truncated else [len(c.token_ids) - 1]), "the stop token ends it and is kept"
        assert (len(c.token_ids) == LENGTH) or not c.truncated
        assert len(c.token_ids) == len(c.generator_logprobs) == len(c.entropies)
        assert c.text == loaded.chat.decode(c.token_ids if c.truncated else c.token_ids[:-1])


def test_a_stop_at_the_limit_is_no_truncation(frozen_nano: LoadedModel) -> None:
    loaded = replace(frozen_nano, stop_ids=tuple(range(frozen_nano.model.config.text_config.vocab_size)))
    groups = InProcessGenerator(loaded).generate(made_prompts(loaded), 2, Sampling(1), SEED)
    assert all(len(c.token_ids) == 1 and not c.truncated for group in groups for c in group)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("top_p", [1.0, 0.8])
def test_generator_logprobs_equal_the_trainers(
    early: LoadedModel, early_decoder: InProcessGenerator, temperature: float, top_p: float
) -> None:
    """Decoded step by step with a cache and padding on the left; trained in packed rows without either."""
    loaded = early
    prompts = made_prompts(loaded)
    sampling = Sampling(LENGTH, temperature, top_p)
    groups = early_decoder.generate(prompts, 4, sampling, SEED)
    rollouts = [RolloutGroup(p, g) for p, g in zip(prompts, groups, strict=True)]
    completions = [c for group in groups for c in group]
    batches = microbatches(nano_recipe(), Episode(rollouts, LENGTH), completions, list(range(len(completions))), loaded)
    for batch in batches:
        with torch.no_grad():
            trainer, entropies, _ = token_logprobs(
                loaded.model, batch, temperature=temperature, banned_ids=loaded.banned_ids
            )
        torch.testing.assert_close(batch.generator_logprobs[batch.loss_mask], trainer, rtol=0, atol=5e-5)
        owners = batch.sequence_ids[batch.loss_mask]
        for i in owners.unique().tolist():
            recorded = torch.tensor(completions[i].entropies)
            torch.testing.assert_close(recorded, entropies[owners == i], rtol=0, atol=5e-5)


def test_a_completion_does_not_depend_on_its_neighbours(
    frozen_nano: LoadedModel, decoder: InProcessGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same (seed, place in the prompt list, sample) gives the same tokens, whatever else is decoded with it."""
    prompts, sampling = made_prompts(frozen_nano), Sampling(LENGTH)
    whole = tokens(decoder.generate(prompts, 4, sampling, SEED))
    fewer_prompts = tokens(decoder.generate(prompts[:2], 4, sampling, SEED))
    fewer_samples = tokens(decoder.generate(prompts, 2, sampling, SEED))
    few_rows = tokens(InProcessGenerator(frozen_nano, max_rows=4).generate(prompts, 4, sampling, SEED))
    monkeypatch.setattr(module, "PREFILL_ROWS", 2)
    prefilled_by_two = tokens(decoder.generate(prompts, 4, sampling, SEED))
    assert fewer_prompts == whole[:2]
    assert fewer_samples == [group[:2] for group in whole]
    assert few_rows == prefilled_by_two == whole


def test_order_of_the_other_prompts_does_not_matter(frozen_nano: LoadedModel, decoder: InProcessGenerator) -> None:
    """The middle prompt keeps its place while the others change places."""
    prompts, sampling = made_prompts(frozen_nano), Sampling(LENGTH)
    forward = tokens(decoder.generate(prompts, 3, sampling, SEED))
    backward = tokens(decoder.generate(prompts[::-1], 3, sampling, SEED))
    assert backward[2] == forward[2]


def test_seeds_samples_and_places_differ(frozen_nano: LoadedModel, decoder: InProcessGenerator) -> None:
    prompt, sampling = made_prompts(frozen_nano)[0], Sampling(LENGTH)
    drawn = [*tokens(decoder.generate([prompt, prompt], 3, sampling, SEED))]
    drawn += tokens(decoder.generate([prompt, prompt], 3, sampling, (11, 1, 0)))
    every = [tuple(ids) for group in drawn for ids in group]
    assert len(set(every)) == len(every)


def test_image_tokens_are_never_sampled(nano: LoadedModel) -> None:
    """Also where the model wants nothing else."""
    banned = list(nano.banned_ids)
    assert len(banned) == 4
    wish = torch.zeros(nano.model.config.text_config.vocab_size)
    wish[banned] = 100.0
    nano.model.lm_head.register_forward_hook(lambda module, args, logits: logits + wish)
    prompts = made_prompts(nano, (1, 0, 0))
    logits = nano.model(input_ids=torch.tensor([prompts[1].input_ids])).logits[0, -1]
    assert logits.softmax(-1)[banned].sum() > 0.999
    generator = InProcessGenerator(nano)
    groups = generator.generate(prompts, 8, Sampling(LENGTH), SEED)
    greedy = generator.generate(prompts, 1, GREEDY, SEED)
    assert not {token for group in [*groups, *greedy] for c in group for token in c.token_ids} & set(banned)
    assert all(logp > -50 for group in groups for c in group for logp in c.generator_logprobs), "renormalised without"


def test_generating_leaves_the_model_as_it_was(nano: LoadedModel) -> None:
    nano.model.train()
    groups = InProcessGenerator(nano).generate(made_prompts(nano), 2, Sampling(3), SEED)
    assert nano.model.training
    assert all(p.grad is None for p in nano.model.parameters())
    assert {c.policy_version for group in groups for c in group} == {0}


def test_a_rule_sees_what_was_drawn_and_decides_what_can_be(frozen_nano, decoder, monkeypatch):
    """A rule that forbids repeating the last token, written from `drawn_RT` and `lengths_R` alone."""

    def no_repeat(logits_RV, drawn_RT, lengths_R):
        assert ((drawn_RT >= 0).sum(1) == lengths_R).all()
        if (lengths_R > 0).all():
            last = drawn_RT.gather(1, lengths_R[:, None] - 1)
            logits_RV = logits_RV.scatter(1, last, float("-inf"))
        return logits_RV

    prompts = made_prompts(frozen_nano)
    plain = decoder.generate(prompts, 8, Sampling(LENGTH, 2.0), SEED)
    monkeypatch.setattr(module, "logits_rules", lambda rules, loaded: [no_repeat])
    ruled = decoder.generate(prompts, 8, Sampling(LENGTH, 2.0), SEED)
    repeats = [
        sum(a == b for g in groups for c in g for a, b in itertools.pairwise(c.token_ids)) for groups in (plain, ruled)
    ]
    assert repeats[0] > 0
    assert repeats[1] == 0


def test_watched_mass_is_the_probability_of_the_watched_tokens(frozen_nano, decoder):
    """Each single watched token's mass where it was drawn is its own probability; two add up."""
    prompts = made_prompts(frozen_nano)
    plain = decoder.generate(prompts, 4, Sampling(LENGTH), SEED)
    common = [t for t, _ in Counter(t for g in plain for c in g for t in c.token_ids).most_common(2)]
    one, two, both = (
        decoder.generate(prompts, 4, Sampling(LENGTH, watched_ids=ids), SEED)
        for ids in ((common[0],), (common[1],), tuple(common))
    )
    assert all(not c.watched_mass for g in plain for c in g)
    for a, b, c in zip(*(itertools.chain(*groups) for groups in (one, two, both)), strict=True):
        np.testing.assert_allclose(np.add(a.watched_mass, b.watched_mass), c.watched_mass, atol=1e-6)
        for token, mass, logprob in zip(a.token_ids, a.watched_mass, a.generator_logprobs, strict=True):
            if token == common[0]:
                assert mass == pytest.approx(np.exp(logprob), abs=1e-6)
