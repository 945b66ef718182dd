"""How many tokens an image may take: the `data.image_*` keys, as options of the processors that have such options.

They are set on the processor itself. Prompts, their lengths, the vision cache, the doctor's counts and a saved
checkpoint all ask the processor, so that none of them can count otherwise.

- Qwen2-VL and its successors, and GLM-4.1V, scale an image to at least `image_min_pixels` and at most
  `image_max_pixels`.
- InternVL, Cohere2 Vision and Ovis2 cut an image into at most `image_tiles` tiles, with a whole view beside them where
  there are several; 1 leaves the whole view alone. Their processors have no option for the whole view.
"""

from __future__ import annotations

from typing import Any

from seethink.config import ReadConfig
from seethink.core.errors import UserError

PIXELS = ("image_min_pixels", "image_max_pixels")
TILES = ("image_tiles",)
COUNT_FRAMES = ("Glm4vImageProcessor", "Glm46VImageProcessor")
"""Classes (beginnings of their names) whose limits count an image once for each of the frames that a patch spans."""


def limit_images(processor: Any, config: ReadConfig) -> None:
    """Set what `config` asks for; nothing where it asks for nothing.

    Raises UserError for a key that the processor has no option for, and for fewer pixels at most than at least.
    """
    wanted, known = config.image_limits, budget_keys(processor)
    if strange := [key for key in wanted if key not in known]:
        name = type(processor).__name__
        takes = f"takes {' and '.join(f'data.{key}' for key in known)}" if known else "takes no data.image_* key"
        raise UserError(
            f"data.{strange[0]}={wanted[strange[0]]}: the model's processor ({name}) has no such option; it {takes}"
        )
    images: Any = getattr(processor, "image_processor", None)
    if wanted and known == PIXELS:
        images.size = _edges(images, config)
    elif config.image_tiles is not None:
        images.crop_to_patches, images.max_patches = True, config.image_tiles
        images.min_patches = min(images.min_patches, config.image_tiles)


def budget_keys(processor: Any) -> tuple[str, ...]:
    """The keys that a processor has options for."""
    images = getattr(processor, "image_processor", None)
    options = set(getattr(getattr(images, "valid_kwargs", None), "__annotations__", ()))
    if {"min_pixels", "max_pixels"} <= options or type(images).__name__.startswith(COUNT_FRAMES):
        return PIXELS
    return TILES if {"crop_to_patches", "min_patches", "max_patches"} <= options else ()


def processor_options(processor: Any) -> dict[str, Any]:
    """The options of a processor that `limit_images` has set, as its call takes them and vLLM passes them on."""
    images = processor.image_processor
    if budget_keys(processor) == PIXELS:
        return {"size": {edge: images.size[edge] for edge in ("shortest_edge", "longest_edge")}}
    return {name: getattr(images, name) for name in ("crop_to_patches", "min_patches", "max_patches")}


def _edges(images: Any, config: ReadConfig) -> dict[str, int]:
    """The sizes under their names in transformers, which are pixels of an area here. Raises UserError."""
    frames = images.temporal_patch_size if type(images).__name__.startswith(COUNT_FRAMES) else 1
    least, most = images.size["shortest_edge"], images.size["longest_edge"]
    least = least if config.image_min_pixels is None else config.image_min_pixels * frames
    most = most if config.image_max_pixels is None else config.image_max_pixels * frames
    if least > most:
        raise UserError(
            f"images would have at least {least // frames:,} and at most {most // frames:,} pixels: give "
            "data.image_min_pixels and data.image_max_pixels together"
        )
    return {"shortest_edge": least, "longest_edge": most}
