"""Sharing a group's prompt changes nothing: log-probs, entropies and every gradient equal the repeated prompt's.

float64 throughout, but for `FLOAT32_FAMILIES`: the families' own upcasts to float32 (norms, rotary angles) are turned
off, so that what is left is the order of sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helpers.families import FAMILY_PARAMS, NEWER_FAMILIES, ONE_IMAGE_FAMILIES, picture, plain_experts, save_family
from helpers.nano import completion, gradients, nano_recipe, random_episode, relative_error, without_upcasts
from helpers.training import make_critic, make_loss, make_policy, microbatches, update
from seethink.config import Recipe
from seethink.core.types import RolloutGroup, Sample
from seethink.models.load import LoadedModel, load_model
from seethink.models.shared_prompt import refusal
from seethink.rl.rollout import Episode

LENGTHS = ((5, 1, 9), (2, 7, 3), (4, 4, 6), (8, 1, 2))
FLOAT32_FAMILIES = ("glm4v", "glm46v", "glm4v_moe", "gemma4")
"""Their vision encoders make float32 tensors of their own (positions, pooling weights); float64 cannot join them."""
SIZES = ((40, 40), (80, 30), (30, 64))


@pytest.fixture
def _float64() -> Iterator[None]:
    with without_upcasts():
        yield


@pytest.fixture(scope="module", params=FAMILY_PARAMS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family(request.param, tmp_path_factory.mktemp("family"))


@pytest.fixture
def loaded(folder: Path) -> Iterator[LoadedModel]:
    found = load_model(str(folder))
    with plain_experts(found.model):
        yield found if found.model.config.model_type in FLOAT32_FAMILIES else replace(found, model=found.model.double())


def episode_of(loaded: LoadedModel) -> Episode:
    """Prompts of uneven length with 1, 0, 2 (or 1) and 1 pictures; responses of 1 to 9 tokens."""
    several = 1 if loaded.model.config.model_type in ONE_IMAGE_FAMILIES else 2
    torch.manual_seed(3)
    allowed = [i for i in range(loaded.model.config.get_text_config().vocab_size) if i not in loaded.banned_ids]
    groups = []
    for i, (images, lengths) in enumerate(zip((1, 0, several, 1), LENGTHS, strict=True)):
        sample = Sample(f"s{i}", " ".join(["what is red"] * (1 + i)), tuple(
            picture(10 * i + k, SIZES[(i + k) % 3]) for k in range(images)
        ))  # fmt: skip
        prompt = loaded.chat.prompt(sample)
        dtype = loaded.model.dtype
        prompt.mm_kwargs = {key: v.to(dtype) if v.is_floating_point() else v for key, v in prompt.mm_kwargs.items()}
        drawn = [[allowed[int(t)] for t in torch.randint(len(allowed), (n,))] for n in lengths]
        members = [completion(ids, float(j % 2), float(torch.randn(()))) for j, ids in enumerate(drawn)]
        groups.append(RolloutGroup(prompt, members))
    return Episode(groups, max_new_tokens=16)


def measured(loaded: LoadedModel, episode: Episode, recipe: Recipe) -> dict[str, torch.Tensor]:
    """Log-probs and entropies by sequence, and all gradients."""
    policy = make_policy(loaded, recipe, 1)
    completions = [c for group in episode.groups for c in group.completions]
    batches = microbatches(recipe, episode, completions, list(range(len(completions))), loaded)
    assert all((batch.prefix is not None) == recipe.optim.shared_prompt for batch in batches)
    loaded.model.zero_grad()
    policy.forward_backward(batches, make_loss(recipe, batches, None, None))
    found: dict[str, torch.Tensor] = {"gradients": gradients(loaded.model)}
    outputs = policy.outputs(batches)
    for name in ("logprobs", "entropies"):
        pairs = [(b.sequence_ids[b.loss_mask], getattr(o, name)) for b, o in zip(batches, outputs, strict=True)]
        by_sequence = {int(i): values[owners == i] for owners, values in pairs for i in owners.unique()}
        found[name] = torch.cat([by_sequence[i] for i in sorted(by_sequence)])
    return found


FORMS = {
    "one batch": (),
    "many small batches": ("optim.micro_tokens=60",),
    "checkpointing": ("optim.gradient_checkpointing=true",),
    "connector only": ('parts.train=["connector"]',),
    "vision only": ('parts.train=["vision"]',),
    "language only": ('parts.train=["language"]',),
    "adapters": ('lora.parts=["language", "vision"]', "lora.rank=2"),
}


NEWER_FORMS = ("one batch", "connector only", "adapters")


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("form", FORMS)
def test_equal_to_the_repeated_prompt(loaded: LoadedModel, form: str) -> None:
    if loaded.model.config.model_type in NEWER_FAMILIES and form not in NEWER_FORMS:
        pytest.skip("this form is tested on the families before it")
    if form == "adapters":
        # Fresh adapters multiply by zero; make them count.
        from seethink.models.lora import add_adapters

        recipe = nano_recipe("", *FORMS[form])
        add_adapters(loaded.model, recipe.lora, 0)
        for name, parameter in loaded.model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.2)
        loaded.model.to(loaded.model.dtype)
    overrides = tuple(o for o in FORMS[form] if not o.startswith("lora"))
    episode = episode_of(loaded)
    shared, plain = (
        measured(loaded, episode, nano_recipe("", *overrides, f"optim.shared_prompt={on}")) for on in ("true", "false")
    )
    for name, ours in shared.items():
        assert ours.shape == plain[name].shape
        assert plain[name].abs().max() > 0
        allowed = 1e-10 if loaded.model.dtype == torch.float64 else 3e-5
        assert relative_error(ours, plain[name]) < allowed, name


@pytest.mark.parametrize(
    ("stage", "overrides"),
    [
        ("grpo", ("algorithm.kl_beta=0.3", "algorithm.epochs=2", "algorithm.minibatches=2")),
        ("ppo", ("algorithm.epochs=2",)),
    ],
)
def test_whole_updates_equal(nano64: LoadedModel, nano_folder: Path, stage: str, overrides: tuple[str, ...]) -> None:
    """Reference scores, old log-probs, critic: the weights after an episode are the same."""
    from helpers.nano import load_nano

    ends = []
    for shared in ("true", "false"):
        loaded = load_nano(nano_folder, torch.float64)
        recipe = nano_recipe("", *overrides, f"optim.shared_prompt={shared}", "optim.lr=1e-4", stage=stage)
        episode = random_episode(loaded, [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
        reference = load_nano(nano_folder, torch.float64).model if stage == "grpo" else None
        critic = make_critic(recipe, loaded) if stage == "ppo" else None
        update(make_policy(loaded, recipe, 4), recipe, episode, reference, critic)
        ends.append(torch.cat([p.detach().flatten() for p in loaded.model.parameters()]))
    start = torch.cat([p.detach().flatten() for p in nano64.model.parameters()])
    assert relative_error(ends[0] - start, ends[1] - start) < 1e-4, "Adam divides by gradients that are nearly zero"


def test_images_are_encoded_once_a_group(nano64: LoadedModel) -> None:
    rows: list[int] = []
    tower = nano64.model.model.vision_tower
    handle = tower.register_forward_pre_hook(lambda _, __, k: rows.append(len(k["pixel_values"])), with_kwargs=True)
    episode = random_episode(nano64, [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]], images=[1, 2])
    measured_recipe = nano_recipe()
    completions = [c for group in episode.groups for c in group.completions]
    batches = microbatches(measured_recipe, episode, completions, list(range(6)), nano64)
    make_policy(nano64, measured_recipe, 1).forward_backward(batches, make_loss(measured_recipe, batches, None, None))
    handle.remove()
    assert sum(rows) == 3


def test_what_is_not_exact_is_refused(nano64: LoadedModel) -> None:
    """And repeated instead, with the same result."""
    model = nano64.model
    assert refusal(model) is None
    model.train()
    assert "dropout" in str(refusal(model))
    model.eval()
    text = model.config.get_text_config()
    text.layer_types = ["full_attention", "linear_attention", "full_attention", "full_attention"]
    assert "linear_attention" in str(refusal(model))
    episode = random_episode(nano64, [[0.0, 1.0]])
    (batch,) = microbatches(nano_recipe(), episode, episode.groups[0].completions, [0, 1], nano64)
    assert batch.prefix is None
