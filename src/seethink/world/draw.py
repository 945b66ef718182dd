"""Drawing on the world's small canvas. Everything takes a numpy Generator, so a seed gives the same pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIZE = 56
"""Pixels a side of every world image."""
SCALE = 3
"""Vector shapes are drawn this much larger and reduced, for smooth edges."""

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 39, 40),
    "green": (30, 150, 60),
    "blue": (31, 90, 200),
    "orange": (245, 135, 20),
    "purple": (140, 60, 180),
    "black": (40, 40, 40),
}
CELLS = ((0, 0), (28, 0), (0, 28), (28, 28))
"""Top-left corners of the four cells of a 2x2 scene, in reading order."""


@dataclass
class Canvas:
    """A paper-coloured square; vector shapes go to `pen` (at SCALE times the size), ink is blended at the end."""

    rng: np.random.Generator

    def __post_init__(self) -> None:
        shade = int(self.rng.integers(236, 256))
        self._image = Image.new("RGB", (SIZE * SCALE, SIZE * SCALE), (shade, shade, shade))
        self.pen = ImageDraw.Draw(self._image)
        self._ink: list[tuple[NDArray[np.float32], int, int, tuple[int, int, int]]] = []

    def tint(self, name: str) -> tuple[int, int, int]:
        """The named colour, a little varied."""
        jitter = self.rng.integers(-14, 15, size=3)
        red, green, blue = (int(c) for c in np.clip(np.array(COLORS[name]) + jitter, 0, 255))
        return red, green, blue

    def box(self, x: float, y: float, width: float, height: float, color: tuple[int, int, int]) -> None:
        self.pen.rectangle(_scaled(x, y, x + width, y + height), fill=color)

    def disc(self, x: float, y: float, radius: float, color: tuple[int, int, int]) -> None:
        self.pen.ellipse(_scaled(x - radius, y - radius, x + radius, y + radius), fill=color)

    def ring(self, x: float, y: float, radius: float, color: tuple[int, int, int], width: float = 1.0) -> None:
        box = _scaled(x - radius, y - radius, x + radius, y + radius)
        self.pen.ellipse(box, outline=color, width=max(1, round(width * SCALE)))

    def line(self, x0: float, y0: float, x1: float, y1: float, color: tuple[int, int, int], width: float = 1.0) -> None:
        self.pen.line(_scaled(x0, y0, x1, y1), fill=color, width=max(1, round(width * SCALE)))

    def triangle(self, x: float, y: float, radius: float, color: tuple[int, int, int]) -> None:
        corners = [
            (SCALE * (x + radius * math.sin(a)), SCALE * (y - radius * math.cos(a)))
            for a in (0.0, 2 * math.pi / 3, 4 * math.pi / 3)
        ]
        self.pen.polygon(corners, fill=color)

    def ink(self, alpha: NDArray[np.float32], x: int, y: int, side: int, color: tuple[int, int, int]) -> None:
        """Blend `alpha` (resized to side x side) in `color`, its corner at (x, y)."""
        mask = Image.fromarray(np.round(alpha * 255).astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
        self._ink.append((np.asarray(mask, dtype=np.float32) / 255, x, y, color))

    def finish(self) -> Image.Image:
        """The picture at SIZE x SIZE with light sensor noise."""
        pixels = np.asarray(self._image.reduce(SCALE), dtype=np.float32).copy()
        for alpha, x, y, color in self._ink:
            side = alpha.shape[0]
            patch = pixels[y : y + side, x : x + side]
            blend = alpha[: patch.shape[0], : patch.shape[1], None]
            patch += blend * (np.array(color, dtype=np.float32) - patch)
        pixels += self.rng.normal(0.0, 3.0, size=pixels.shape)
        return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _scaled(*values: float) -> list[float]:
    return [v * SCALE for v in values]
