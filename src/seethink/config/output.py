"""`[eval]`, `[checkpoint]` and `[log]`: what a run measures and writes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from seethink.config.section import Section


class EvalConfig(Section):
    """`[eval]`: on what a run is evaluated, and how responses are sampled."""

    data: str | None = Field(None, description="As data.train; None: no evaluation.")
    every: int = Field(0, ge=0, description="Steps between evaluations during training; 0: none.")
    size: int | None = Field(
        None, gt=0, description="Items per domain. Default: all of a file, 500 per domain of the world."
    )
    samples: int = Field(4, ge=0, description="k of avg@k at temperature 1; 0: greedy alone.")
    greedy: bool = Field(True, description="Also decode greedily, in the quickstart; training takes samples alone.")
    max_new_tokens: int = Field(4096, gt=0, description="Longest response.")


class CheckpointConfig(Section):
    every: int = Field(50, gt=0, description="Steps between checkpoints; the last step always has one.")
    keep: int = Field(2, gt=0, description="Newest checkpoints kept.")
    keep_best: int = Field(0, ge=0, description="Besides them, the best by best_metric.")
    best_metric: str | None = Field(None, description="A key of metrics.jsonl, e.g. loss/val or reward/accuracy.")
    best_mode: Literal["max", "min"] = Field("max", description="Whether more or less of best_metric is better.")
    asynchronous: bool = Field(
        False, description="Write checkpoints while training goes on, from a copy in main memory of what was trained."
    )
    grace_s: float = Field(20.0, gt=0, description="After SIGTERM or Ctrl-C a step may take so long; then it is left.")


class LogConfig(Section):
    tensorboard: bool = Field(True, description="Write TensorBoard files beside metrics.jsonl.")
    trackers: tuple[Literal["wandb", "mlflow", "trackio", "swanlab"], ...] = Field(
        (), description="Further places for the metrics, each to be installed, set up by its own variables."
    )
    rollouts_every: int = Field(10, gt=0, description="Steps between rollouts stored for the report.")
    rollouts_kept: int = Field(4, gt=0, description="Prompt groups stored each time.")
    rollout_tables: bool = Field(
        False, description="Stored rollouts, with their pictures, also as tables in TensorBoard and the trackers."
    )
    critical_words: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        ("Wait", "Alternatively", "Hmm", "But", "However", "Let me check"),
        description="Words at which the entropy is logged apart (paper 5.1), whole and in any case; any language.",
    )
    critical_window: int = Field(8, gt=0, description="Tokens after a critical word that count as following it.")
    entropy_threshold: float | None = Field(
        None, gt=0, description="Nats above which a token is in the tail. Default: the paper's 6.8, or for a small "
        "vocabulary (under 10,000) the 99th percentile of the first step.",
    )  # fmt: skip
