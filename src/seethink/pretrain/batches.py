"""Deterministic streams of training batches: conversations about pictures, and pictures with what they show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from seethink.pretrain.codes import told
from seethink.pretrain.settings import BaseConfig
from seethink.world.draw import COLORS
from seethink.world.scenes import draw_scene, make_scene
from seethink.world.talk import Turn, pick_domain
from seethink.world.v2.talk import Shown

T = TypeVar("T")
Talk = Callable[[np.random.Generator], tuple[Shown, list[Turn]]]
"""A generator -> what is shown and the turns about it."""
BUFFER = 8
"""Batches that are drawn together and sorted by length."""
CACHED = 1 << 15
"""Texts whose tokens are remembered."""


@dataclass(slots=True)
class Batch:
    """Right-padded conversations. Shape letters: B sequences, T tokens, N pictures."""

    input_ids: Tensor
    """[B, T]"""
    loss_mask: Tensor
    """[B, T] True on assistant tokens, their end-of-turn included."""
    pixel_values: Tensor | None
    """[N, 3, H, W], N <= B: text-only sequences have none; None where N is 0."""
    told: Tensor | None = None
    """[N, Q, heads]: what is told of the cells of pictures that are not drawn."""


class Encoder:
    """Conversations -> token ids in the chat template's form; repeated text is tokenized once."""

    def __init__(self, tokenizer: Any, image_seq_length: int) -> None:
        self._tokenizer = tokenizer
        self._ids = lru_cache(CACHED)(self._tokenize)
        self._opening = self._ids(_opening(tokenizer))
        self._image = self._ids("<img>") + self._ids("<IMG_CONTEXT>") * image_seq_length + self._ids("</img>\n")
        self.pad_id: int = tokenizer.pad_token_id

    def _tokenize(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text)["input_ids"]
        return ids

    def encode(self, has_image: bool, turns: list[Turn]) -> tuple[list[int], list[bool]]:
        """(ids [T], loss mask [T]) of one conversation; its picture stands in the first turn."""
        ids = [*self._opening]
        mask = [False] * len(ids)
        for number, (question, answer) in enumerate(turns):
            prompt = self._ids("<|im_start|>user\n") + (self._image if has_image and number == 0 else [])
            prompt = prompt + self._ids(question) + self._ids("<|im_end|>\n<|im_start|>assistant\n")
            reply = self._ids(answer) + self._ids("<|im_end|>")
            ids += prompt + reply + self._ids("\n")
            mask += [False] * len(prompt) + [True] * len(reply) + [False]
        return ids, mask


def _opening(tokenizer: Any) -> str:
    """What the tokenizer's chat template, where it has one, writes before the first turn."""
    turns = [{"role": "user", "content": ""}]
    text = tokenizer.apply_chat_template(turns, tokenize=False) if tokenizer.chat_template else ""
    return str(text.partition("<|im_start|>user")[0])


def make_batches(
    config: BaseConfig, encoder: Encoder, talk: Talk, steps: int, phase: int, first: int = 0
) -> Iterator[Batch]:
    """The batches of a phase's `steps`, a function of (seed, phase); neighbours in length share a batch.

    `first`, a multiple of BUFFER: the step to begin with.
    """
    for start in range(first, steps, BUFFER):
        rng = np.random.default_rng([config.seed, phase, start])
        rows = []
        for _ in range(BUFFER * config.batch_size):
            shown, turns = talk(rng)
            rows.append((*encoder.encode(shown is not None, turns), shown))
        rows.sort(key=lambda row: len(row[0]))
        chunks = [rows[i : i + config.batch_size] for i in range(0, len(rows), config.batch_size)]
        for i in rng.permutation(len(chunks))[: steps - start]:
            yield collate(chunks[i], encoder.pad_id)


def collate(rows: list[tuple[list[int], list[bool], Shown]], pad_id: int) -> Batch:
    """(ids, loss mask, what is shown) of each conversation -> one batch."""
    longest = max(len(ids) for ids, _, _ in rows)
    input_ids = torch.full((len(rows), longest), pad_id)
    loss_mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    for i, (ids, mask, _) in enumerate(rows):
        input_ids[i, : len(ids)] = torch.tensor(ids)
        loss_mask[i, : len(mask)] = torch.tensor(mask)
    images = [shown for *_, shown in rows if isinstance(shown, Image)]
    cells = [told(shown) for *_, shown in rows if isinstance(shown, tuple)]
    return Batch(input_ids, loss_mask, pixels_of(images) if images else None, torch.stack(cells) if cells else None)


def vision_batches(config: BaseConfig, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """(pixels [B, 3, H, W], targets [B, colours]) of the steps from `first` on.

    A target is 0 where a colour is absent, else its value + 1.
    """
    for step in range(first, config.vision_steps):
        rng = np.random.default_rng([config.seed, 0, step])
        images: list[Image] = []
        targets = torch.zeros(config.batch_size, len(COLORS), dtype=torch.long)
        while len(images) < config.batch_size:
            scene = make_scene(pick_domain(rng), int(rng.integers(1, 5)), rng)
            image = draw_scene(scene, "train", rng)
            if image is not None:
                for name, value in scene.values.items():
                    targets[len(images), list(COLORS).index(name)] = value + 1
                images.append(image)
        yield pixels_of(images), targets


def pixels_of(images: list[Image]) -> Tensor:
    """[N, 3, H, W] from -1 to 1."""
    stacked = np.stack([np.asarray(image, dtype=np.float32) for image in images])
    return torch.from_numpy(stacked / 127.5 - 1.0).permute(0, 3, 1, 2).contiguous()


def prefetched(items: Iterator[T]) -> Iterator[T]:
    """The same items; a thread makes the next one while this one is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item
