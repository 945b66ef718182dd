"""Train the nano base model on the world's captions and direct-answer questions, never on traces.

First the vision encoder and connector alone, as real VLMs start from a trained encoder: a linear probe on the image
tokens must tell the value of every colour in the picture. Then all parts on conversations: one picture with a
caption and questions in random order, one conversation in ten text-only arithmetic. Last, mostly text-only practice
in what the pictures' questions teach too rarely: finding the option with a given text, recalling a named value,
single sums and differences. Without the first phase reading stays on a plateau for thousands of steps, without the
last one letters of options stay at chance.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from seethink.world.draw import COLORS
from seethink.world.nano import build_model, build_processor, build_tokenizer
from seethink.world.scenes import DOMAINS, draw_scene, make_scene
from seethink.world.talk import Turn, conversation, pick_domain, practice

T = TypeVar("T")
Log = Callable[[str], None]


@dataclass(frozen=True)
class BaseConfig:
    """How the stored base model was made; `seethink world base` runs exactly this."""

    vision_steps: int = 3500
    vision_lr: float = 2e-3
    steps: int = 4000
    lr: float = 1.5e-3
    practice_steps: int = 2000
    practice_lr: float = 1e-3
    batch_size: int = 64
    warmup: int = 100
    weight_decay: float = 0.05
    seed: int = 0


@dataclass(slots=True)
class Batch:
    """Right-padded conversations; letters: B sequences, T tokens, N pictures."""

    input_ids: Tensor
    """[B, T]"""
    loss_mask: Tensor
    """[B, T] True on assistant tokens, their end-of-turn included."""
    pixel_values: Tensor | None
    """[N, 3, H, W], N <= B: text-only sequences have none; None where N is 0."""


class Encoder:
    """Conversations -> token ids, caching the tokenizer's work on repeated text."""

    def __init__(self, tokenizer: Any, image_seq_length: int) -> None:
        self._tokenizer, self._cache = tokenizer, dict[str, list[int]]()
        self._image = self._ids("<img>") + self._ids("<IMG_CONTEXT>") * image_seq_length + self._ids("</img>\n")
        self.pad_id: int = tokenizer.pad_token_id

    def _ids(self, text: str) -> list[int]:
        if text not in self._cache:
            self._cache[text] = self._tokenizer(text)["input_ids"]
        return self._cache[text]

    def encode(self, has_image: bool, turns: list[Turn]) -> tuple[list[int], list[bool]]:
        """(ids, loss mask) in the chat template's form."""
        ids: list[int] = []
        mask: list[bool] = []
        for number, (question, answer) in enumerate(turns):
            prompt = self._ids("<|im_start|>user\n") + (self._image if has_image and number == 0 else [])
            prompt = prompt + self._ids(question) + self._ids("<|im_end|>\n<|im_start|>assistant\n")
            reply = self._ids(answer) + self._ids("<|im_end|>")
            ids += prompt + reply + self._ids("\n")
            mask += [False] * len(prompt) + [True] * len(reply) + [False]
        return ids, mask


Talk = Callable[[np.random.Generator], tuple[Any, list[Turn]]]


def make_batches(config: BaseConfig, encoder: Encoder, talk: Talk, steps: int, phase: int) -> Iterator[Batch]:
    """A phase's deterministic stream of training batches; neighbours in length share a batch."""
    buffer_batches = 8
    for start in range(0, steps, buffer_batches):
        rng = np.random.default_rng([config.seed, phase, start])
        rows = []
        for _ in range(buffer_batches * config.batch_size):
            image, turns = talk(rng)
            rows.append((*encoder.encode(image is not None, turns), image))
        rows.sort(key=lambda row: len(row[0]))
        chunks = [rows[i : i + config.batch_size] for i in range(0, len(rows), config.batch_size)]
        for i in rng.permutation(len(chunks))[: steps - start]:
            yield collate(chunks[i], encoder.pad_id)


def collate(rows: list[tuple[list[int], list[bool], Any]], pad_id: int) -> Batch:
    longest = max(len(ids) for ids, _, _ in rows)
    input_ids = torch.full((len(rows), longest), pad_id)
    loss_mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    for i, (ids, mask, _) in enumerate(rows):
        input_ids[i, : len(ids)] = torch.tensor(ids)
        loss_mask[i, : len(mask)] = torch.tensor(mask)
    images = [image for *_, image in rows if image is not None]
    return Batch(input_ids, loss_mask, _pixels(images) if images else None)


def batch_loss(model: Any, batch: Batch) -> Tensor:
    """Mean cross-entropy over the assistant's tokens; right padding needs no mask under causal attention."""
    hidden = model.model(input_ids=batch.input_ids, pixel_values=batch.pixel_values, use_cache=False)[0]
    targets = batch.loss_mask[:, 1:]
    logits = model.lm_head(hidden[:, :-1][targets])
    return F.cross_entropy(logits, batch.input_ids[:, 1:][targets])


def prefetched(items: Iterator[T]) -> Iterator[T]:
    """The same items, the next one made on a thread while this one is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


def vision_batches(config: BaseConfig) -> Iterator[tuple[Tensor, Tensor]]:
    """(pixels [B, 3, H, W], targets [B, colours]): 0 where a colour is absent, else its value + 1."""
    for step in range(config.vision_steps):
        rng = np.random.default_rng([config.seed, 0, step])
        images, targets = [], torch.zeros(config.batch_size, len(COLORS), dtype=torch.long)
        while len(images) < config.batch_size:
            scene = make_scene(pick_domain(rng), int(rng.integers(1, 5)), rng)
            image = draw_scene(scene, "train", rng)
            if image is not None:
                for name, value in scene.values.items():
                    targets[len(images), list(COLORS).index(name)] = value + 1
                images.append(image)
        yield _pixels(images), targets


def _pixels(images: list[Any]) -> Tensor:
    stacked = np.stack([np.asarray(image, dtype=np.float32) for image in images])
    return torch.from_numpy(stacked / 127.5 - 1.0).permute(0, 3, 1, 2).contiguous()


class Descent:
    """AdamW with warmup, cosine decay and clipping over some parameters; counts and reports its steps."""

    def __init__(self, params: list[torch.nn.Parameter], config: BaseConfig, lr: float, steps: int, log: Log) -> None:
        self._params, self._lr, self._steps, self._warmup, self._log = params, lr, steps, config.warmup, log
        groups: list[dict[str, Any]] = [
            {"params": [p for p in params if p.ndim >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=True)
        self.losses: list[float] = []
        self._started = time.perf_counter()

    def step(self, loss: Tensor) -> None:
        done = len(self.losses)
        decay = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done / self._steps))
        for group in self._optimizer.param_groups:
            group["lr"] = self._lr * min(1.0, (done + 1) / self._warmup) * decay
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._params, 1.0)
        self._optimizer.step()
        self.losses.append(loss.item())
        if len(self.losses) % 100 == 0:
            seconds = time.perf_counter() - self._started
            left = seconds / len(self.losses) * (self._steps - len(self.losses))
            mean = np.mean(self.losses[-100:])
            self._log(f"step {len(self.losses)}/{self._steps} loss {mean:.4f} {seconds:.0f}s, {left:.0f}s left")


def train_vision(model: Any, config: BaseConfig, stop_after: int | None, log: Log) -> list[float]:
    """The first phase; returns the loss of each step."""
    values = max(domain.high for domain in DOMAINS.values()) + 2
    width = model.config.image_seq_length * model.config.text_config.hidden_size
    probe = torch.nn.Linear(width, len(COLORS) * values)
    parts = (model.model.vision_tower, model.model.multi_modal_projector, probe)
    params = [p for part in parts for p in part.parameters()]
    descent = Descent(params, config, config.vision_lr, config.vision_steps, log)
    for pixels, targets in prefetched(islice(vision_batches(config), stop_after)):
        tokens = model.model.get_image_features(pixels, return_dict=True).pooler_output
        logits = probe(tokens.flatten(1)).view(-1, values)
        descent.step(F.cross_entropy(logits, targets.flatten()))
    return descent.losses


def train_base(
    config: BaseConfig, out: Path | None, *, stop_after: int | None = None, log: Log = print
) -> dict[str, list[float]]:
    """Train and save to `out` (bf16 safetensors, tokenizer, processor); returns the losses by phase and step."""
    started = time.perf_counter()
    tokenizer = build_tokenizer()
    processor = build_processor(tokenizer)
    model = build_model(tokenizer, config.seed).train()
    encoder = Encoder(tokenizer, processor.image_seq_length)
    losses = {"vision": train_vision(model, config, stop_after, log)}
    for phase, (name, talk, lr, steps) in enumerate(language_phases(config), start=1):
        batches = islice(make_batches(config, encoder, talk, steps, phase), stop_after)
        losses[name] = train_language(model, config, batches, lr, steps, log)
        # Each phase starts from what the one before would have stored, so that a stored one can be gone on from.
        round_to_stored(model)
    if out is not None:
        save(model, processor, out, config, time.perf_counter() - started)
    return losses


def language_phases(config: BaseConfig) -> list[tuple[str, Talk, float, int]]:
    """(name, what is talked about, lr, steps)."""
    return [
        ("language", conversation, config.lr, config.steps),
        ("practice", practice, config.practice_lr, config.practice_steps),
    ]


def train_language(
    model: Any, config: BaseConfig, batches: Iterator[Batch], lr: float, steps: int, log: Log
) -> list[float]:
    descent = Descent(list(model.parameters()), config, lr, steps, log)
    for batch in prefetched(batches):
        descent.step(batch_loss(model, batch))
    return descent.losses


@torch.no_grad()
def round_to_stored(model: Any) -> None:
    """Weights as the stored bfloat16 holds them."""
    for weight in model.parameters():
        weight.copy_(weight.to(torch.bfloat16))


def save(model: Any, processor: Any, out: Path, config: BaseConfig, seconds: float) -> None:
    """A Hugging Face folder plus `base.json`, which says how it was made."""
    state = {name: tensor.to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    model.save_pretrained(out, state_dict=state)
    processor.save_pretrained(out)
    about = {"config": asdict(config), "seconds": round(seconds), "torch": torch.__version__}
    (out / "base.json").write_text(json.dumps(about, indent=2) + "\n")
