"""`[sft]`: supervised fine-tuning."""

from __future__ import annotations

from pydantic import Field

from seethink.config.section import Section
from seethink.config.tools import EnvironmentName


class SftConfig(Section):
    epochs: int = Field(2, gt=0, description="Passes over the data.")
    batch_size: int = Field(64, gt=0, description="Samples per optimizer step.")
    max_length: int = Field(16384, gt=0, description="Samples longer than this, prompt included, are dropped.")
    val_every: int = Field(20, gt=0, description="Steps between validation losses.")
    patience: int = Field(3, gt=0, description="Stop after so many validations without a better loss.")
    max_response_tokens: int = Field(8192, gt=0, description="Filter: traces longer than this are dropped.")
    max_repetition: float = Field(0.5, gt=0, le=1, description="Filter: share of repeated 4-grams in a trace.")
    require_think: bool = Field(True, description="Filter: drop responses that are not <think>...</think>answer.")
    drop_hallucinated: bool = Field(
        True, description="Filter: drop traces that say the image cannot be seen, though the sample has one."
    )
    latin_only: bool = Field(True, description="Filter: drop traces that mix in another script.")
    environment: EnvironmentName | None = Field(
        None, description="A tool whose calls in the traces are answered: each call ends a turn (docs/tools.md)."
    )
