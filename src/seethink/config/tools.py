"""What a model may call while it answers: keys of `[rollout]`, and options of commands that ask a model."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from seethink.config.section import Section

EnvironmentName = Literal["calculator", "zoom"]


class ToolConfig(Section):
    environment: EnvironmentName | None = Field(
        None, description="A tool that the model may call, turn after turn (docs/tools.md). Default: one turn, no tool."
    )
    turns: int | None = Field(
        None, ge=2, le=64, description="With an environment: most turns of the model, the last one unanswered. "
        "Default: 4.",
    )  # fmt: skip
    turn_tokens: int | None = Field(
        None, gt=0, description="With an environment: longest turn; max_new_tokens bounds all turns together."
    )

    @property
    def record(self) -> dict[str, Any]:
        """For the files of what was asked so: {"tools": the keys}; nothing without an environment."""
        return {} if self.environment is None else {"tools": self.model_dump()}

    @property
    def unread(self) -> str | None:
        """A key that says nothing, as no environment is named."""
        if self.environment is not None:
            return None
        return next((key for key in ("turns", "turn_tokens") if getattr(self, key) is not None), None)
