"""`[optim]`: learning rates, schedule, and how a step is divided into micro-batches."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from seethink.config.section import Section

Beta = Annotated[float, Field(ge=0, lt=1)]
States = Literal["float32", "8bit", "cpu"]


class OptimConfig(Section):
    lr: float = Field(1e-5, gt=0, description="Learning rate of parts without a rate of their own.")
    schedule: Literal["constant", "cosine"] = Field("constant", description="What follows the warmup.")
    warmup_ratio: float = Field(0.0, ge=0, lt=1, description="Share of the steps with a linearly rising rate.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's, on matrices only.")
    betas: tuple[Beta, Beta] = Field(
        (0.9, 0.999), description="AdamW's decay of the gradient's mean and of the squared gradient's mean."
    )
    states: States = Field(
        "float32",
        description="AdamW's two moments of each weight: 8 bytes a weight on the device (`float32`), 2 (`8bit`, which "
        "needs torchao), or 8 in main memory, which visit the device during the update (`cpu`).",
    )
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients of all parts together are clipped to this norm.")
    router_aux_coef: float = Field(
        0.0,
        ge=0,
        description="Times the loss that balances the experts of a mixture, added to every stage's loss. It costs a "
        "further forward per step, and prompts are not shared.",
    )
    max_bad_steps: int = Field(3, gt=0, description="Stop after so many steps in a row with NaN or infinity; skipped.")
    micro_tokens: int | None = Field(
        None, gt=0, description="Token budget of one forward and backward. Default: 1,024 on a CPU, 16,384 on a GPU."
    )
    pack_length: int = Field(512, gt=0, description="Tokens per packed row; a longer sequence has a row of its own.")
    shared_prompt: bool = Field(True, description="In RL, a group's prompt goes through the model once, exactly.")
    gradient_checkpointing: bool = Field(False, description="Recompute layers in backward: less memory, more time.")

    def tokens_on(self, device_type: str) -> int:
        """Token budget of one forward and backward on a `cpu` or another device: more fills a GPU and slows a CPU."""
        return self.micro_tokens or (1024 if device_type == "cpu" else 16384)
