"""`[coldstart]`: how questions become traces, and which traces are selected."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from seethink.config.endpoint import EndpointConfig
from seethink.config.reward_model import RewardModelConfig
from seethink.config.section import Section


class ColdstartConfig(Section):
    """What `seethink coldstart` is told besides where questions and teacher are.

    Thresholds on a trace's text are those of `[sft]`, so that training has nothing left to drop.
    """

    samples: int = Field(4, gt=0, description="Traces per question, at most.")
    adaptive: bool = Field(True, description="One trace per question first, and more only while it is not solved.")
    system: str | None = Field(
        None, description="System text for the teacher. Default: asks a server to think in <think>; local: none."
    )
    temperature: float = Field(1.0, ge=0, description="Of the teacher's sampling.")
    top_p: float = Field(1.0, gt=0, le=1, description="Of the teacher's sampling.")
    max_tokens: int = Field(8192, gt=0, description="Longest trace; a longer one is truncated and never selected.")
    choice_right: int = Field(
        2, gt=0, description="Right traces that a multiple-choice question needs: one may be right by chance."
    )
    student: str | None = Field(
        None, description="Model whose tokens lengths are counted in. Default: words, and CJK characters."
    )
    per_question: int = Field(
        1,
        gt=0,
        description="Traces selected per question, at most: those of the highest reward, else the shortest.",
    )
    min_tokens: int = Field(0, ge=0, description="Shorter traces are not selected.")
    max_compression: float = Field(8.0, gt=1, description="Traces that zlib shrinks more than so many times are loops.")
    max_other_script: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of a trace in sentences of another script than most: above it, languages switch.",
    )
    max_alike: float = Field(0.8, gt=0, le=1, description="Overlap of word 5-grams above which two traces are one.")
    max_pass: float = Field(
        1.0, gt=0, le=1, description="Questions with a larger share of right traces are too easy; 1: none is."
    )
    quotas: dict[str, int] = Field(
        {}, description="Questions selected per domain, at most, e.g. { biology = 4000, '*' = 500 }; *: each other."
    )
    val_share: float = Field(0.02, ge=0, lt=1, description="Of the selected questions, for the validation loss.")
    perplexity: bool = Field(False, description="Measure how surprising each right trace is to coldstart.student.")
    max_perplexity: float | None = Field(None, gt=1, description="More surprising traces are left out; unset: none.")
    reward_model: RewardModelConfig | None = Field(
        None, description="Server of a reward model: of a question's right traces the best are taken; unset: none."
    )
    reward_checkpoint: str | None = Field(
        None, description="Reward model in this process instead: a one-label ...ForSequenceClassification."
    )
    min_reward: float | None = Field(None, description="Traces that it scores lower are left out; unset: none.")
    judge: EndpointConfig | None = Field(None, description="LLM that reads the right traces; unset: none does.")
    min_coherent: int = Field(3, ge=1, le=5, description="Of the judge's 5: traces of less are left out.")
    max_rambling: int = Field(3, ge=1, le=5, description="Of the judge's 5: traces of more are left out.")
    format: Literal["jsonl", "parquet"] = Field(
        "jsonl", description="Of data/train and data/val: jsonl beside their images, or parquet with them inside."
    )
    license: str = Field("", description="Licence of the questions, for the data card.")
    price_in: float = Field(0.0, ge=0, description="Price of a million prompt tokens, for the estimate and report.")
    price_out: float = Field(0.0, ge=0, description="Price of a million completion tokens.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.max_pass < 1 and self.adaptive:
            raise ValueError(
                "coldstart.max_pass needs coldstart.adaptive=false: a question that is solved at once is sampled once"
            )
        if self.reward_checkpoint is not None and self.reward_model is not None:
            raise ValueError("coldstart.reward_model and coldstart.reward_checkpoint are two reward models: give one")
        if self.perplexity and self.student is None:
            raise ValueError("coldstart.perplexity needs coldstart.student, the model to be trained")
        return self
