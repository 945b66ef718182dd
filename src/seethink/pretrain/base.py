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
from safetensors import safe_open
from safetensors import torch as weights_file
from torch import Tensor
from torch.nn import functional as F

from seethink.core.errors import UserError
from seethink.models.forward import hidden_states, is_image_token, output_head
from seethink.models.load import load_model
from seethink.models.parts import family_of, split_parts
from seethink.pretrain.nano import IMAGE_SEQ_LENGTH, build_tokenizer
from seethink.pretrain.variants import BaseConfig, Variant
from seethink.world.draw import COLORS
from seethink.world.scenes import DOMAINS, draw_scene, make_scene
from seethink.world.talk import Talk, Turn, pick_domain, practice

T = TypeVar("T")
Log = Callable[[str], None]
CURVE_STEPS = 250
"""`base.json` has the mean loss of so many steps."""


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


def batch_loss(model: Any, batch: Batch, variant: Variant) -> Tensor:
    """Mean cross-entropy over the assistant's tokens; right padding needs no mask under causal attention."""
    images = variant.image_inputs(batch.pixel_values) if batch.pixel_values is not None else {}
    hidden = hidden_states(model, batch.input_ids, _positions(model, batch.input_ids, images), images)
    targets = batch.loss_mask[:, 1:]
    logits = output_head(model)(hidden[:, :-1][targets])
    return F.cross_entropy(logits, batch.input_ids[:, 1:][targets])


def _positions(model: Any, input_ids: Tensor, images: dict[str, Tensor]) -> Tensor:
    """[B, T], or [3, B, T] with M-RoPE."""
    plain = torch.arange(input_ids.shape[1]).expand(input_ids.shape)
    if family_of(model).positions == "1-D":
        return plain
    if not images:
        return plain.expand(3, -1, -1)
    kinds = is_image_token(model, input_ids).int()
    positions, _ = model.model.get_rope_index(input_ids, kinds, image_grid_thw=images["image_grid_thw"])
    return positions  # type: ignore[no-any-return]


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


VisionLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(image tokens [B, Q, H], pixels [B, 3, H, W], targets [B, colours]) -> scalar."""


def train_vision(model: Any, config: BaseConfig, variant: Variant, stop_after: int | None, log: Log) -> list[float]:
    """The first phase; returns the loss of each step."""
    parts = split_parts(model)
    params = [*parts["vision"].values(), *parts["connector"].values()]
    if variant.imitates:
        loss_of = imitation()
    else:
        loss_of, more = probing(output_head(model).in_features)
        params += more
    descent = Descent(params, config, config.vision_lr, config.vision_steps, log)
    for pixels, targets in prefetched(islice(vision_batches(config), stop_after)):
        descent.step(loss_of(image_tokens(model, variant.image_inputs(pixels)), pixels, targets))
    return descent.losses


def image_tokens(model: Any, images: dict[str, Tensor]) -> Tensor:
    """[N, Q, H] what the language model gets for each picture."""
    return torch.stack([*model.get_image_features(**images, return_dict=True).pooler_output])


def probing(width: int) -> tuple[VisionLoss, list[torch.nn.Parameter]]:
    """A linear probe must tell the value of every colour; (the loss, the probe's parameters)."""
    values = max(domain.high for domain in DOMAINS.values()) + 2
    probe = torch.nn.Linear(IMAGE_SEQ_LENGTH * width, len(COLORS) * values)

    def loss(tokens: Tensor, _: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(probe(tokens.flatten(1)).view(-1, values), targets.flatten())

    return loss, list(probe.parameters())


def imitation() -> VisionLoss:
    """The packaged nano's image tokens are to be told as they are; squared error as a share of their variance."""
    teacher = load_model("nano").model

    def loss(tokens: Tensor, pixels: Tensor, _: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = image_tokens(teacher, {"pixel_values": pixels})
        return F.mse_loss(tokens, wanted) / wanted.var()

    return loss


def train_base(
    config: BaseConfig, out: Path | None, *, variant: Variant, stop_after: int | None = None, log: Log = print
) -> dict[str, list[float]]:
    """Train and save to `out` (bf16 safetensors, tokenizer, processor); returns the losses by phase and step.

    `out` keeps the weights after each phase until all are done, and the same command goes on from them. Raises
    UserError where they are another configuration's.
    """
    tokenizer = build_tokenizer(variant.token_names)
    processor = variant.processor(tokenizer)
    model = variant.build(tokenizer, config.seed).train()
    encoder = Encoder(tokenizer, IMAGE_SEQ_LENGTH)
    losses: dict[str, list[float]] = {}

    def language(number: int, talk: Talk, lr: float, steps: int) -> list[float]:
        batches = islice(make_batches(config, encoder, talk, steps, number), stop_after)
        return train_language(model, config, variant, batches, lr, steps, log)

    phases: dict[str, Callable[[], list[float]]] = {
        "vision": lambda: train_vision(model, config, variant, stop_after, log),
        "language": lambda: language(1, variant.talk, config.lr, config.steps),
        "practice": lambda: language(2, practice, config.practice_lr, config.practice_steps),
    }
    seconds = 0.0
    for name, train in phases.items():
        done = load_phase(model, out, name, config) if out is not None else None
        if done is None:
            started = time.perf_counter()
            done = PhaseRecord(train(), time.perf_counter() - started)
            if name != "vision":
                # Each phase of language starts from what the one before would have stored.
                round_to_stored(model)
            if out is not None:
                save_phase(model, out, name, config, done)
        losses[name], seconds = done.losses, seconds + done.seconds
    if out is not None:
        save(model, processor, out, config, seconds, losses)
    return losses


def train_language(
    model: Any, config: BaseConfig, variant: Variant, batches: Iterator[Batch], lr: float, steps: int, log: Log
) -> list[float]:
    for part, named in split_parts(model).items():
        for weight in named.values():
            weight.requires_grad_(part not in variant.frozen)
    descent = Descent([p for p in model.parameters() if p.requires_grad], config, lr, steps, log)
    for batch in prefetched(batches):
        descent.step(batch_loss(model, batch, variant))
    return descent.losses


@torch.no_grad()
def round_to_stored(model: Any) -> None:
    """Weights as the stored bfloat16 holds them."""
    for weight in model.parameters():
        weight.copy_(weight.to(torch.bfloat16))


@dataclass(slots=True)
class PhaseRecord:
    """What is known of a phase that is done."""

    losses: list[float]
    """Of each step."""
    seconds: float


def phase_file(out: Path, name: str) -> Path:
    return out / f"unfinished.{name}.safetensors"


def save_phase(model: Any, out: Path, name: str, config: BaseConfig, done: PhaseRecord) -> None:
    out.mkdir(parents=True, exist_ok=True)
    about = {"config": json.dumps(asdict(config)), "done": json.dumps(asdict(done))}
    weights_file.save_model(model, str(phase_file(out, name)), metadata=about)


def load_phase(model: Any, out: Path, name: str, config: BaseConfig) -> PhaseRecord | None:
    """Weights and record of a phase that an interrupted command finished; None where it did not. Raises UserError."""
    file = phase_file(out, name)
    if not file.exists():
        return None
    with safe_open(file, "pt") as opened:
        about = opened.metadata()
    if json.loads(about["config"]) != asdict(config):
        raise UserError(f"{file} was made with other settings; remove it, or choose another --out")
    weights_file.load_model(model, file)
    return PhaseRecord(**json.loads(about["done"]))


def save(
    model: Any, processor: Any, out: Path, config: BaseConfig, seconds: float, losses: dict[str, list[float]]
) -> None:
    """A Hugging Face folder plus `base.json`, which says how it was made; the phases' files go."""
    state = {name: tensor.to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    model.save_pretrained(out, state_dict=state)
    processor.save_pretrained(out)
    curves = {
        name: [round(float(np.mean(all_[i : i + CURVE_STEPS])), 4) for i in range(0, len(all_), CURVE_STEPS)]
        for name, all_ in losses.items()
    }
    about = {"config": asdict(config), "seconds": round(seconds), "torch": torch.__version__, "losses": curves}
    (out / "base.json").write_text(json.dumps(about, indent=2) + "\n")
    for name in losses:
        phase_file(out, name).unlink()
