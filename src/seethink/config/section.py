"""What every section of a recipe is: a frozen pydantic model that refuses unknown keys."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Part = Literal["vision", "connector", "language"]
PARTS: tuple[Part, ...] = ("vision", "connector", "language")


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
