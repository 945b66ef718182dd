"""`[reward.verifier]`: the LLM verifier. Imports neither torch nor an HTTP client."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from seethink.config.endpoint import EndpointConfig


class VerifierConfig(EndpointConfig):
    """An OpenAI-compatible server that judges answers which the rule grader called wrong."""

    on_down: Literal["wait", "rule_only"] = Field(
        default="wait",
        description=(
            "What to do while the server is down. wait: block, say so every half minute, go on when it "
            "answers. rule_only: the rule's verdict stands and is counted, until the server answers again."
        ),
    )
    batch_timeout_s: float = Field(
        default=600.0,
        gt=0,
        description="Deadline of one batch, not counting time while the server is down; the rest is masked.",
    )
    max_answer_chars: int = Field(default=300, ge=1, description="A longer extracted answer is wrong without asking.")
    cache: Path | None = Field(
        default=None, description="File of known verdicts (SQLite); unset: verdicts.sqlite in the run folder."
    )
    canary_every: int = Field(
        default=200,
        ge=0,
        description="Requests between two canaries (attacks that must score 0); all are sent at first. 0: none.",
    )
    recheck_share: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of cached verdicts requested again, to measure how often they flip.",
    )
