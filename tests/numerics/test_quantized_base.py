"""The frozen base of a LoRA run in 4 and 8 bits: rounding, products, gradients, and what stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from helpers.doctoring import GRPO
from helpers.nano import completions_of, gradients, make_samples, nano_recipe, random_episode, relative_error
from helpers.training import make_loss, make_policy, microbatches, pair_batches
from seethink.config import Recipe
from seethink.core.errors import UserError
from seethink.doctor.check import Report, Status
from seethink.doctor.fit import check_memory
from seethink.doctor.folder import checkpoint_bytes
from seethink.doctor.machine import parse_gpus
from seethink.doctor.memory import Load, estimate
from seethink.doctor.parts import check_parts
from seethink.doctor.recipe import check_recipe
from seethink.generate.in_process.generator import InProcessGenerator
from seethink.generate.protocol import Sampling
from seethink.models import quantized
from seethink.models.load import load_model, load_recipe_model
from seethink.models.lora import merged_state, require_base
from seethink.models.quantized import BLOCK, QuantizedLinear, count_bytes, quantized_layers
from seethink.models.trainable import FrozenPartMovedError
from seethink.runs.checkpoint import export_bytes
from seethink.train.policy import Policy
from seethink.train.sft import response_loss

pytest.importorskip("bitsandbytes")
# Normal float 4 by its definition: QLoRA (arXiv 2305.14314), appendix E.
NF4 = [-1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0,
       0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0]  # fmt: skip
LORA = ('lora.parts=["vision", "language"]', "lora.rank=4")
BASES = ("4bit", "8bit")
LOAD = Load(prompt=40, mean_prompt=30.0, image_tokens=16.0, response=20, vision_per_image_token=4.0)


def recipe_of(model: Path, base: str, *words: str, stage: str = "grpo") -> Recipe:
    return nano_recipe(model, *LORA, f"lora.base={base}", *words, stage=stage)


def policy_of(model: Path, base: str, *words: str, stage: str = "grpo") -> tuple[Recipe, Policy]:
    """A policy whose adapters already add something: B starts at zero, where A has no gradient."""
    recipe = recipe_of(model, base, *words, stage=stage)
    policy = make_policy(load_recipe_model(recipe), recipe, 8)
    generator = torch.Generator().manual_seed(3)
    for name, parameter in policy.model.named_parameters():
        if ".lora_B." in name:
            parameter.data.normal_(std=0.02, generator=generator)
    return recipe, policy


def plain_policy(recipe: Recipe, like: Policy) -> Policy:
    """LoRA over the float32 weights that `like` restores its base to, with the same adapters."""
    plain = recipe.model_copy(update={"lora": recipe.lora.model_copy(update={"base": "float32"})})
    policy = make_policy(load_recipe_model(plain), plain, 8)
    layers = quantized_layers(like.model)
    assert layers
    given = {f"{name}.weight": layer.restored() for name, layer in layers.items()}
    policy.model.load_state_dict(like.model.state_dict() | given)
    return policy


def backward(policy: Policy, recipe: Recipe) -> torch.Tensor:
    episode = random_episode(policy.loaded, [[0.0, 1.0, 0.2], [1.0, 0.0, 0.8]], images=[1, 2])
    if recipe.stage == "sft":
        samples = make_samples([1, 2])
        pairs = [(policy.loaded.chat.prompt(s), policy.loaded.chat.response_ids(s.response or "")) for s in samples]
        policy.forward_backward(pair_batches(pairs, recipe, policy.loaded), response_loss)
    else:
        completions = completions_of(episode)
        batches = microbatches(recipe, episode, completions, range(len(completions)), policy.loaded)
        policy.forward_backward(batches, make_loss(recipe, batches, None, None))
    learning = nn.ParameterList([p for p in policy.model.parameters() if p.requires_grad])
    return gradients(learning)


def codes_of(policy: Policy) -> list[torch.Tensor]:
    layers = quantized_layers(policy.model).values()
    return [t.clone() for layer in layers for t in (layer.weight, layer.scale_codes, layer.scale_largest)]


@pytest.mark.parametrize("shape", [(48, 100), (8, 9), (300, 200)], ids=str)
def test_four_bits_are_the_nearest_of_the_papers_sixteen(shape: tuple[int, int]) -> None:
    """Double quantization moves a block's scale by at most 1/60 of the largest difference of scales from their mean."""
    linear = nn.Linear(shape[1], shape[0], bias=False)
    weight = linear.weight.detach().flatten()
    blocks = nn.functional.pad(weight, (0, -len(weight) % BLOCK)).view(-1, BLOCK)
    scales = blocks.abs().amax(1, keepdim=True)
    nearest = (blocks[..., None] / scales[..., None] - torch.tensor(NF4)).abs().argmin(-1)
    rounded = (torch.tensor(NF4)[nearest] * scales).flatten()[: len(weight)]
    found = QuantizedLinear(linear, 4).restored().flatten()
    room = (scales - scales.mean()).abs().max() / 60
    assert (found - rounded).abs().max() <= room + 1e-6
    assert (found - weight).abs().mean() < 0.12 * weight.abs().mean()


def test_eight_bits_err_less_and_both_take_less() -> None:
    linear = nn.Linear(200, 300)
    weight = linear.weight.detach()
    four, eight = (QuantizedLinear(linear, bits) for bits in (4, 8))
    errors = [(layer.restored() - weight).abs().mean() / weight.abs().mean() for layer in (four, eight)]
    assert errors[1] < errors[0] / 5
    scales = -(-60_000 // BLOCK)
    assert four.weight.nbytes == 30_000
    assert eight.weight.nbytes == 60_000
    assert four.held_bytes - four.weight.nbytes == eight.held_bytes - eight.weight.nbytes == scales + 4 * 4 + 4
    on_meta = QuantizedLinear(nn.Linear(200, 300, device="meta"), 4)
    assert on_meta.held_bytes == four.held_bytes


@pytest.mark.parametrize("stage", ["sft", "grpo"])
@pytest.mark.parametrize("base", BASES)
def test_gradients_are_those_of_lora_over_the_restored_base(random_nano: Path, base: str, stage: str) -> None:
    recipe, policy = policy_of(random_nano, base, stage=stage)
    plain = plain_policy(recipe, policy)
    ours, theirs = backward(policy, recipe), backward(plain, recipe)
    assert theirs.norm() > 1e-3
    assert relative_error(ours, theirs) < 1e-5


@pytest.mark.parametrize("words", [("dtype=bfloat16",), ("optim.gradient_checkpointing=true",)], ids=str)
def test_so_they_are_in_bfloat16_and_with_recomputed_layers(random_nano: Path, words: tuple[str, ...]) -> None:
    recipe, policy = policy_of(random_nano, "4bit", *words)
    # In bfloat16 a product is rounded before the bias is added, and not after.
    assert relative_error(backward(policy, recipe), backward(plain_policy(recipe, policy), recipe)) < (
        0.03 if "bfloat16" in words[0] else 1e-5
    )


@pytest.mark.parametrize("base", BASES)
def test_the_base_stays_and_adapters_learn(random_nano: Path, base: str) -> None:
    recipe, policy = policy_of(random_nano, base)
    codes = codes_of(policy)
    before = {n: p.detach().clone() for n, p in policy.model.named_parameters() if ".lora_" in n}
    for _ in range(2):
        backward(policy, recipe)
        assert policy.optimizer_step()[1] is None
    assert all(map(torch.equal, codes, codes_of(policy)))
    after = dict(policy.model.named_parameters())
    assert all(not torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert policy.proof.check()["language"] > 0
    rows = {row.part: row for row in policy.proof.rows}
    whole = {row.part: row for row in make_policy(load_model(str(random_nano)), recipe, 8).proof.rows}
    assert rows["language"].parameters == whole["language"].parameters
    next(iter(quantized_layers(policy.model).values())).weight.data[5] ^= 1
    with pytest.raises(FrozenPartMovedError, match="beneath its LoRA but moved"):
        policy.proof.check()


@pytest.mark.parametrize("base", BASES)
def test_the_decoder_samples_from_what_is_trained(random_nano: Path, base: str) -> None:
    """Its captured step agrees with the model, or the model itself runs; log-probs are the trainer's."""
    recipe, policy = policy_of(random_nano, base)
    prompts = [policy.loaded.chat.prompt(sample) for sample in make_samples([1, 0])]
    sampling = Sampling(max_new_tokens=8, temperature=1.0, top_p=1.0)
    plain = plain_policy(recipe, policy)
    ours, theirs = (InProcessGenerator(p.loaded).generate(prompts, 3, sampling, (0,)) for p in (policy, plain))
    for group, other in zip(ours, theirs, strict=True):
        assert [c.token_ids for c in group] == [c.token_ids for c in other]
        for one, two in zip(group, other, strict=True):
            assert one.generator_logprobs == pytest.approx(two.generator_logprobs, abs=1e-4)


def test_exported_weights_are_restored_and_merged(random_nano: Path) -> None:
    recipe, policy = policy_of(random_nano, "4bit")
    merged, plain = merged_state(policy.model), merged_state(plain_policy(recipe, policy).model)
    assert merged.keys() == plain.keys() == load_model(str(random_nano)).model.state_dict().keys()
    assert all(merged[name].dtype == torch.float32 for name in merged)
    assert all(torch.allclose(merged[name], plain[name], atol=1e-6) for name in merged)


def test_the_reference_of_a_kl_term_has_the_same_base(random_nano: Path) -> None:
    recipe, policy = policy_of(random_nano, "4bit", "algorithm.kl_beta=0.1")
    reference = quantized_layers(load_recipe_model(recipe).model)
    layers = quantized_layers(policy.model)
    assert sorted(name.removesuffix(".base_layer") for name in layers) == sorted(reference)
    assert all(torch.equal(layer.restored(), reference[n.removesuffix(".base_layer")].restored())
               for n, layer in layers.items())  # fmt: skip


def test_only_the_adapted_layers_of_the_named_parts_are_in_few_bits(random_nano: Path) -> None:
    recipe = nano_recipe(random_nano, 'lora.parts=["language"]', "lora.base=4bit")
    model = load_recipe_model(recipe).model
    layers = quantized_layers(model)
    assert layers
    assert all("language_model" in name and "lm_head" not in name for name in layers)
    named = dict(model.named_parameters())
    held = sum(t.nbytes for t in [*named.values(), *model.buffers()])
    elsewhere = sum(t.nbytes for name, t in model.named_buffers() if "scale_" not in name)
    assert count_bytes(model, named) == held - elsewhere


@pytest.mark.parametrize("base", BASES)
def test_the_doctor_counts_the_smaller_base(random_nano: Path, base: str) -> None:
    recipe, policy = policy_of(random_nano, base, stage="sft")
    found = estimate(policy.model, recipe, LOAD)
    held = sum(layer.held_bytes for layer in quantized_layers(policy.model).values())
    plain = sum(p.nbytes for p in policy.model.parameters() if p.is_floating_point())
    assert sum(part.weights for part in found.parts.values()) == held + plain
    meta = Report()
    model = check_parts(meta, recipe, policy.model)
    assert [check.status for check in meta.checks] == [Status.PASS]
    assert f"through LoRA in vision, language over a base in {base}" in meta.checks[0].found
    assert estimate(model, recipe, LOAD) == found
    whole = make_policy(load_model(str(random_nano)), recipe, 8).model
    assert found.casts - estimate(whole, recipe, LOAD).casts == max(
        4 * layer.numbers for layer in quantized_layers(policy.model).values()
    )
    # A checkpoint has the base in full all the same.
    assert checkpoint_bytes(policy.model, recipe) == checkpoint_bytes(whole, recipe)
    adapters = sum(p.nbytes for p in policy.model.parameters() if p.requires_grad)
    assert abs(export_bytes(policy.loaded) - export_bytes(load_model(str(random_nano)))) <= adapters


def test_the_doctor_offers_it_where_memory_is_short(random_nano: Path) -> None:
    report, gpu = Report(), parse_gpus("1x0.001")
    small = ("sft.batch_size=1", "sft.max_response_tokens=16", "optim.gradient_checkpointing=true")
    loaded = load_model(str(random_nano))
    for base in ("float32", "4bit"):
        recipe = recipe_of(random_nano, base, *small, stage="sft")
        model = check_parts(Report(), recipe, loaded.model)
        check_memory(report, recipe, model, loaded.chat, None, gpu)
    advice = [check.advice for check in report.checks if check.status is Status.FAIL]
    assert "lora.base=4bit (QLoRA)" in advice[0]
    assert "lora.base" not in advice[1]
    assert "over float32 (4bit beneath adapters) weights" in report.checks[2].found


def test_without_the_library_one_line_names_it(monkeypatch: pytest.MonkeyPatch, random_nano: Path) -> None:
    find = quantized.importlib.util.find_spec
    absent: Sequence[str] = ("bitsandbytes",)
    monkeypatch.setattr(quantized.importlib.util, "find_spec", lambda name: None if name in absent else find(name))
    with pytest.raises(UserError, match=r"pip install 'seethink\[qlora\]'"):
        load_recipe_model(recipe_of(random_nano, "4bit"))
    with pytest.raises(UserError, match="bitsandbytes"):
        require_base(recipe_of(random_nano, "8bit").lora)
    report = Report()
    check_recipe(report, GRPO, ['lora.parts=["language"]', "lora.base=4bit"], None)
    (failed,) = [check for check in report.checks if check.status is Status.FAIL]
    assert failed.name == "lora.base"
    assert "bitsandbytes" in failed.found
