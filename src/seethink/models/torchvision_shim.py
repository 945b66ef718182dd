"""Lets torchvision import where its compiled operators are missing (a CPU torch without a matching build).

transformers' InternVL and Qwen-VL processors insist on torchvision, though what they use of it is pure Python.
Importing torchvision only fails because its C++ library would have registered two operator schemas; defining
those schemas first is enough. Where the compiled operators are present nothing is done.

Importing this module defines the schemas; `load_model` does so before it loads a processor.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def _operators_are_missing() -> bool:
    """torchvision is installed for another torch build: its library exists but cannot be loaded."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    for library in Path(spec.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            return True
        return False
    return True


@lru_cache
def define_missing_operators() -> torch.library.Library | None:
    """Define the schemas, once per process; None where they are not missing.

    The cache keeps the library alive: the schemas vanish with it.
    """
    if not _operators_are_missing():
        return None
    library = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        library.define(schema)
    return library


define_missing_operators()
