"""Keeps the features of a frozen vision encoder, so that each image is encoded once for decoding and all epochs.

Connector and language model may learn, because the connector reads these features. Images are encoded one at a time:
a feature then does not depend on the other images of the batch in which it was computed, and a run that is killed and
resumed has the same features to the last bit. Small encoders lose more by that than the cache saves: see LEAST_WORK.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from seethink.config import PartsConfig
from seethink.models.parts import family_of

LEAST_WORK = 1e11
"""The cache is used where encoder parameters times pixels per image reach this: about 1 GFLOP per image with patches of
14 pixels. The nano model has 2e9, the vision encoder of InternVL3-2B 6e13."""

SIZES = ("image_sizes", "grid_thw", "target_sizes")
"""With these the images of a batch are one long row (Pixtral, MiniCPM-V) or patches (Kimi), not a row each."""


def keep_features(model: nn.Module, parts: PartsConfig) -> VisionCache | None:
    """Put a cache before the vision encoder; None where the encoder learns or cannot be cached alone.

    A cache that an earlier call put there is removed.
    """
    family = family_of(model)
    named = dict(model.named_modules())
    encoders = [named[path] for path in family.vision if path in named]
    for encoder in encoders:
        if isinstance(encoder.forward, VisionCache):
            encoder.forward = encoder.forward.plain
    if "vision" in parts.train or parts.vision_cache_mb == 0:
        return None
    if family.evidence:
        return None  # how an encoder that was only found lays out its images is not known
    # One module, not a pattern of several. Qwen's merger, a connector, lies inside the encoder and may learn.
    if not len(encoders) == len(family.vision) == 1 or any(
        path.startswith(f"{family.vision[0]}.") for path in family.connector
    ):
        return None
    return VisionCache(encoders[0], parts.vision_cache_mb * 2**20)


class VisionCache:
    """Replaces the encoder's `forward`; keeps the features of the images seen last, at most `limit` bytes."""

    def __init__(self, encoder: nn.Module, limit: int) -> None:
        self._limit, self._weights = limit, list(encoder.parameters())
        self.plain = encoder.forward
        self._kept: OrderedDict[bytes, list[Tensor]] = OrderedDict()
        self._structure: Any = None
        self.bytes = self.hits = self.misses = 0
        encoder.forward = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        pixels: Any = kwargs.get("pixel_values", args[0] if args else None)
        if not self._applies(pixels, kwargs):
            return self.plain(*args, **kwargs)
        leaves, structure = tree_flatten((args, kwargs))
        count = len(pixels)
        rows = [[leaf[i : i + 1] if _has_rows(leaf, count) else leaf for leaf in leaves] for i in range(count)]
        features = [self._features(row, structure) for row in rows]
        return tree_unflatten([torch.cat(parts) for parts in zip(*features, strict=True)], self._structure)

    def _applies(self, pixels: Any, kwargs: dict[str, Any]) -> bool:
        if any(kwargs.get(key) is not None for key in SIZES):
            return False
        if not isinstance(pixels, Tensor) or pixels.ndim != 4 or any(p.requires_grad for p in self._weights):
            return False
        return sum(p.numel() for p in self._weights) * pixels.shape[-1] * pixels.shape[-2] >= LEAST_WORK

    def _features(self, row: list[Any], structure: Any) -> list[Tensor]:
        """The encoder's outputs for one image, in the order of its output's structure."""
        key = self._key(row)
        if key in self._kept:
            self.hits += 1
            self._kept.move_to_end(key)
            return self._kept[key]
        self.misses += 1
        # Not in inference mode, whose tensors the trainer could not use.
        with torch.inference_mode(False), torch.no_grad():
            args, kwargs = tree_unflatten([t.clone() if isinstance(t, Tensor) else t for t in row], structure)
            features, self._structure = tree_flatten(self.plain(*args, **kwargs))
        self._keep(key, features)
        return features

    def _keep(self, key: bytes, features: list[Tensor]) -> None:
        self._kept[key] = features
        self.bytes += _size(features)
        while self.bytes > self._limit:
            self.bytes -= _size(self._kept.popitem(last=False)[1])

    def _key(self, row: list[Any]) -> bytes:
        """A hash of image, other arguments, precision, and the weights' versions, which count every change in place."""
        digest = hashlib.sha256()
        for leaf in row:
            if isinstance(leaf, Tensor):
                digest.update(f"{leaf.dtype}{tuple(leaf.shape)}".encode())
                digest.update(leaf.detach().contiguous().flatten().view(torch.uint8).cpu().numpy().tobytes())
            else:
                digest.update(repr(leaf).encode())
        cast = torch.is_autocast_enabled(self._weights[0].device.type)
        digest.update(f"{self._weights[0].dtype}{cast}{sum(p._version for p in self._weights)}".encode())
        return digest.digest()


def _has_rows(leaf: Any, count: int) -> bool:
    return isinstance(leaf, Tensor) and leaf.ndim > 0 and len(leaf) == count


def _size(features: list[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in features)
