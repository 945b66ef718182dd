"""`[reward]`: what a response is worth."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from seethink.config.section import Section
from seethink.config.verifier import VerifierConfig


def _module_and_function(path: str) -> str:
    if not re.fullmatch(r"\w+(\.\w+)*:\w+", path):
        raise ValueError("expected module:function, e.g. myreward:grade for the function `grade` in myreward.py")
    return path


class RewardConfig(Section):
    """How responses are graded, and how much of the reward accuracy and format are worth."""

    accuracy_weight: float = Field(0.8, ge=0, description="Reward of a correct answer.")
    format_weight: float = Field(0.2, ge=0, description="Reward of the form <think>...</think>answer.")
    hallucination_penalty: float = Field(
        0.0, ge=0, description="Off the reward of a response that says the image cannot be seen, though there is one."
    )
    function: Annotated[str, AfterValidator(_module_and_function)] | None = Field(
        None, description="`module:function` in place of the rule grader: (response, sample) -> a Grade or 0 to 1."
    )
    verifier: VerifierConfig | None = Field(None, description="LLM verifier, asked where the rule says no.")
