"""`[[data.mixture]]`: one of several sources that a run is trained on together."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Literal

from pydantic import Field

from seethink.config.section import Section

MIXTURE = "mixture"
"""What `data.train` is where the sources stand in `[[data.mixture]]`."""
ColumnStyle = Literal["auto", "seethink", "trl", "easyr1", "verl", "ms-swift", "vlm-r1"]
_NAME = r"^[A-Za-z0-9][A-Za-z0-9.,_-]{0,63}$"
_WORLDS = re.compile(r"^world2?:")


class MixtureSource(Section):
    source: str = Field(min_length=1, description="As data.train.")
    name: str | None = Field(
        None, pattern=_NAME, description="Its name in logs and sample ids. Default: of its file, folder or domains."
    )
    weight: float = Field(1.0, gt=0, description="Its share of the samples drawn is this over the sum of all weights.")
    size: int | None = Field(None, gt=0, description="Use the first so many samples; required for a world.")
    domain: str | None = Field(None, min_length=1, description="Domain of all its rows. Default: as the rows say.")
    style: ColumnStyle | None = Field(None, description="Whose columns its rows have. Default: data.style.")
    image_root: str | None = Field(None, description="Folder of its image paths. Default: data.image_root.")

    @property
    def title(self) -> str:
        """Its `name`, or what its source is called.

        >>> MixtureSource(source="data/geo 1.jsonl").title, MixtureSource(source="world:math,dice?image=blank").title
        ('geo-1', 'math,dice')
        """
        if self.name is not None:
            return self.name
        world = _WORLDS.match(self.source)
        stem = self.source[world.end() :].partition("?")[0].partition(":")[0] if world else PurePath(self.source).stem
        return re.sub(r"[^A-Za-z0-9.,_-]+", "-", stem).strip("-.,_")[:64] or "source"
