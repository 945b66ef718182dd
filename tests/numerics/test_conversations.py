"""Episodes of several turns: log-probs, mask and gradient against a plain forward over the whole conversation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.conversing import Endless, Talker, TextTalker
from helpers.families import FAST_FAMILIES, picture, plain_experts, save_family
from helpers.nano import gradients, nano_recipe, relative_error, without_upcasts
from helpers.training import make_loss, make_policy
from seethink.core.types import Completion, Prompt, RolloutGroup, Sample
from seethink.generate.conversations import ConversationGenerator
from seethink.generate.in_process import step
from seethink.generate.in_process.generator import InProcessGenerator
from seethink.generate.protocol import Sampling
from seethink.models.forward import is_image_token
from seethink.models.load import LoadedModel, load_model
from seethink.rl.batching import Batcher, after_prompt, sampled_responses
from seethink.rl.packing import collate

SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("gemma3", "qwen3_vl")]
SEED = (3, 1)


@pytest.fixture(scope="module", params=[*FAST_FAMILIES, *SLOW])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(str(save_family(request.param, tmp_path_factory.mktemp("family"))))


@pytest.fixture(scope="module")
def own(loaded: LoadedModel) -> InProcessGenerator:
    """Samples with the model, uncaptured, which is quicker for so few tokens; every third token ends a turn."""
    stops = tuple(range(0, loaded.model.config.get_text_config().vocab_size, 3))
    generator = InProcessGenerator(replace(loaded, stop_ids=(*loaded.stop_ids, *stops)))
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(step, "_capture")
        generator._step = step.Step(generator._loaded, generator._attend)
    return generator


@pytest.fixture(scope="module")
def prompts(loaded: LoadedModel) -> list[Prompt]:
    """One with a picture and one without."""
    shown = Sample("a", "what is red", (picture(1, (40, 40)),))
    return [loaded.chat.prompt(sample) for sample in (shown, Sample("b", "what is the sum of red"))]


@pytest.fixture(scope="module")
def talk(loaded: LoadedModel, own: InProcessGenerator, prompts: list[Prompt]) -> list[list[Completion]]:
    """Two conversations about each prompt, of three turns where none is cut."""
    return ConversationGenerator(own, loaded.chat, Talker, turn_tokens=5).generate(prompts, 2, Sampling(14), SEED)


@pytest.fixture
def double(loaded: LoadedModel) -> Iterator[LoadedModel]:
    """The same model in float64, its upcasts to float32 left out."""
    with plain_experts(loaded.model), without_upcasts():
        yield replace(loaded, model=loaded.model.double())
    loaded.model.float()


def whole(prompt: Prompt, completion: Completion) -> tuple[list[int], list[bool]]:
    """All ids of a conversation, and which of them the model wrote: put together anew, turn by turn."""
    ids, own = list(prompt.input_ids), [False] * len(prompt.input_ids)
    said = {reply.at: reply.token_ids for reply in completion.replies}
    for place, token in enumerate(completion.token_ids):
        if place in said:
            ids, own = ids + said[place], own + [False] * len(said[place])
        ids, own = [*ids, token], [*own, True]
    return ids, own


def plain_logprobs(loaded: LoadedModel, prompt: Prompt, completion: Completion) -> Tensor:
    """[N] of the model's tokens by transformers' own forward over all that was said, pictures processed anew."""
    ids, own = whole(prompt, completion)
    input_ids = torch.tensor([ids])
    inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}
    pictures = [*prompt.sample.images, *(image for reply in completion.replies for image in reply.images)]
    if pictures:
        text = loaded.chat.template_text(Sample("all", "what", tuple(pictures)))
        made = dict(loaded.chat.processor(images=pictures, text=[text], return_tensors="pt"))
        for key in ("token_type_ids", "mm_token_type_ids"):
            if key in made:
                made[key] = is_image_token(loaded.model, input_ids).long()
        inputs = made | inputs
    dtype = loaded.model.dtype
    inputs = {k: v.to(dtype) if v.is_floating_point() else v for k, v in inputs.items()}
    logits = loaded.model(**inputs).logits[0].index_fill(-1, torch.tensor(loaded.banned_ids), float("-inf"))
    places = torch.tensor([place for place, flag in enumerate(own) if flag])
    return logits.log_softmax(-1)[places - 1, input_ids[0, places]]


def flat(groups: list[list[Completion]]) -> list[Completion]:
    return [one for group in groups for one in group]


def everyone(prompts: list[Prompt], talk: list[list[Completion]]) -> list[tuple[Prompt, Completion]]:
    return [(prompt, one) for prompt, group in zip(prompts, talk, strict=True) for one in group]


def test_conversations_have_turns_and_pictures(prompts: list[Prompt], talk: list[list[Completion]]) -> None:
    pairs = everyone(prompts, talk)
    assert sum(len(one.replies) for _, one in pairs) >= 4
    for prompt, one in pairs:
        assert len(one.token_ids) == len(one.generator_logprobs) == len(one.entropies) <= 14
        assert [bool(reply.images) for reply in one.replies] == [bool(prompt.sample.images), False][: len(one.replies)]
        assert one.environment_reward == 0.25 * min(2, len(one.replies) + (not one.replies and not one.truncated))
        assert all(b.at - a.at <= 5 for a, b in zip(one.replies, one.replies[1:], strict=False))


def test_log_probs_are_those_of_a_plain_forward(
    double: LoadedModel, prompts: list[Prompt], talk: list[list[Completion]]
) -> None:
    """Of the decoder in float32, and of the trainer in float64."""
    policy = make_policy(double, nano_recipe(), 1)
    for prompt, one in everyone(prompts, talk):
        with torch.no_grad():
            expected = plain_logprobs(double, prompt, one)
        (found,) = policy.logprobs([collate([[after_prompt(prompt, one)]], 0)])
        assert (found - expected).abs().max() < 1e-9
        assert (torch.tensor(one.generator_logprobs) - expected).abs().max() < 5e-4


def test_the_mask_covers_the_tokens_of_the_model_and_no_other(
    loaded: LoadedModel, prompts: list[Prompt], talk: list[list[Completion]]
) -> None:
    pairs = everyone(prompts, talk)
    sequences = [replace(after_prompt(p, one), index=i) for i, (p, one) in enumerate(pairs)]
    batch = collate([sequences[:2], sequences[2:]], loaded.chat.pad_id)
    for i, (prompt, one) in enumerate(pairs):
        ids, own = whole(prompt, one)
        chosen = batch.sequence_ids == i
        assert batch.input_ids[chosen].tolist() == ids
        assert batch.loss_mask[chosen].tolist() == own
        assert batch.input_ids[chosen & batch.loss_mask].tolist() == one.token_ids
        assert (batch.weights[chosen] > 0).tolist() == own


def trained(loaded: LoadedModel, groups: list[RolloutGroup], *words: str) -> Tensor:
    recipe = nano_recipe("unused", *words)
    policy = make_policy(loaded, recipe, 1)
    batcher = replace(Batcher.for_model(loaded, recipe.optim, groups=True), micro_tokens=200)
    batches = policy.deal(batcher, sampled_responses(groups, "sequence", 14))
    loaded.model.zero_grad()
    policy.forward_backward(batches, make_loss(recipe, batches, None, None))
    return gradients(loaded.model)


def naive(loaded: LoadedModel, groups: list[RolloutGroup]) -> Tensor:
    """The gradient of -mean over completions of advantage * mean over tokens of log-prob, one by one.

    The mean's weights are rounded to float32, as batches hold them.
    """
    loaded.model.zero_grad()
    count = sum(len(group.completions) for group in groups)
    for group in groups:
        for one in group.completions:
            weight = float(torch.tensor(1 / (count * len(one.token_ids)), dtype=torch.float32))
            (-one.advantage * weight * plain_logprobs(loaded, group.prompt, one)).sum().backward()
    return gradients(loaded.model)


def as_groups(loaded: LoadedModel, prompts: list[Prompt], talk: list[list[Completion]]) -> list[RolloutGroup]:
    """With rewards and advantages, and their tensors in the model's dtype."""

    def cast(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {k: v.to(loaded.model.dtype) if v.is_floating_point() else v for k, v in tensors.items()}

    groups = []
    for prompt, group in zip(prompts, talk, strict=True):
        members = [
            replace(
                one, reward=float(i), advantage=1.5 * i - 0.5,
                replies=[replace(reply, mm_kwargs=cast(reply.mm_kwargs)) for reply in one.replies],
            )
            for i, one in enumerate(group)
        ]  # fmt: skip
        groups.append(RolloutGroup(replace(prompt, mm_kwargs=cast(prompt.mm_kwargs)), members))
    return groups


def test_the_gradient_is_that_of_a_naive_loop(
    double: LoadedModel, prompts: list[Prompt], talk: list[list[Completion]]
) -> None:
    groups = as_groups(double, prompts, talk)
    assert relative_error(trained(double, groups, "optim.shared_prompt=false"), naive(double, groups)) < 1e-9


def test_replies_of_text_follow_a_shared_prompt(
    loaded: LoadedModel, own: InProcessGenerator, prompts: list[Prompt]
) -> None:
    if loaded.model.config.model_type not in FAST_FAMILIES:
        pytest.skip("sharing is tested with every family in test_shared_prompt.py")
    talk = ConversationGenerator(own, loaded.chat, TextTalker, turn_tokens=5).generate(prompts, 2, Sampling(14), SEED)
    with without_upcasts():
        exact = replace(loaded, model=loaded.model.double())
        groups = as_groups(exact, prompts, talk)
        shared, repeated = (trained(exact, groups, f"optim.shared_prompt={word}") for word in ("true", "false"))
        assert relative_error(shared, repeated) < 1e-9
    loaded.model.float()


def test_a_turn_has_random_numbers_of_its_own(
    loaded: LoadedModel, own: InProcessGenerator, prompts: list[Prompt]
) -> None:
    """Whatever else is sampled with it, and those of the first turn are those without an environment."""
    if loaded.model.config.model_type != "internvl":
        pytest.skip("the same code for every family")
    talks = ConversationGenerator(own, loaded.chat, Talker, turns=3, turn_tokens=4)
    both = talks.generate(prompts, 2, Sampling(12), SEED)
    second = talks.generate(prompts[1:], 2, Sampling(12), SEED, places=[1])
    assert [c.token_ids for c in second[0]] == [c.token_ids for c in both[1]]
    alone = own.generate(prompts, 2, Sampling(4), SEED)
    for talked, single in zip(flat(both), flat(alone), strict=True):
        first = talked.replies[0].at if talked.replies else len(talked.token_ids)
        assert talked.token_ids[:first] == single.token_ids[:first]


def test_every_limit_ends_a_conversation(loaded: LoadedModel, own: InProcessGenerator, prompts: list[Prompt]) -> None:
    if loaded.model.config.model_type != "internvl":
        pytest.skip("the same code for every family")
    limit = Sampling(40)
    own._loaded = replace(loaded, stop_ids=tuple(range(loaded.model.config.text_config.vocab_size)))
    endless = ConversationGenerator(own, loaded.chat, Endless, turns=6).generate(prompts, 2, limit, SEED)
    for one in flat(endless):
        assert len(one.replies) == 5
        assert len(one.token_ids) == 6
        assert not one.truncated
    few = ConversationGenerator(own, loaded.chat, Endless, turns=6).generate(prompts, 2, Sampling(3), SEED)
    assert all((len(c.token_ids), len(c.replies), c.truncated) == (3, 2, True) for c in flat(few))
    narrow = loaded.chat.introduced("")
    narrow.context = max(len(p.input_ids) for p in prompts) + len(loaded.chat.reply("1 is red, say more")[0]) + 3
    short = ConversationGenerator(own, narrow, Endless, turns=6).generate(prompts, 2, limit, SEED)
    assert all(c.truncated and 1 <= len(c.replies) <= 2 for c in flat(short))
    for prompt, one in everyone(prompts, short):
        assert len(prompt.input_ids) + one.length <= narrow.context
