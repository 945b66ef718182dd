"""Counts the tokens that images take in a prompt, from their sizes alone.

Running the processor for every combination of sizes would take hours for a data set with as many sizes as images. Most
processors can also count the tokens of a size without an image. That count is used once it has agreed with a full run
for the first sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from seethink.core.types import Sample

TRIED = 6
"""Sizes that are run in full before the processor's own count is trusted."""

Sizes = tuple[tuple[int, int], ...]
"""(width, height) of each image of a prompt."""


class ImageTokens:
    """The counts of one processor. `try_out` runs it on blank images of the given sizes."""

    def __init__(self, processor: Any, try_out: Callable[[Sizes], int]) -> None:
        self._processor, self._try_out = processor, try_out
        self._known: dict[Sizes, int] = {(): 0}
        self._agreed: list[int] = []
        """The full count minus the processor's own, of each single image that was run."""
        self._trusted = hasattr(processor, "_get_num_multimodal_tokens")

    def of(self, sample: Sample) -> int:
        """Tokens that the sample's images add to its text."""
        sizes = tuple(image.size for image in sample.images)
        if sizes not in self._known:
            self._known[sizes] = self._one_image(sizes) if len(sizes) == 1 and self._trusted else self._try_out(sizes)
        return self._known[sizes]

    def estimate(self, sample: Sample) -> int:
        """As `of`, but quick for any number of sizes: image by image, without running every size in full."""
        return sum(self._quick((image.size,)) for image in sample.images)

    def _quick(self, sizes: Sizes) -> int:
        if sizes not in self._known and not self._trusted and len(self._known) > TRIED:
            return max(self._known.values())
        if sizes not in self._known:
            self._known[sizes] = self._one_image(sizes) if self._trusted else self._try_out(sizes)
        return self._known[sizes]

    def _one_image(self, sizes: Sizes) -> int:
        told = self._told(sizes[0])
        if told is not None and len(self._agreed) >= TRIED:
            return told + self._agreed[0]
        counted = self._try_out(sizes)
        if told is None or (self._agreed and counted - told != self._agreed[0]):
            self._trusted = False
        else:
            self._agreed.append(counted - told)
        return counted

    def _told(self, size: tuple[int, int]) -> int | None:
        try:
            counts = self._processor._get_num_multimodal_tokens(image_sizes=[(size[1], size[0])])
            return int(counts["num_image_tokens"][0])
        except Exception:  # an interface that is not promised; without it the image is processed
            return None
