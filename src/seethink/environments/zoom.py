"""A part of the sample's own picture, enlarged: "thinking with images" (arXiv 2505.14362, DeepEyes).

Boxes are in thousandths of the picture's width and height, because processors resize pictures and a model does not know
their pixels. What is outside the picture is cut off, and a box too small to show anything is widened.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from PIL.Image import Image, Resampling

from seethink.core.types import Sample
from seethink.environments.calls import CallError, answer_call, response
from seethink.environments.protocol import Step

SCALE = 1000
MAX_CROPS = 8
"""Of one episode."""
MIN_SIDE = 16
"""Pixels of the picture that a crop shows at least, each way, where the picture has so many."""
MAX_ASPECT = 20
"""A crop's longer side over its shorter one, where the picture allows it."""
MAX_ENLARGED = 8
"""Times that a crop is enlarged at most."""
MAX_SIDE = 1024
"""Pixels of the longer side of an enlarged crop."""


class Zoom:
    """`{"box": [left, top, right, bottom]}`, and `"image": 2` for the second of several pictures."""

    name: ClassVar[str] = "zoom"
    gives_images: ClassVar[bool] = True
    instructions: ClassVar[str] = (
        "You can look closer at a part of the picture. To do so, write\n"
        '<tool_call>{"name": "zoom", "arguments": {"box": [500, 0, 750, 250]}}</tool_call>\n'
        "and end your turn. The box is left, top, right and bottom in thousandths of the picture's width and height. "
        "A turn without a call is your final answer."
    )

    def reset(self, sample: Sample) -> None:
        self._images, self._crops = sample.images, 0

    def step(self, text: str) -> Step:
        return answer_call(text, self.name, self._use)

    def _use(self, arguments: dict[str, Any]) -> Step:
        if not arguments.keys() <= {"box", "image"}:
            raise CallError('zoom takes {"box": [left, top, right, bottom]}, and "image" where there are several')
        place = arguments.get("image", 1)
        if type(place) is not int or not 1 <= place <= len(self._images):
            raise CallError(f'"image" is a number from 1 to {len(self._images)}')
        box = read_box(arguments.get("box"))
        if self._crops == MAX_CROPS:
            raise CallError(f"no more than {MAX_CROPS} crops; answer now")
        self._crops += 1
        image = self._images[place - 1]
        picture = image if isinstance(image, Image) else image.load()
        return Step(response(f"the part {list(box)} of the picture, enlarged"), (crop(picture, box),))


def read_box(found: object) -> tuple[int, int, int, int]:
    """Left, top, right and bottom within the picture, in thousandths. Raises CallError."""
    if not isinstance(found, list) or len(found) != 4 or not all(_is_number(side) for side in found):
        raise CallError('"box" is a list of four numbers: left, top, right, bottom')
    left, top, right, bottom = (round(min(max(side, 0), SCALE)) for side in found)
    if left >= right or top >= bottom:
        raise CallError(f"the box is empty: left < right and top < bottom, from 0 to {SCALE}")
    return left, top, right, bottom


def _is_number(side: object) -> bool:
    return type(side) is int or (type(side) is float and math.isfinite(side))


def crop(picture: Image, box: tuple[int, int, int, int]) -> Image:
    """The part of a picture in a box of thousandths, enlarged towards the picture's own size."""
    wide, high = picture.size
    left, right = box[0] * wide / SCALE, box[2] * wide / SCALE
    top, bottom = box[1] * high / SCALE, box[3] * high / SCALE
    least_wide = max(MIN_SIDE, (bottom - top) / MAX_ASPECT)
    least_high = max(MIN_SIDE, (right - left) / MAX_ASPECT)
    left, right = _widened(left, right, least_wide, wide)
    top, bottom = _widened(top, bottom, least_high, high)
    part = picture.crop((left, top, right, bottom))
    longest = max(part.size)
    factor = min(MAX_ENLARGED, max(wide / part.width, 1), max(high / part.height, 1))
    side = min(longest * factor, MAX_SIDE)
    size = tuple(max(1, round(pixels * side / longest)) for pixels in part.size)
    return part.resize((size[0], size[1]), Resampling.BICUBIC)


def _widened(low: float, high: float, least: float, most: int) -> tuple[int, int]:
    """Whole pixels around a span, at least `least` of them, none outside the `most` that there are."""
    missing = max(0.0, min(least, most) - (high - low)) / 2
    shift = max(0.0, missing - low) - max(0.0, high + missing - most)
    return max(0, math.floor(low - missing + shift)), min(most, math.ceil(high + missing + shift))
