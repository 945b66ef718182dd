"""The blindness guard on the packaged nano base model: healthy it passes, and each break is named for what it is."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.nano import nano_recipe
from helpers.training import batcher_of, make_policy
from seethink.core.types import Microbatch, Prompt, Sample
from seethink.data.chat import Chat
from seethink.data.control_images import blanked, swapped
from seethink.generate.in_process import generator as generator_module
from seethink.generate.make import make_generator
from seethink.models.load import LoadedModel, load_model
from seethink.rl import batching
from seethink.rl import packing as batch_module
from seethink.train.hooks.blindness import BlindModelError, BlindnessGuard, read_records
from seethink.train.memory import TokenBudget
from seethink.world.make import to_sample, world_samples
from seethink.world.questions import make_item
from seethink.world.trace import good_trace

SAMPLES = 48
SIZES = (f"blindness.samples={SAMPLES}", "rollout.max_new_tokens=24", "sft.max_response_tokens=24")


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return world_samples("world:math", "val", SAMPLES, 0)


@pytest.fixture
def base() -> LoadedModel:
    return load_model("nano")


def traced(count: int = SAMPLES) -> list[Sample]:
    """With good traces to imitate."""
    made = []
    for i in range(count):
        rng = np.random.default_rng([3, i])
        item = make_item("math", ("easy", "normal", "hard")[i % 3], "val", rng)
        made.append(to_sample(item, str(i), good_trace(item, rng)))
    return made


def make_guard(loaded: LoadedModel, samples: list[Sample], out: Path, *overrides: str, stage: str = "grpo") -> Any:
    recipe = nano_recipe("nano", "blindness.every=5", *SIZES, *overrides, stage=stage, out=str(out))
    policy = make_policy(loaded, recipe, 10)
    budget = TokenBudget(batcher_of(recipe, loaded), policy)
    out.mkdir(parents=True, exist_ok=True)
    return BlindnessGuard(recipe, policy, budget, make_generator(loaded), samples)


def failed(guard: BlindnessGuard, out: Path) -> list[str]:
    """The checks that fail in a look, which the guard then acts upon."""
    metrics = guard.check(0)
    record = read_records(out)[-1]
    assert {key: record[key] for key in metrics if "/t" not in key} == pytest.approx(
        {key: value for key, value in metrics.items() if "/t" not in key}
    )
    if record["stopped"]:
        with pytest.raises(BlindModelError, match=f"{record['failed'][0]} check failed"):
            guard.stop_if_blind()
    guard.stop_if_blind()
    checks: list[str] = record["failed"]
    return checks


# --- healthy


@pytest.mark.parametrize(
    ("stage", "overrides"),
    [
        ("grpo", ()),
        pytest.param("grpo", ("optim.micro_tokens=600",), marks=pytest.mark.slow),
        pytest.param("grpo", ("rollout.temperature=0.7",), marks=pytest.mark.slow),
        pytest.param("grpo", ("dtype=bfloat16",), marks=pytest.mark.slow),
        pytest.param("sft", (), marks=pytest.mark.slow),
        pytest.param("sft", ("dtype=bfloat16",), marks=pytest.mark.slow),
    ],
)
def test_the_base_model_sees(stage: str, overrides: tuple[str, ...], samples: list[Sample], tmp_path: Path) -> None:
    loaded = load_model("nano", dtype="bfloat16" if "dtype=bfloat16" in overrides else "float32")
    given = traced() if stage == "sft" else samples
    guard = make_guard(loaded, given, tmp_path, *overrides, stage=stage)
    assert failed(guard, tmp_path) == []
    (record,) = read_records(tmp_path)
    assert (record["step"], record["verdict"], record["stopped"]) == (0, "sees", False)
    assert record["blindness/samples"] == SAMPLES
    assert record["blindness/accuracy_true"] > record["blindness/accuracy_blank"] + 0.1
    assert record["blindness/path_mismatch"] < (2e-2 if overrides == ("dtype=bfloat16",) else 1e-5)
    assert record["blindness/trainer_sensitivity"] > 0.1 < record["blindness/decoder_sensitivity"]


@pytest.mark.slow
def test_a_look_leaves_no_trace(base: LoadedModel, samples: list[Sample], tmp_path: Path) -> None:
    """Weights, gradients, train mode and the global random states are as before; a second look gives the same."""
    guard = make_guard(base, samples, tmp_path)
    before = {name: weight.clone() for name, weight in base.model.state_dict().items()}
    states = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    first, second = guard.check(0), guard.check(0)
    assert {k: v for k, v in first.items() if "time/" not in k} == {k: v for k, v in second.items() if "time/" not in k}
    assert all(torch.equal(weight, before[name]) for name, weight in base.model.state_dict().items())
    assert all(p.grad is None for p in base.model.parameters())
    assert not base.model.training
    assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())


@pytest.mark.parametrize(("step", "due"), [pytest.param(0, True, marks=pytest.mark.slow), (4, False), (5, True)])
def test_when_it_looks(base: LoadedModel, samples: list[Sample], tmp_path: Path, step: int, due: bool) -> None:
    assert bool(make_guard(base, samples[:4], tmp_path).check(step)) == due
    assert make_guard(base, samples[:4], tmp_path, "blindness.every=0").check(step) == {}


# --- broken on purpose


def wrap(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, change: Callable[..., Any]) -> None:
    """`change(original, *arguments)` in place of a function or method."""
    monkeypatch.setattr(owner, name, partial(change, getattr(owner, name)))


def in_collate(monkeypatch: pytest.MonkeyPatch, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Pixels change on the way into the trainer's micro-batches: SFT's rows, and RL's shared prompts."""

    def broken(collate: Any, *arguments: Any) -> Microbatch:
        made = collate(*arguments)
        made.mm_kwargs["pixel_values"] = change(made.mm_kwargs["pixel_values"])
        return made

    def broken_groups(pack_groups: Any, *arguments: Any, **settings: Any) -> list[Microbatch]:
        batches = pack_groups(*arguments, **settings)
        for prefix in {id(batch.prefix): batch.prefix for batch in batches}.values():
            prefix.mm_kwargs["pixel_values"] = change(prefix.mm_kwargs["pixel_values"])
        return batches

    wrap(monkeypatch, batch_module, "collate", broken)
    wrap(monkeypatch, batching, "pack_groups", broken_groups)


def in_prefill(monkeypatch: pytest.MonkeyPatch, change: Callable[[list[Any]], list[Any]]) -> None:
    """Pixels change on the way into the decoder."""

    def broken(prefill: Any, loaded: LoadedModel, prompts: list[Prompt], *arguments: Any) -> Any:
        pixels = change([p.mm_kwargs["pixel_values"] for p in prompts])
        prompts = [replace(p, mm_kwargs={"pixel_values": x}) for p, x in zip(prompts, pixels, strict=True)]
        return prefill(loaded, prompts, *arguments)

    wrap(monkeypatch, generator_module.DecodeBatch, "prefill", broken)


def in_chat(monkeypatch: pytest.MonkeyPatch, change: Callable[[Any, Chat, Sample], Prompt]) -> None:
    """Pictures change where prompts are made, for trainer and decoder alike."""
    original = Chat.prompt
    monkeypatch.setattr(Chat, "prompt", lambda self, sample: change(original, self, sample))


def blank_processor(monkeypatch: pytest.MonkeyPatch, loaded: LoadedModel) -> None:
    in_chat(monkeypatch, lambda prompt, chat, sample: prompt(chat, blanked(sample)))


def cache_by_id(monkeypatch: pytest.MonkeyPatch, loaded: LoadedModel) -> None:
    kept: dict[str, Prompt] = {}

    def cached(prompt: Any, chat: Chat, sample: Sample) -> Prompt:
        if sample.id not in kept:
            kept[sample.id] = prompt(chat, sample)
        return kept[sample.id]

    in_chat(monkeypatch, cached)


def trainer_zeroed(monkeypatch: pytest.MonkeyPatch, loaded: LoadedModel) -> None:
    in_collate(monkeypatch, torch.zeros_like)


def trainer_permuted(monkeypatch: pytest.MonkeyPatch, loaded: LoadedModel) -> None:
    in_collate(monkeypatch, lambda pixels: pixels.roll(1, 0))


def trainer_loses_one_in_eight(monkeypatch: pytest.MonkeyPatch, loaded: LoadedModel) -> None:
    def lose(pixels: torch.Tensor) -> torch.Tensor:
        pixels[::8] = 0
        return pixels

    in_collate(monkeypatch, lose)


def decoder_zeroed(monkeypatch: pytest.MonkeyPatch, loaded: LoadedModel) -> None:
    in_prefill(monkeypatch, lambda pixels: [torch.zeros_like(x) for x in pixels])


def decoder_permuted(monkeypatch: pytest.MonkeyPatch, loaded: LoadedModel) -> None:
    in_prefill(monkeypatch, lambda pixels: [*pixels[1:], pixels[0]])


def connector_zeroed(monkeypatch: pytest.MonkeyPatch, loaded: LoadedModel) -> None:
    loaded.model.model.multi_modal_projector.register_forward_hook(lambda *given: torch.zeros_like(given[2]))


def connector_constant(monkeypatch: pytest.MonkeyPatch, loaded: LoadedModel) -> None:
    """What it said of the first picture, of every picture."""
    said: list[torch.Tensor] = []

    def hook(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        said.append(output[:1].detach())
        return said[0].expand_as(output)

    loaded.model.model.multi_modal_projector.register_forward_hook(hook)


BREAKS: list[tuple[Any, list[str]]] = [
    (blank_processor, ["trainer", "decoder", "image"]),
    (cache_by_id, ["trainer", "decoder", "image"]),
    (connector_zeroed, ["trainer", "decoder", "image"]),
    (connector_constant, ["trainer", "decoder", "image"]),
    (trainer_zeroed, ["trainer", "path"]),
    (trainer_permuted, ["path"]),
    (trainer_loses_one_in_eight, ["path"]),
    (decoder_zeroed, ["decoder", "path"]),
    (decoder_permuted, ["path"]),
]
CHOSEN = (blank_processor, trainer_permuted, decoder_permuted)
"""One break of both paths and one of each: the fast tests, and those that are repeated in bfloat16."""


def cases() -> Iterator[Any]:
    for damage, reasons in BREAKS:
        for dtype in ("float32", "bfloat16") if damage in CHOSEN else ("float32",):
            marks = [] if damage in CHOSEN and dtype == "float32" else pytest.mark.slow
            yield pytest.param(damage, reasons, dtype, marks=marks, id=f"{damage.__name__}-{dtype}")


@pytest.mark.parametrize(("damage", "reasons", "dtype"), list(cases()))
@pytest.mark.slow
def test_a_broken_pipeline_always_stops(
    damage: Any, reasons: list[str], dtype: str, samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_model("nano", dtype=dtype)
    guard = make_guard(loaded, samples, tmp_path, "blindness.action=warn", f"dtype={dtype}")
    damage(monkeypatch, loaded)
    found = failed(guard, tmp_path)
    # A decoder or trainer without pixels may besides gain nothing from them.
    assert [check for check in found if check != "image" or check in reasons] == reasons
    assert read_records(tmp_path)[-1]["stopped"]


@pytest.mark.slow
def test_pictures_of_other_rows(base: LoadedModel, tmp_path: Path) -> None:
    """Both paths see the same, but it is the wrong picture: no bug of the pipeline, so `action` decides."""
    wrong = [s for s in swapped(world_samples("world:math", "val", 4 * SAMPLES, 0), (5,)) if s is not None]
    assert failed(make_guard(base, wrong, tmp_path / "stop"), tmp_path / "stop") == ["image"]
    (record,) = read_records(tmp_path / "stop")
    assert record["stopped"]
    assert record["blindness/samples"] == 4 * SAMPLES, "in doubt it looks at more before it stops a run"
    assert failed(make_guard(base, wrong, tmp_path / "warn", "blindness.action=warn"), tmp_path / "warn") == ["image"]
    assert not read_records(tmp_path / "warn")[-1]["stopped"]


@pytest.mark.slow
def test_in_sft_the_wrong_pictures_are_found_too(base: LoadedModel, tmp_path: Path) -> None:
    wrong = [s for s in swapped(traced(), (5,)) if s is not None]
    assert failed(make_guard(base, wrong, tmp_path, stage="sft"), tmp_path) == ["image"]


@pytest.mark.slow
def test_a_model_that_ignores_images_warns_and_goes_on(
    nano: LoadedModel, samples: list[Sample], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Random weights: pixels arrive everywhere and mean nothing."""
    guard = make_guard(nano, samples, tmp_path, "blindness.action=warn", "rollout.max_new_tokens=8")
    assert failed(guard, tmp_path) == ["image"]
    assert "the image does not matter" in capsys.readouterr().out


@pytest.mark.slow
def test_a_single_picture_leaves_the_blank_one(base: LoadedModel, samples: list[Sample], tmp_path: Path) -> None:
    same = [replace(sample, images=samples[0].images) for sample in samples]
    guard = make_guard(base, same, tmp_path, "blindness.action=warn")
    guard.check(0)
    (record,) = read_records(tmp_path)
    assert "blank one alone" in record["notes"][0]
    assert "blindness/accuracy_shuffled" not in record
    assert "blindness/accuracy_gap_blank" in record


def test_samples_without_a_gold_answer_or_image_are_left_out(
    base: LoadedModel, samples: list[Sample], tmp_path: Path
) -> None:
    text = replace(samples[0], images=())
    silent = replace(samples[1], answer="")
    caption = replace(samples[2], answer="", response="red is 4.")
    forged = replace(samples[3], answer="<IMG_CONTEXT>")
    guard = make_guard(base, [text, silent, caption, forged, samples[4]], tmp_path)
    metrics = guard.check(0)
    assert metrics["blindness/samples"] == 2
    assert metrics["blindness/accuracy_true"] in (0.0, 1.0), "captions have log-probs alone"
