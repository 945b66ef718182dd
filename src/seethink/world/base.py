"""Train the nano base model on the world's captions and direct-answer questions, never on traces.

Each sequence is one picture and a short conversation about it (a caption and questions in random order), and
one sequence in ten is text-only arithmetic. Scenes grow from one object to four over the first third of training:
with four from the start, reading stays on a plateau for thousands of steps.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from seethink.world.nano import build_model, build_processor, build_tokenizer
from seethink.world.questions import TASKS, chain, make_item
from seethink.world.scenes import OTHER_DOMAINS
from seethink.world.trace import caption, direct_answer


@dataclass(frozen=True)
class BaseConfig:
    """How the stored base model was made; `seethink world base` runs exactly this."""

    steps: int = 6000
    batch_size: int = 64
    lr: float = 2e-3
    warmup: int = 200
    weight_decay: float = 0.05
    seed: int = 0
    math_share: float = 0.4
    text_share: float = 0.1


@dataclass(slots=True)
class Batch:
    """Right-padded conversations; letters: B sequences, T tokens, N pictures."""

    input_ids: Tensor
    """[B, T]"""
    loss_mask: Tensor
    """[B, T] True on assistant tokens, their end-of-turn included."""
    pixel_values: Tensor
    """[N, 3, H, W], N <= B: text-only sequences have none."""


Turn = tuple[str, str]


def conversation(config: BaseConfig, progress: float, rng: np.random.Generator) -> tuple[Any, list[Turn]]:
    """A picture (or None) and the turns about it."""
    if rng.random() < config.text_share:
        return None, [_arithmetic(rng) for _ in range(4)]
    domain = "math" if rng.random() < config.math_share else str(rng.choice(OTHER_DOMAINS))
    most = 1 if progress < 0.08 else 2 if progress < 0.16 else 4
    num_objects = int(rng.integers(1, most + 1))
    fitting = [d for d, fewest in (("easy", 2), ("normal", 2), ("hard", 3)) if num_objects >= fewest]
    difficulty = str(rng.choice(fitting)) if fitting else "easy"
    item = make_item(domain, difficulty, "train", rng, num_objects=num_objects, task=None if fitting else "read")
    turns = [("Describe the image.", caption(item)), (item.prompt, direct_answer(item.answer))]
    if not item.choices:
        turns.append(_another_question(item, rng))
    return item.image, [turns[i] for i in rng.permutation(len(turns))]


def _another_question(item: Any, rng: np.random.Generator) -> Turn:
    """A reading question about the same picture."""
    question = TASKS["easy"]["read"](item.scene, rng)
    return question.text, direct_answer(question.answer)


def _arithmetic(rng: np.random.Generator) -> Turn:
    a, b, c = (int(v) for v in rng.integers(0, 19, size=3))
    kind = int(rng.integers(4))
    if kind == 0:
        return f"What is {a} plus {b % 10}?", direct_answer(str(a + b % 10))
    if kind == 1:
        a, b = max(a, b), min(a, b)
        return f"What is {a} minus {b}?", direct_answer(str(a - b))
    if kind == 2:
        total, _ = chain([a % 10, b % 10, min(c % 10, a % 10 + b % 10)], "+-")
        return f"What is {a % 10} plus {b % 10} minus {min(c % 10, a % 10 + b % 10)}?", direct_answer(str(total))
    word, pick = (("largest", max), ("smallest", min))[int(rng.integers(2))]
    values = (a % 13, b % 13, c % 13)
    return f"What is the {word} of {values[0]} {values[1]} {values[2]}?", direct_answer(str(pick(values)))


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


def make_batches(config: BaseConfig, encoder: Encoder) -> Iterator[Batch]:
    """The deterministic stream of training batches; neighbours in length share a batch."""
    buffer_batches = 8
    for start in range(0, config.steps, buffer_batches):
        rng = np.random.default_rng([config.seed, start])
        rows = []
        for _ in range(buffer_batches * config.batch_size):
            image, turns = conversation(config, start / config.steps, rng)
            rows.append((*encoder.encode(image is not None, turns), image))
        rows.sort(key=lambda row: len(row[0]))
        chunks = [rows[i : i + config.batch_size] for i in range(0, len(rows), config.batch_size)]
        for i in rng.permutation(len(chunks))[: config.steps - start]:
            yield collate(chunks[i], encoder.pad_id)


def collate(rows: list[tuple[list[int], list[bool], Any]], pad_id: int) -> Batch:
    longest = max(len(ids) for ids, _, _ in rows)
    input_ids = torch.full((len(rows), longest), pad_id)
    loss_mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    for i, (ids, mask, _) in enumerate(rows):
        input_ids[i, : len(ids)] = torch.tensor(ids)
        loss_mask[i, : len(mask)] = torch.tensor(mask)
    images = [np.asarray(image, dtype=np.float32) for *_, image in rows if image is not None]
    pixels = torch.from_numpy(np.stack(images) / 127.5 - 1.0).permute(0, 3, 1, 2).contiguous()
    return Batch(input_ids, loss_mask, pixels)


def batch_loss(model: Any, batch: Batch) -> Tensor:
    """Mean cross-entropy over the assistant's tokens; right padding needs no mask under causal attention."""
    hidden = model.model(input_ids=batch.input_ids, pixel_values=batch.pixel_values, use_cache=False)[0]
    targets = batch.loss_mask[:, 1:]
    logits = model.lm_head(hidden[:, :-1][targets])
    return F.cross_entropy(logits, batch.input_ids[:, 1:][targets])


def learning_rate(config: BaseConfig, step: int) -> float:
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.lr * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


def train_base(
    config: BaseConfig, out: Path | None, *, stop_after: int | None = None, log: Callable[[str], None] = print
) -> list[float]:
    """Train and save to `out` (bf16 safetensors, tokenizer, processor); returns the loss of each step."""
    torch.manual_seed(config.seed)
    tokenizer = build_tokenizer()
    processor = build_processor(tokenizer)
    model = build_model(tokenizer, config.seed).train()
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.98), fused=True)
    losses: list[float] = []
    started = time.perf_counter()
    for step, batch in enumerate(make_batches(config, Encoder(tokenizer, processor.image_seq_length))):
        if step == stop_after:
            return losses
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        optimizer.zero_grad(set_to_none=True)
        loss = batch_loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if step % 100 == 99:
            seconds = time.perf_counter() - started
            left = seconds / (step + 1) * (config.steps - step - 1)
            log(f"step {step + 1}/{config.steps} loss {np.mean(losses[-100:]):.4f} {seconds:.0f}s, {left:.0f}s left")
        if out is not None and (step % 500 == 499 or step + 1 == config.steps):
            save(model, processor, out, config, step + 1, time.perf_counter() - started)
    return losses


def save(model: Any, processor: Any, out: Path, config: BaseConfig, step: int, seconds: float) -> None:
    """A Hugging Face folder plus `base.json`, which says how it was made."""
    state = {name: tensor.to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    model.save_pretrained(out, state_dict=state)
    processor.save_pretrained(out)
    about = {"config": asdict(config), "step": step, "seconds": round(seconds), "torch": torch.__version__}
    (out / "base.json").write_text(json.dumps(about, indent=2) + "\n")
