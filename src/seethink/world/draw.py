"""Drawing on the world's small canvas. Every random choice comes from one numpy Generator: a seed fixes the pixels."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIZE = 56
"""Pixels per side of every world image."""
SCALE = 3
"""Vector shapes are drawn so many times larger and then reduced, for smooth edges."""

Color = tuple[int, int, int]
COLORS: dict[str, Color] = {
    "red": (214, 39, 40),
    "green": (30, 150, 60),
    "blue": (31, 90, 200),
    "orange": (245, 135, 20),
    "purple": (140, 60, 180),
    "black": (40, 40, 40),
}
CELLS = ((0, 0), (28, 0), (0, 28), (28, 28))
"""Top-left corners of the four cells of a 2x2 scene, in reading order."""


class Canvas:
    """A paper-coloured square that collects shapes and ink; `finish` blends the ink over the shapes.

    Nothing is drawn before `finish`, because most layouts belong to another split and are dropped.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self._shade = int(rng.integers(236, 256))
        self._shapes: list[Callable[[ImageDraw.ImageDraw], None]] = []
        self._ink: list[tuple[NDArray[np.float32], int, int, int, Color]] = []

    def tint(self, name: str) -> Color:
        """The named colour with a little random variation."""
        jitter = self.rng.integers(-14, 15, size=3)
        red, green, blue = (int(c) for c in np.clip(np.array(COLORS[name]) + jitter, 0, 255))
        return red, green, blue

    def box(self, x: float, y: float, width: float, height: float, color: Color, radius: float = 0) -> None:
        corners = _scaled(x, y, x + width, y + height)
        self._shapes.append(lambda pen: pen.rounded_rectangle(corners, radius * SCALE, fill=color))

    def disc(self, x: float, y: float, radius: float, color: Color) -> None:
        box = _scaled(x - radius, y - radius, x + radius, y + radius)
        self._shapes.append(lambda pen: pen.ellipse(box, fill=color))

    def ring(self, x: float, y: float, radius: float, color: Color, width: float = 1.0) -> None:
        box = _scaled(x - radius, y - radius, x + radius, y + radius)
        self._shapes.append(lambda pen: pen.ellipse(box, outline=color, width=max(1, round(width * SCALE))))

    def line(self, x0: float, y0: float, x1: float, y1: float, color: Color, width: float = 1.0) -> None:
        ends = _scaled(x0, y0, x1, y1)
        self._shapes.append(lambda pen: pen.line(ends, fill=color, width=max(1, round(width * SCALE))))

    def triangle(self, x: float, y: float, radius: float, color: Color) -> None:
        corners = [
            (SCALE * (x + radius * math.sin(a)), SCALE * (y - radius * math.cos(a)))
            for a in (0.0, 2 * math.pi / 3, 4 * math.pi / 3)
        ]
        self._shapes.append(lambda pen: pen.polygon(corners, fill=color))

    def ink(self, alpha: NDArray[np.float32], x: int, y: int, side: int, color: Color) -> None:
        """Blend `color` over the square of `side` pixels at (x, y); `alpha` is resized to it."""
        self._ink.append((alpha, x, y, side, color))

    def finish(self) -> Image.Image:
        """The picture at SIZE x SIZE with light sensor noise."""
        image = Image.new("RGB", (SIZE * SCALE, SIZE * SCALE), (self._shade,) * 3)
        pen = ImageDraw.Draw(image)
        for shape in self._shapes:
            shape(pen)
        pixels = np.asarray(image.reduce(SCALE), dtype=np.float32).copy()
        for ink, x, y, side, color in self._ink:
            mask = Image.fromarray(np.round(ink * 255).astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
            alpha = np.asarray(mask, dtype=np.float32) / 255
            patch = pixels[y : y + side, x : x + side]
            blend = alpha[: patch.shape[0], : patch.shape[1], None]
            patch += blend * (np.array(color, dtype=np.float32) - patch)
        pixels += self.rng.normal(0.0, 3.0, size=pixels.shape)
        return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _scaled(*values: float) -> list[float]:
    return [v * SCALE for v in values]
