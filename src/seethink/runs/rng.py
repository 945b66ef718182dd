"""The random states of the process. Our own draws are functions of (seed, step, ...) and use none of them; a reward
function of the user's may, and so may a model's code. They are seeded with the run and go on where a checkpoint was."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def rng_state() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, JSON) of python's, numpy's and torch's generators, as a checkpoint holds them."""
    version, words, gauss = random.getstate()
    _, key, position, has_gauss, cached = np.random.get_state()
    tensors = {
        "rng/python": torch.tensor(words, dtype=torch.int64),
        "rng/numpy": torch.from_numpy(np.asarray(key).astype(np.int64)),
        "rng/torch": torch.get_rng_state(),
    }
    for device, state in enumerate(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []):
        tensors[f"rng/cuda_{device}"] = state
    return tensors, {"python": [version, gauss], "numpy": [int(position), int(has_gauss), float(cached)]}


def restore_rng(tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    version, gauss = about["python"]
    random.setstate((version, tuple(tensors["rng/python"].tolist()), gauss))
    position, has_gauss, cached = about["numpy"]
    key = tensors["rng/numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", key, position, has_gauss, cached))
    torch.set_rng_state(tensors["rng/torch"])
    if torch.cuda.is_available():
        for device in range(torch.cuda.device_count()):
            if (state := tensors.get(f"rng/cuda_{device}")) is not None:
                torch.cuda.set_rng_state(state, device)
