"""What the machine could do at best: FLOPs and bytes that a cell needs, over peaks measured in the same process.

Needed work counts every prompt and picture once per group, as nothing asks for more. A multiply-add is 2 FLOPs; a
weight costs 2 FLOPs a token forward and 4 backward; attention 4 * width FLOPs per (query, key) pair and layer forward,
twice that backward. Peaks: a large float32 matrix product, and a copy as large as what one decoding step reads.
Nothing overlaps, so phases add up. Norms, activations, softmax and Python cost nothing here: it is a lower bound.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from step_work import Cell


def best_seconds(work: Callable[[], Any], *, at_least: float = 0.5) -> float:
    """The fastest run: other jobs only ever add time."""
    work()
    best, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < at_least:
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best


def matmul_peak(size: int = 2048) -> float:
    """FLOP/s of a float32 matrix product with the threads that torch has now, in torch's default precision."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / best_seconds(lambda: a @ b)


def copy_peak(count: int) -> float:
    """Bytes/s read plus written when copying `count` bytes."""
    source = torch.zeros(max(count // 4, 4096))
    target = torch.empty_like(source)
    return 8 * len(source) / best_seconds(lambda: target.copy_(source))


def _count(module: torch.nn.Module, *without: torch.nn.Module) -> int:
    skip = {id(p) for m in without for p in m.parameters()}
    return sum(p.numel() for p in module.parameters() if id(p) not in skip and p.ndim in (2, 4))


def forward_flops(model: Any, cell: Cell) -> dict[str, float]:
    """FLOPs of one forward over the unique work of a step: prompts with their pictures, and responses."""
    text, vision = model.config.text_config, model.config.vision_config
    language = model.model.language_model
    body = _count(language, language.get_input_embeddings())
    tower = _count(model.model.vision_tower)
    connector = _count(model.model.multi_modal_projector)
    n, g, p, r = cell.prompts, cell.group, cell.prompt, cell.response
    width = text.num_attention_heads * getattr(text, "head_dim", text.hidden_size // text.num_attention_heads)
    pairs = 4 * width * text.num_hidden_layers
    patches = (cell.image_px // vision.patch_size[0]) ** 2 + 1
    images = n * cell.images
    return {
        "vision": images * (2 * tower * patches + 4 * vision.hidden_size * vision.num_hidden_layers * patches**2)
        + 2 * connector * n * cell.image_tokens,
        "prompt": n * (2 * body * p + pairs * p * p / 2),
        "response": n * g * (2 * body * r + pairs * (r * p + r * r / 2)),
        "head": 2 * text.vocab_size * text.hidden_size * n * g * r,
    }


def decode_seconds(model: Any, cell: Cell, flops: float, peak: float, copy: float) -> float:
    """A step reads weights, the prompts' keys and values once and each row's own; or computes, if that is longer."""
    text, language = model.config.text_config, model.model.language_model
    weights = 4 * (_count(language, language.get_input_embeddings()) + text.vocab_size * text.hidden_size)
    per_token = decode_bytes(model)
    seconds = 0.0
    for t in range(cell.response):
        read = weights + per_token * (cell.prompts * cell.prompt + cell.rows * t)
        seconds += max(read / copy, flops / cell.response / peak)
    return seconds


def decode_bytes(model: Any) -> int:
    """Keys and values of one token."""
    text = model.config.text_config
    head = getattr(text, "head_dim", text.hidden_size // text.num_attention_heads)
    return 2 * 4 * text.num_hidden_layers * text.num_key_value_heads * head


def limits(model: Any, cell: Cell) -> dict[str, Any]:
    """Seconds that each phase needs at least, and what they come from."""
    forward = forward_flops(model, cell)
    parameters = sum(p.numel() for p in model.parameters())
    working = 4 * parameters + decode_bytes(model) * (cell.prompts * cell.prompt + cell.rows * cell.response)
    peak, copy, memory = matmul_peak(), copy_peak(min(working, 2**29)), copy_peak(2**28)
    needed = sum(forward.values())
    repeated = needed + (cell.group - 1) * (forward["vision"] + forward["prompt"])
    seconds = {
        "fwd_bwd": 3 * needed / peak,
        # AdamW reads weight, gradient and two moments and writes three of them; the clip reads the gradient.
        "optimizer": 32 * parameters / max(memory, copy_peak(32 * parameters)),
        "rollout": (forward["vision"] + forward["prompt"]) / peak
        + decode_seconds(model, cell, forward["response"] + forward["head"], peak, copy),
    }
    return {
        "seconds": seconds | {"total": sum(seconds.values()), "replay": seconds["fwd_bwd"] + seconds["optimizer"]},
        "train_tflop": 3 * needed / 1e12,
        "work_ratio": repeated / needed,
        "matmul_gflops": peak / 1e9,
        "copy_gbs": copy / 1e9,
    }
