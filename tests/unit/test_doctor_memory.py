"""The doctor's memory estimate against what the nano model really takes; GPUs and sizes as they are written."""

from __future__ import annotations

import pytest

from helpers.live_memory import LiveMemory
from helpers.nano import nano_recipe
from helpers.training import make_policy, pair_batches
from seethink.config import Recipe
from seethink.core.errors import UserError
from seethink.core.types import Microbatch
from seethink.doctor.folder import EXTRAS, checkpoint_bytes
from seethink.doctor.machine import parse_gpus
from seethink.doctor.memory import Estimate, Load, estimate, micro_batch
from seethink.models.forward import image_token_id
from seethink.models.load import LoadedModel, load_recipe_model
from seethink.train import sft
from seethink.train.policy import Policy
from seethink.world.make import world_samples

ROWS = 32


def trained(*overrides: str) -> tuple[Recipe, LoadedModel, Policy, list[Microbatch], Load]:
    """A policy, one micro-batch of traces, and what the estimate knows of it."""
    recipe = nano_recipe("nano", *overrides, f"sft.batch_size={ROWS}", stage="sft")
    loaded = load_recipe_model(recipe)
    policy = make_policy(loaded, recipe, 1)
    samples = world_samples("world:all:traces", "train", ROWS, 0)
    pairs = [(loaded.chat.prompt(s), loaded.chat.response_ids(s.response or "")) for s in samples]
    batches = pair_batches(pairs, recipe, loaded)
    assert len(batches) == 1
    lengths = [len(prompt.input_ids) for prompt, _ in pairs]
    place = image_token_id(loaded.model.config)
    images = sum(prompt.input_ids.count(place) for prompt, _ in pairs) / ROWS
    response = max(len(ids) for _, ids in pairs)
    return recipe, loaded, policy, batches, Load(max(lengths), sum(lengths) / ROWS, images, response, 4.0)


def of_this_batch(recipe: Recipe, loaded: LoadedModel, batch: Microbatch, load: Load) -> Estimate:
    optim = recipe.optim.model_copy(update={"micro_tokens": batch.input_ids.numel()})
    return estimate(loaded.model, recipe.model_copy(update={"optim": optim}), load)


@pytest.mark.parametrize("train", ['["vision", "connector", "language"]', '["connector"]', '["language"]'])
def test_weights_gradients_and_optimizer_exactly(train: str) -> None:
    recipe, loaded, policy, batches, load = trained(f"parts.train={train}")
    found = of_this_batch(recipe, loaded, batches[0], load)
    policy.forward_backward(batches, sft.response_loss)
    parameters = list(loaded.model.parameters())
    assert sum(part.weights for part in found.parts.values()) == sum(p.nbytes for p in parameters) == found.host
    gradients = sum(p.grad.nbytes for p in parameters if p.grad is not None)
    assert sum(part.gradients for part in found.parts.values()) == gradients
    policy.optimizer_step()
    state = policy.optimizer.state_dict()["state"].values()
    held = sum(value.nbytes for entry in state for value in entry.values())
    assert sum(part.optimizer for part in found.parts.values()) == held
    saving = recipe.checkpoint.model_copy(update={"asynchronous": True})
    beside = of_this_batch(recipe.model_copy(update={"checkpoint": saving}), loaded, batches[0], load)
    assert beside.host == found.host + gradients + held


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        pytest.param(["optim.pack_length=1024"], marks=pytest.mark.slow),
        pytest.param(["dtype=bfloat16"], marks=pytest.mark.slow),
        ["optim.gradient_checkpointing=true"],
        ['parts.train=["connector"]'],
        pytest.param(['parts.train=["language"]'], marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_training_within_a_factor_of_two(overrides: list[str]) -> None:
    recipe, loaded, policy, batches, load = trained(*overrides)
    found = of_this_batch(recipe, loaded, batches[0], load)
    with LiveMemory() as live:
        policy.forward_backward(batches, sft.response_loss)
    assert 0.8 < found.training / live.peak < 2.0, f"{found.training:,} estimated, {live.peak:,} measured"


def test_what_a_stage_adds() -> None:
    recipe, loaded, _, _, load = trained()
    weights = sum(p.nbytes for p in loaded.model.parameters())

    def look(*words: str, stage: str = "grpo") -> Estimate:
        return estimate(loaded.model, nano_recipe("nano", *words, stage=stage), load)

    assert estimate(loaded.model, recipe, load).rollout == 0
    assert look().reference == 0
    assert look("algorithm.kl_beta=0.1").reference == weights
    assert look(stage="ppo").critic > 0
    assert look("rollout.max_rows=512").rollout > 1.5 * look("rollout.max_rows=128").rollout
    text = loaded.model.config.text_config
    a_token = 2 * text.num_hidden_layers * text.num_key_value_heads * (text.hidden_size // text.num_attention_heads)
    more = look("rollout.max_rows=64").rollout - look("rollout.max_rows=32").rollout
    assert more > 32 * a_token * 4 * load.response, "the cache of 32 more rows"


def test_one_long_sequence_makes_a_micro_batch_longer_than_its_budget() -> None:
    recipe = nano_recipe("nano", "optim.micro_tokens=100", "sft.max_length=5000", stage="sft")
    assert micro_batch(recipe, Load(3000, 3000.0, 256.0, 1000, 4.0))[0] == 4000
    assert micro_batch(recipe, Load(9000, 9000.0, 256.0, 1000, 4.0))[0] == 5000


def test_shared_prompts_are_alive_beside_a_micro_batch_of_responses() -> None:
    words = ("optim.micro_tokens=1000", "rollout.prompts_per_step=16", "rollout.group_size=8")
    recipe = nano_recipe("nano", *words, stage="grpo")
    assert micro_batch(recipe, Load(100, 100.0, 64.0, 50, 4.0))[0] == 250 + 20 * 50
    assert micro_batch(recipe, Load(700, 700.0, 64.0, 3000, 4.0))[0] == 700 + 3000, "one prompt, one response"
    assert micro_batch(recipe, Load(10, 10.0, 4.0, 2, 4.0))[0] == 16 * 10 + 128 * 2, "all there are"


def test_a_checkpoint_on_disk(tmp_path: object) -> None:
    from pathlib import Path

    from seethink.runs.checkpoint import save_checkpoint
    from seethink.runs.optimizer_state import optimizer_tensors

    recipe, loaded, policy, batches, _ = trained()
    policy.forward_backward(batches, sft.response_loss)
    policy.optimizer_step()
    tensors = optimizer_tensors("policy", policy.optimizer)
    folder = save_checkpoint(Path(str(tmp_path)), 1, loaded, tensors, {}, {}, keep=1)
    written = sum(file.stat().st_size for file in folder.rglob("*") if file.suffix == ".safetensors")
    stated = checkpoint_bytes(loaded.model, recipe)[0] - EXTRAS
    assert written == pytest.approx(stated, rel=0.02)


@pytest.mark.parametrize(
    ("text", "count", "gigabytes"), [("8x80", 8, 80), ("80", 1, 80), ("2 x 24GB", 2, 24), ("1x141GiB", 1, 141)]
)
def test_gpus(text: str, count: int, gigabytes: int) -> None:
    assert (parse_gpus(text).count, parse_gpus(text).size) == (count, gigabytes << 30)


@pytest.mark.parametrize("text", ["", "x80", "8x", "many", "0x80", "8x80x2"])
def test_gpus_that_are_not(text: str) -> None:
    with pytest.raises(UserError, match="8x80"):
        parse_gpus(text)
