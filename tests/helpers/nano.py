"""A randomly initialised nano model, made-up samples and hand-built episodes for the numerics tests.

Nothing here depends on the packaged weights or on the world: the tokenizer is a stored file, images and questions
come from a seed. The golden files therefore change only with the training code, the nano architecture or the libraries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from seethink.config import FOREIGN, Recipe, make_recipe
from seethink.core.types import Completion, Grade, Prompt, RolloutGroup, Sample, Verdict
from seethink.data.chat import Chat
from seethink.models.load import LoadedModel, load_model
from seethink.models.shares import whole
from seethink.pretrain.nano import build_model, build_processor
from seethink.rl.rollout import Episode
from seethink.world.draw import SIZE

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "golden"
WORDS = ("what", "is", "the", "sum", "of", "red", "and", "blue", "digits", "in", "this", "picture")


def save_nano(folder: Path, seed: int = 0) -> Path:
    """A checkpoint folder with a random nano model, its processor and tokenizer."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(GOLDEN / "tokenizer")
    build_model(tokenizer, seed).save_pretrained(folder)
    build_processor(tokenizer).save_pretrained(folder)
    return folder


def load_nano(folder: Path, dtype: torch.dtype = torch.float32) -> LoadedModel:
    """Load the model on the CPU. In float64, weights, images and all computation are float64."""
    loaded = load_model(str(folder))
    loaded.model = loaded.model.to("cpu", dtype)
    if dtype == torch.float64:
        loaded.chat = _DoubleChat(loaded.chat.processor)
    return loaded


@contextmanager
def without_upcasts() -> Iterator[None]:
    """`x.to(torch.float32)` and `x.float()`, as families write them for norms and rotary angles, leave a float64 tensor
    as it is: what differs then is the order of sums alone."""
    to, as_float = torch.Tensor.to, torch.Tensor.float

    def keep(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        wanted = kwargs.get("dtype", next((a for a in args if isinstance(a, torch.dtype)), None))
        return self if self.dtype == torch.float64 and wanted == torch.float32 else to(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "to", keep)
        patch.setattr(torch.Tensor, "float", lambda self: self if self.dtype == torch.float64 else as_float(self))
        yield


class _DoubleChat(Chat):
    def prompt(self, sample: Sample) -> Prompt:
        prompt = super().prompt(sample)
        doubled = {k: v.double() if v.is_floating_point() else v for k, v in prompt.mm_kwargs.items()}
        return replace(prompt, mm_kwargs=doubled)


def picture(seed: int) -> Image.Image:
    """A picture of noise, which differs from every other one in every patch."""
    noise = np.random.default_rng([7, seed]).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def make_samples(images: Sequence[int], seed: int = 0) -> list[Sample]:
    """One sample per entry of `images`, which is its number of images; questions differ in length."""
    rng = np.random.default_rng([seed, len(images)])
    return [
        Sample(
            id=f"made-{seed}-{i}",
            question=" ".join(rng.choice(WORDS, size=3 + 2 * (i % 4))),
            images=tuple(picture(100 * i + k) for k in range(count)),
            answer=str(i),
            response=f"<think>{' '.join(rng.choice(WORDS, size=3 + i % 3))}</think>{i}",
        )
        for i, count in enumerate(images)
    ]


def nano_recipe(folder: Path | str = "unused", *overrides: str, stage: str = "grpo", out: str = "unused") -> Recipe:
    """A recipe for the tests. `overrides` are `key=value` words; those of another stage's sections are dropped."""
    table: dict[str, Any] = {
        "name": f"test-{stage}",
        "stage": stage,
        "model": str(folder),
        "out": out,
        "data": {"train": "unused.jsonl"},
        "log": {"tensorboard": False},
        "optim": {"lr": 1e-3, "micro_tokens": 100_000, "pack_length": 160},
        # A random model is blind; tests/numerics/test_blindness.py turns the guard on.
        "blindness": {"every": 0},
    }
    own = [word for word in overrides if word.partition(".")[0] not in FOREIGN[table["stage"]]]
    return make_recipe(table, own)


def completion(token_ids: Sequence[int], reward: float, advantage: float = 0.0) -> Completion:
    """A response built by hand, its generator log-probs unknown (0)."""
    ids = list(token_ids)
    return Completion(ids, [0.0] * len(ids), [0.0] * len(ids), "", False, 0, reward=reward, advantage=advantage)


def random_episode(
    loaded: LoadedModel, rewards: Sequence[Sequence[float]], *, images: Sequence[int] | None = None, seed: int = 0
) -> Episode:
    """Random responses of 2 to 9 tokens with the rewards [P][G] and random advantages."""
    rng = np.random.default_rng([seed, 11])
    samples = make_samples(images or [1, 0, 2, 1][: len(rewards)], seed)
    groups = [
        RolloutGroup(
            loaded.chat.prompt(sample),
            [completion(_random_ids(rng, loaded), reward, float(rng.normal())) for reward in row],
        )
        for sample, row in zip(samples, rewards, strict=True)
    ]
    return Episode(groups, max_new_tokens=16)


def _random_ids(rng: np.random.Generator, loaded: LoadedModel) -> list[int]:
    allowed = np.setdiff1d(np.arange(loaded.model.config.text_config.vocab_size), loaded.banned_ids)
    return [int(i) for i in rng.choice(allowed, size=rng.integers(2, 10))]


def gradients(model: torch.nn.Module) -> torch.Tensor:
    """All gradients as one vector, with zeros for parameters that have none; every rank of a sharded model calls it."""
    named = [p.grad if p.grad is not None else torch.zeros_like(p) for p in model.parameters()]
    return torch.cat([whole(g).flatten() for g in named])


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """|ours - theirs| / |theirs| in the L2 norm."""
    return ((ours - theirs).norm() / theirs.norm()).item()


def always_correct(response: str, sample: Sample) -> Grade:
    """A `reward.function` for which every response is correct."""
    return Grade(Verdict.CORRECT, sample.answer, "made up")


def likes_e(response: str, sample: Sample) -> Grade:
    """A `reward.function` of the text alone: a response is correct if at least one character in ten is an e."""
    correct = 10 * response.lower().count("e") >= max(1, len(response))
    return Grade(Verdict.CORRECT if correct else Verdict.WRONG, None, "counts e")


def labels_drawn(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> list[str]:
    """A list that collects, in order, the label of every sampling that `module` does from now on."""
    made: list[str] = []
    real = module.draw_graded

    def counting(*args: object, label: str, **rest: object) -> object:
        made.append(label)
        return real(*args, label=label, **rest)

    monkeypatch.setattr(module, "draw_graded", counting)
    return made


def completions_of(episode: Episode) -> list[Completion]:
    return [c for group in episode.groups for c in group.completions]
