"""Every family of the table: our decoder is transformers' `generate`, our trainer is transformers' forward.

Prompts with one image, two of different sizes, and none share a batch, padded or packed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.families import FAMILY_PARAMS, ONE_IMAGE_FAMILIES, STATEFUL_PARAMS, picture, plain_experts, save_family
from helpers.nano import gradients, relative_error
from seethink.core.types import Completion, Microbatch, Prompt, Sample
from seethink.generate.in_process.generator import InProcessGenerator
from seethink.generate.protocol import Sampling
from seethink.models.forward import checkpointed, enable_checkpointing, output_head
from seethink.models.load import LoadedModel, load_model
from seethink.models.logprobs import logprobs_and_entropy, token_logprobs
from seethink.rl.packing import PackedSequence, collate, pack

SIZES = ((40, 40), (80, 30), (30, 64))
QUESTIONS = ("what is the sum", "two plus three is what number", "what", "what is the largest red digit of all that")


@pytest.fixture(scope="module", params=[*FAMILY_PARAMS, *STATEFUL_PARAMS])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family(request.param, tmp_path_factory.mktemp("family"))


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    return load_model(str(folder))


@pytest.fixture(scope="module")
def prompts(loaded: LoadedModel) -> list[Prompt]:
    """With 1, 0, 2 (or 1) and 1 pictures."""
    several = 1 if loaded.model.config.model_type in ONE_IMAGE_FAMILIES else 2
    samples = [
        Sample(f"s{i}", question, tuple(picture(10 * i + k, SIZES[(i + k) % 3]) for k in range(count)), answer="1")
        for i, (count, question) in enumerate(zip((1, 0, several, 1), QUESTIONS, strict=True))
    ]
    return [loaded.chat.prompt(sample) for sample in samples]


@pytest.fixture(scope="module")
def completions(loaded: LoadedModel, prompts: list[Prompt]) -> list[list[Completion]]:
    return InProcessGenerator(loaded).generate(prompts, 3, Sampling(10), (0,))


@pytest.fixture
def double(loaded: LoadedModel) -> Iterator[LoadedModel]:
    """The same model in float64."""
    with plain_experts(loaded.model):
        yield replace(loaded, model=loaded.model.double())
    loaded.model.float()


def sequences(prompts: list[Prompt], completions: list[list[Completion]]) -> list[PackedSequence]:
    pairs = [(p, c) for p, group in zip(prompts, completions, strict=True) for c in group]
    return [
        PackedSequence(p.input_ids, c.token_ids, p.mm_kwargs, weight=1 / len(c.token_ids), index=i, rope_ids=p.rope_ids)
        for i, (p, c) in enumerate(pairs)
    ]


def scores(loaded: LoadedModel, batches: list[Microbatch]) -> dict[int, torch.Tensor]:
    """Log-probs of each sequence's response."""
    found: dict[int, torch.Tensor] = {}
    for batch in batches:
        chosen, _, _ = token_logprobs(loaded.model, batch, banned_ids=loaded.banned_ids)
        owners = batch.sequence_ids[batch.loss_mask]
        found |= {i: chosen[owners == i] for i in owners.unique().tolist()}
    return found


def inputs_of(loaded: LoadedModel, prompt: Prompt) -> dict[str, torch.Tensor]:
    """What transformers' own example code would pass: everything that the processor says."""
    if not prompt.sample.images:
        ids = torch.tensor([prompt.input_ids])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    text = loaded.chat.template_text(prompt.sample)
    # As `apply_chat_template(tokenize=True)` does where the template writes BOS itself.
    special = not text.startswith(loaded.chat.tokenizer.bos_token or "\0")
    pictures = list(prompt.sample.images)
    said = loaded.chat.processor(images=pictures, text=[text], return_tensors="pt", add_special_tokens=special)
    return dict(said.to(dtype=loaded.model.dtype))


def plain_model(loaded: LoadedModel, prompt: Prompt) -> Any:
    """Q-Former models demand an image; for text alone their language model is the reference."""
    text_only = not prompt.sample.images and loaded.model.config.model_type in ONE_IMAGE_FAMILIES
    return loaded.model.language_model if text_only else loaded.model


def test_greedy_tokens_are_those_of_generate(loaded: LoadedModel, prompts: list[Prompt]) -> None:
    ours = InProcessGenerator(loaded).generate(prompts, 1, Sampling(12, 0.0), (0,))
    for prompt, (completion,) in zip(prompts, ours, strict=True):
        theirs = (
            plain_model(loaded, prompt)
            .generate(
                **inputs_of(loaded, prompt),
                max_new_tokens=12,
                do_sample=False,
                suppress_tokens=list(loaded.banned_ids),
                eos_token_id=list(loaded.stop_ids),
            )[0]
            .tolist()
        )
        assert theirs[-len(completion.token_ids) :] == completion.token_ids


def test_trainer_logprobs_are_those_of_a_plain_forward(
    double: LoadedModel, prompts: list[Prompt], completions: list[list[Completion]]
) -> None:
    """Each sequence alone through transformers' forward, which makes its own positions and masks; float64."""
    packed = pack(sequences(prompts, completions), pack_length=double.pack_length(300), micro_tokens=2000, pad_id=0)
    with torch.no_grad():
        ours = scores(double, packed)
        for i, prompt in enumerate(prompts):
            for j, completion in enumerate(completions[i]):
                response = torch.tensor([completion.token_ids])
                inputs = inputs_of(double, prompt)
                for key in ("attention_mask", "mm_token_type_ids", "token_type_ids"):
                    if key in inputs:
                        tail = torch.full_like(response, int(key == "attention_mask"))
                        inputs[key] = torch.cat([inputs[key], tail], dim=1)
                inputs["input_ids"] = torch.cat([inputs["input_ids"], response], dim=1)
                # Cohere's language models scale their logits; transformers' classes with images leave that out.
                scale = getattr(double.model.config.get_text_config(), "logit_scale", 1.0)
                logits = scale * plain_model(double, prompt)(**inputs).logits[0, -response.shape[1] - 1 : -1]
                theirs, _ = logprobs_and_entropy(logits, response[0], banned_ids=double.banned_ids)
                torch.testing.assert_close(ours[3 * i + j], theirs, rtol=1e-6, atol=1e-6)


def test_words_alone_are_as_likely_as_the_language_models_own_class_says(
    loaded: LoadedModel, prompts: list[Prompt], completions: list[list[Completion]]
) -> None:
    """Cohere scales logits, which transformers' classes with images leave out."""
    from transformers import AutoModelForCausalLM

    text = loaded.model.config.get_text_config()
    if not hasattr(text, "logit_scale"):
        pytest.skip("no scale")
    language = AutoModelForCausalLM.from_config(text, dtype=torch.float32).eval()
    weights = {name.removeprefix("model."): w for name, w in loaded.model.state_dict().items()}
    own = {name.replace("language_model.", "model.", 1): w for name, w in weights.items() if "vision" not in name}
    language.load_state_dict({name: w for name, w in own.items() if name in language.state_dict()})
    (prompt, group) = next((p, g) for p, g in zip(prompts, completions, strict=True) if not p.sample.images)
    for completion in group:
        ids = torch.tensor([prompt.input_ids + completion.token_ids])
        with torch.no_grad():
            logits = language(input_ids=ids).logits[0, len(prompt.input_ids) - 1 : -1]
        theirs, _ = logprobs_and_entropy(logits, ids[0, len(prompt.input_ids) :], banned_ids=loaded.banned_ids)
        assert theirs.tolist() == pytest.approx(completion.generator_logprobs, abs=2e-5)


def test_decoder_and_trainer_agree(
    loaded: LoadedModel, prompts: list[Prompt], completions: list[list[Completion]]
) -> None:
    rows = collate([[s] for s in sequences(prompts, completions)], loaded.chat.pad_id)
    with torch.no_grad():
        ours = scores(loaded, [rows])
    for i, completion in enumerate(c for group in completions for c in group):
        assert ours[i].tolist() == pytest.approx(completion.generator_logprobs, abs=2e-5)


def test_prompts_that_enter_later_get_the_same_answers(
    loaded: LoadedModel, prompts: list[Prompt], completions: list[list[Completion]]
) -> None:
    """Beside other prompts, so padded otherwise, and while rows of others end and leave."""
    few = InProcessGenerator(loaded, max_rows=6).generate(prompts, 3, Sampling(10), (0,))
    assert [[c.token_ids for c in group] for group in few] == [[c.token_ids for c in group] for group in completions]
    for one, other in zip((c for group in few for c in group), (c for g in completions for c in g), strict=True):
        assert one.generator_logprobs == pytest.approx(other.generator_logprobs, abs=2e-5)


def test_packing_changes_no_gradient(
    double: LoadedModel, prompts: list[Prompt], completions: list[list[Completion]]
) -> None:
    """Packed, in one padded batch, and one by one; every parameter, float64."""
    members = sequences(prompts, completions)
    pad_id = double.chat.pad_id
    forms = {
        "alone": [collate([[s]], pad_id) for s in members],
        "rows": [collate([[s] for s in members], pad_id)],
        "packed": pack(members, pack_length=double.pack_length(300), micro_tokens=2000, pad_id=pad_id),
    }
    found = {name: _gradients(double, batches) for name, batches in forms.items()}
    # Families upcast norms and softmax to float32, so float64 does not reach 1e-15.
    assert relative_error(found["rows"], found["alone"]) < 3e-6
    assert relative_error(found["packed"], found["alone"]) < 3e-6


def _gradients(loaded: LoadedModel, batches: list[Microbatch], *, recompute: bool = False) -> torch.Tensor:
    loaded.model.zero_grad()
    for batch in batches:
        with checkpointed(loaded.model, enabled=recompute):
            chosen, _, _ = token_logprobs(loaded.model, batch, banned_ids=loaded.banned_ids)
        (chosen * batch.weights[batch.loss_mask]).sum().backward()
    return gradients(loaded.model)


def test_checkpointing_changes_no_gradient(
    loaded: LoadedModel, prompts: list[Prompt], completions: list[list[Completion]]
) -> None:
    batch = collate([[s] for s in sequences(prompts, completions)], loaded.chat.pad_id)
    plain = _gradients(loaded, [batch])
    enable_checkpointing(loaded.model)
    calls: list[int] = []
    layer = next(m for name, m in loaded.model.named_modules() if name.endswith("layers.0") and "vision" not in name)
    handle = layer.register_forward_pre_hook(lambda *_: calls.append(1))
    again = _gradients(loaded, [batch], recompute=True)
    handle.remove()
    loaded.model.gradient_checkpointing_disable()
    assert len(calls) == 2, "the layer ran once more in backward"
    assert relative_error(again, plain) < 1e-6


def test_the_image_reaches_the_connector(
    loaded: LoadedModel, prompts: list[Prompt], completions: list[list[Completion]]
) -> None:
    """Gradient in all three parts from a batch that mixes images and text; none in vision from text alone."""
    from seethink.models.parts import split_parts

    members = sequences(prompts, completions)
    _gradients(loaded, [collate([[s] for s in members], loaded.chat.pad_id)])
    for part, named in split_parts(loaded.model).items():
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in named.values()), part
    _gradients(loaded, [collate([[s] for s in members if not s.mm_kwargs], loaded.chat.pad_id)])
    assert all(p.grad is None or not p.grad.any() for p in split_parts(loaded.model)["vision"].values())


def test_lengths_are_counted_without_pixels(loaded: LoadedModel, prompts: list[Prompt]) -> None:
    assert [loaded.chat.prompt_length(p.sample) for p in prompts] == [len(p.input_ids) for p in prompts]


def test_image_tokens_are_never_sampled(loaded: LoadedModel) -> None:
    from seethink.models.forward import image_token_id

    assert image_token_id(loaded.model.config) in loaded.banned_ids
    assert not set(loaded.banned_ids) & set(loaded.stop_ids)
    vocabulary = output_head(loaded.model).weight.shape[0]
    assert all(0 <= token < vocabulary for token in loaded.banned_ids)
