"""Videos: our decoder is transformers' `generate`, our trainer is transformers' forward, in every family with videos.

A prompt with a video, one with a picture and a video in the midst of its text, one with two videos and one without any
share a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helpers.families import FAST_FAMILIES, picture, plain_experts, save_family
from helpers.nano import gradients, relative_error
from helpers.videos import VIDEO_FAMILIES, clip
from seethink.core.errors import UserError
from seethink.core.types import Completion, Prompt, Sample
from seethink.data.control_images import blanked
from seethink.generate.in_process.generator import InProcessGenerator
from seethink.generate.protocol import Sampling
from seethink.models.load import LoadedModel, load_model
from seethink.models.logprobs import logprobs_and_entropy, token_logprobs
from seethink.models.parts import FAMILIES
from seethink.models.shared_prompt import SharedPrompt
from seethink.rl.batching import by_prefix
from seethink.rl.packing import PackedSequence, collate, pack
from seethink.rl.prompt_groups import pack_groups

PARAMS = [name if name in FAST_FAMILIES else pytest.param(name, marks=pytest.mark.slow) for name in VIDEO_FAMILIES]
LONG = "two plus three is what number and what is the largest red digit of all that <video> shows in the picture"


@pytest.fixture(scope="module", params=PARAMS)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(str(save_family(request.param, tmp_path_factory.mktemp("family"))))


@pytest.fixture(scope="module")
def prompts(loaded: LoadedModel) -> list[Prompt]:
    samples = [
        Sample("one", LONG.replace("<video>", "it"), videos=(clip(1, 4),), answer="1"),
        Sample("both", "is <image> in <video> or not", (picture(7, (80, 30)),), videos=(clip(2, 5, (64, 30)),)),
        Sample("text", "what is the sum"),
        Sample("slow", "<video>", videos=(clip(5, 6, fps=0.1),)),
        Sample("two", "what is the sum of both", videos=(clip(3, 4, (28, 28)), clip(4, 4, (40, 64), fps=1.0))),
    ]
    return [loaded.chat.prompt(sample) for sample in samples]


@pytest.fixture(scope="module")
def completions(loaded: LoadedModel, prompts: list[Prompt]) -> list[list[Completion]]:
    return InProcessGenerator(loaded).generate(prompts, 2, Sampling(8), (0,))


@pytest.fixture
def double(loaded: LoadedModel) -> Iterator[LoadedModel]:
    """The same model in float64."""
    with plain_experts(loaded.model):
        yield replace(loaded, model=loaded.model.double())
    loaded.model.float()


def inputs_of(loaded: LoadedModel, sample: Sample) -> dict[str, torch.Tensor]:
    """What transformers' processor gives for frames that were sampled by hand: written out, without our helpers."""
    text = loaded.chat.template_text(sample)
    if not (sample.images or sample.videos):
        return dict(loaded.chat.tokenizer(text, return_tensors="pt"))
    told = [
        {
            "total_num_frames": len(video.seconds),
            "fps": len(video.seconds) / video.duration,
            "frames_indices": list(range(len(video.seconds))),
        }
        for video in sample.videos
    ]
    given = {"images": list(sample.images)} if sample.images else {}
    return dict(
        loaded.chat.processor(
            text=[text],
            videos=[video.load() for video in sample.videos],
            video_metadata=told,
            do_sample_frames=False,
            return_tensors="pt",
            **given,
        )
    )


def sequences(prompts: list[Prompt], completions: list[list[Completion]]) -> list[PackedSequence]:
    pairs = [(n, p, c) for n, (p, group) in enumerate(zip(prompts, completions, strict=True)) for c in group]
    return [
        PackedSequence(p.input_ids, c.token_ids, p.mm_kwargs, weight=0.1, index=i, rope_ids=p.rope_ids, group=number)
        for i, (number, p, c) in enumerate(pairs)
    ]


def test_the_table_says_which_families_take_videos() -> None:
    assert sorted(VIDEO_FAMILIES) == sorted(name for name, family in FAMILIES.items() if family.videos)


def test_prompts_are_those_of_the_processor(loaded: LoadedModel, prompts: list[Prompt]) -> None:
    for prompt in prompts:
        plain = inputs_of(loaded, prompt.sample)
        assert plain["input_ids"][0].tolist() == prompt.input_ids
        for key, tensor in prompt.mm_kwargs.items():
            torch.testing.assert_close(plain[key], tensor)


def test_lengths_are_counted_without_frames(loaded: LoadedModel, prompts: list[Prompt]) -> None:
    assert [loaded.chat.prompt_length(p.sample) for p in prompts] == [len(p.input_ids) for p in prompts]
    assert [loaded.chat.prompt_length(blanked(p.sample)) for p in prompts] == [len(p.input_ids) for p in prompts]


def generated(loaded: LoadedModel, sample: Sample) -> list[int]:
    """The tokens of transformers' greedy `generate`."""
    ids: list[int] = loaded.model.generate(
        **inputs_of(loaded, sample),
        max_new_tokens=12,
        do_sample=False,
        suppress_tokens=list(loaded.banned_ids),
        eos_token_id=list(loaded.stop_ids),
    )[0].tolist()
    return ids


def test_greedy_tokens_are_those_of_generate(loaded: LoadedModel, prompts: list[Prompt]) -> None:
    ours = InProcessGenerator(loaded).generate(prompts, 1, Sampling(12, 0.0), (0,))
    said = set()
    for prompt, (completion,) in zip(prompts, ours, strict=True):
        theirs = generated(loaded, prompt.sample)
        assert theirs[-len(completion.token_ids) :] == completion.token_ids
        said.add(tuple(completion.token_ids))
    assert len(said) > 1


def test_answers_go_on_from_the_text_before_them(loaded: LoadedModel) -> None:
    """Qwen2.5-VL's positions of a slow video, in seconds, reach beyond those of the short text after it."""
    prompt = loaded.chat.prompt(Sample("slow", "<video>", videos=(clip(5, 6, fps=0.1),)))
    ((ours,),) = InProcessGenerator(loaded).generate([prompt], 1, Sampling(12, 0.0), (0,))
    if loaded.model.config.model_type == "qwen2_5_vl":
        assert prompt.rope_ids is not None
        assert prompt.rope_ids.max() > prompt.rope_ids[:, -1].max()
    theirs = generated(loaded, prompt.sample)
    assert theirs[-len(ours.token_ids) :] == ours.token_ids
    row = PackedSequence(prompt.input_ids, ours.token_ids, prompt.mm_kwargs, rope_ids=prompt.rope_ids)
    with torch.no_grad():
        batch = collate([[row]], loaded.chat.pad_id)
        chosen, _, _ = token_logprobs(loaded.model, batch, banned_ids=loaded.banned_ids)
    assert chosen.tolist() == pytest.approx(ours.generator_logprobs, abs=2e-5)


def test_trainer_logprobs_are_those_of_a_plain_forward(
    double: LoadedModel, prompts: list[Prompt], completions: list[list[Completion]]
) -> None:
    """Each sequence alone through transformers' forward, which makes its own positions and masks; float64."""
    members = sequences(prompts, completions)
    batches = pack(members, pack_length=double.pack_length(400), micro_tokens=2000, pad_id=double.chat.pad_id)
    with torch.no_grad():
        ours: dict[int, torch.Tensor] = {}
        for batch in batches:
            chosen, _, _ = token_logprobs(double.model, batch, banned_ids=double.banned_ids)
            owners = batch.sequence_ids[batch.loss_mask]
            ours |= {i: chosen[owners == i] for i in owners.unique().tolist()}
        for i, member in enumerate(members):
            response = torch.tensor([member.response_ids])
            inputs = inputs_of(double, prompts[member.group].sample)
            inputs["input_ids"] = torch.cat([inputs["input_ids"], response], dim=1)
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            if "mm_token_type_ids" in inputs:
                tail = torch.zeros_like(response)
                inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], tail], dim=1)
            logits = double.model(**inputs).logits[0, -response.shape[1] - 1 : -1]
            theirs, _ = logprobs_and_entropy(logits, response[0], banned_ids=double.banned_ids)
            torch.testing.assert_close(ours[i], theirs, rtol=1e-6, atol=1e-6)


def test_decoder_and_trainer_agree(
    loaded: LoadedModel, prompts: list[Prompt], completions: list[list[Completion]]
) -> None:
    batch = collate([[s] for s in sequences(prompts, completions)], loaded.chat.pad_id)
    with torch.no_grad():
        chosen, _, _ = token_logprobs(loaded.model, batch, banned_ids=loaded.banned_ids)
    owners = batch.sequence_ids[batch.loss_mask]
    for i, completion in enumerate(c for group in completions for c in group):
        assert chosen[owners == i].tolist() == pytest.approx(completion.generator_logprobs, abs=2e-5)


def test_shared_prompts_and_packing_change_no_gradient(
    double: LoadedModel, prompts: list[Prompt], completions: list[list[Completion]]
) -> None:
    members = sequences(prompts, completions)
    pad_id = double.chat.pad_id
    forms = {
        "alone": [collate([[s]], pad_id) for s in members],
        "packed": pack(members, pack_length=double.pack_length(400), micro_tokens=2000, pad_id=pad_id),
        "shared": pack_groups(members, micro_tokens=400, pad_id=pad_id, device="cpu"),
    }
    found = {}
    for name, batches in forms.items():
        double.model.zero_grad()
        for prefix, run in by_prefix(batches):
            shared = None if prefix is None else SharedPrompt(double.model, prefix)
            for batch in run:
                chosen, _, _ = token_logprobs(double.model, batch, banned_ids=double.banned_ids, shared=shared)
                (chosen * batch.weights[batch.loss_mask]).sum().backward()
            if shared is not None:
                shared.backward()
        found[name] = gradients(double.model)
    assert relative_error(found["packed"], found["alone"]) < 3e-6
    assert relative_error(found["shared"], found["alone"]) < 3e-6


def test_the_video_reaches_the_model(loaded: LoadedModel, prompts: list[Prompt]) -> None:
    """Other frames, and with M-RoPE in seconds or with times as text other times, give other predictions."""
    (sample,) = (p.sample for p in prompts if p.sample.id == "one")
    changed = {
        "frames": replace(sample, videos=(clip(9, 4),)),
        "order": replace(sample, videos=(replace(clip(1, 4), frames=clip(1, 4).frames[::-1]),)),
        "times": replace(sample, videos=(clip(1, 4, fps=0.25),)),
    }
    scores = {}
    for name, other in {"same": sample, **changed}.items():
        prompt = loaded.chat.prompt(other)
        row = PackedSequence(prompt.input_ids, [5, 9, 2], prompt.mm_kwargs, rope_ids=prompt.rope_ids)
        with torch.no_grad():
            scores[name] = token_logprobs(loaded.model, collate([[row]], loaded.chat.pad_id))[0]
    timed = loaded.model.config.model_type in ("qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe")
    for name in changed:
        differs = bool((scores[name] - scores["same"]).abs().max() > 1e-4)
        assert differs is (timed or name != "times"), name


def test_a_processor_that_fails_says_so(loaded: LoadedModel) -> None:
    """One frame for Qwen3-VL; for InternVL, videos of several lengths in one prompt."""
    if loaded.model.config.model_type in ("qwen2_5_vl", "qwen2_vl"):
        assert loaded.chat.prompt(Sample("one", "what", videos=(clip(1, 1),))).mm_kwargs["video_grid_thw"][0, 0] == 1
        return
    videos = (clip(1, 1),) if "qwen" in loaded.model.config.model_type else (clip(1, 2), clip(2, 4))
    with pytest.raises(UserError, match="processor does not take the video"):
        loaded.chat.prompt(Sample("odd", "what", videos=videos))


def test_families_without_videos_refuse_them(tmp_path: Path) -> None:
    other = load_model(str(save_family("llava", tmp_path)))
    with pytest.raises(UserError, match="'clip': the row has a video, and this model's family takes none"):
        other.chat.prompt(Sample("clip", "what", videos=(clip(1, 2),)))
