"""`[data]`: which rows are read, how, and which are left out."""

from __future__ import annotations

from collections import Counter
from typing import Any, Self

from pydantic import Field, model_validator

from seethink.config.mixture import MIXTURE, ColumnStyle, MixtureSource
from seethink.config.section import Section

MAX_PIXELS = 50_000_000
"""Of one image: 150 MB as RGB."""


class ReadConfig(Section):
    """How rows are read and which are left out; evaluation reads as training does."""

    style: ColumnStyle = Field(
        "auto", description="Whose columns the rows have; auto tells from the first rows (data/styles.py)."
    )
    image_root: str | None = Field(None, description="Folder that image paths are relative to and confined in.")
    max_pixels: int = Field(MAX_PIXELS, gt=0, le=178_000_000, description="Images of more pixels are bad rows.")
    allow_urls: bool = Field(False, description="Fetch images from http(s) addresses outside private networks.")
    allow_download: bool = Field(False, description="Fetch data sets by their Hugging Face name, org/name[:config].")
    max_bad_share: float = Field(0.05, ge=0, le=1, description="Stop where more of the rows are quarantined.")
    max_prompt_tokens: int | None = Field(
        None, gt=0, description="Longer prompts, image tokens included, are left out; the lengths are cached."
    )
    image_min_pixels: int | None = Field(
        None, gt=0, description="Smaller images are scaled up to so many (Qwen-VL, GLM). Default: the checkpoint's."
    )
    image_max_pixels: int | None = Field(
        None, gt=0, description="Larger images are scaled down to so many (Qwen-VL, GLM). Default: the checkpoint's."
    )
    image_tiles: int | None = Field(
        None,
        gt=0,
        le=64,
        description="Tiles of an image at most (InternVL, Cohere2, Ovis2). Default: the checkpoint's.",
    )
    video_frames: int = Field(
        16, ge=2, le=768, description="Frames of a video at most, evenly spaced from the first to the last."
    )
    video_fps: float | None = Field(
        None, gt=0, le=120, description="Of short videos fewer frames: so many a second. Default: video_frames of each."
    )
    memory_mb: int = Field(
        4096,
        ge=16,
        description="Main memory for images: half for processed, a quarter for encoded ones; the rest for val, eval.",
    )

    @property
    def processed_bytes(self) -> int:
        """Of the processed images of the training rows that are kept for their next use."""
        return self.memory_mb << 19

    @property
    def encoded_bytes(self) -> int:
        """Of the encoded images of tables that are kept, and of the processed ones of validation and evaluation."""
        return self.memory_mb << 18

    @property
    def image_limits(self) -> dict[str, int]:
        """The `image_*` keys that are set, with their values."""
        limits = {key: getattr(self, key) for key in ("image_min_pixels", "image_max_pixels", "image_tiles")}
        return {key: value for key, value in limits.items() if value is not None}


class DataConfig(ReadConfig):
    train: str = Field(
        description="`world:` or `world2:DOMAINS[:FORM][?OPTIONS]`, a file, a folder, or org/name with allow_download; "
        "`mixture`, or nothing, with [[data.mixture]]."
    )
    train_size: int | None = Field(None, gt=0, description="Use the first so many samples; required for a world.")
    mixture: tuple[MixtureSource, ...] = Field(
        (), description="Several sources in place of data.train, drawn by weight (docs/data.md)."
    )
    domain_weights: dict[str, float] = Field(
        {}, description="How often a row of a domain is drawn, against 1 of a row of any other of its source."
    )
    val: str | None = Field(None, description="Held-out samples, for the validation loss (SFT) and blindness.")
    val_size: int | None = Field(None, gt=0, description="Default: a twentieth of the training samples.")

    @property
    def is_mixture(self) -> bool:
        return bool(self.mixture) and self.train == MIXTURE

    @property
    def sources(self) -> tuple[str, ...]:
        """Every source of training rows."""
        return tuple(entry.source for entry in self.mixture) if self.is_mixture else (self.train,)

    @model_validator(mode="before")
    @classmethod
    def _named(cls, table: Any) -> Any:
        if isinstance(table, dict) and table.get("mixture") and "train" not in table:
            return {**table, "train": MIXTURE}
        return table

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.mixture and self.train != MIXTURE:
            raise ValueError(f"data.train={self.train!r} and data.mixture: give one of the two")
        if self.train == MIXTURE and not self.mixture:
            raise ValueError(
                f"data.train={MIXTURE!r} needs [[data.mixture]], its sources; a file of this name is './{MIXTURE}'"
            )
        if self.mixture and self.train_size is not None:
            raise ValueError("data.train_size with data.mixture: give each source its own size")
        twice = [name for name, count in Counter(entry.title for entry in self.mixture).items() if count > 1]
        if twice:
            raise ValueError(f"data.mixture: two sources are called {twice[0]!r}; give each a name of its own")
        wrong = [domain for domain, weight in self.domain_weights.items() if weight <= 0]
        if wrong:
            raise ValueError(
                f"data.domain_weights: {wrong[0]!r} has {self.domain_weights[wrong[0]]:g}; give more than 0"
            )
        return self
