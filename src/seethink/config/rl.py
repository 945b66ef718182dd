"""`[rollout]`, `[algorithm]` and `[ppo]`: reinforcement learning."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from seethink.config.section import Section
from seethink.config.tools import ToolConfig

Difficulty = str


class RolloutConfig(ToolConfig):
    engine: Literal["in_process", "vllm"] = Field(
        "in_process", description="What samples: the training process itself, or vLLM servers ([vllm])."
    )
    prompts_per_step: int = Field(32, gt=0, description="Prompts of one episode.")
    group_size: int = Field(32, gt=1, description="Completions per prompt.")
    temperature: float = Field(1.0, gt=0, description="Of sampling, and of the log-probs that are trained.")
    top_p: float = Field(1.0, gt=0, le=1, description="Sample from the likeliest tokens that reach this share.")
    max_new_tokens: int = Field(4096, gt=0, description="Longest response.")
    length_schedule: tuple[tuple[float, int], ...] = Field(
        (), description="[share of training, max_new_tokens] pairs, e.g. [[0.5, 8192]]: longer answers later."
    )
    ahead: Literal[0, 1] = Field(
        0, description="Steps that vLLM servers sample ahead: 1 samples the next episode while one is trained on, from "
        "weights that are one step old (docs/scale.md). The paper is on-policy: 0.",
    )  # fmt: skip
    max_rows: int = Field(256, gt=0, description="Completions decoded at once, by each server where there are some.")


class AlgorithmConfig(Section):
    """GRPO (paper eq. 6-7). Defaults are the paper's: on-policy, clip 0.2, no KL."""

    steps: int = Field(100, gt=0, description="Episodes.")
    clip_low: float = Field(0.2, gt=0, lt=1, description="The ratio is clipped to 1 - clip_low ... 1 + clip_high.")
    clip_high: float = Field(0.2, gt=0, description="Above clip_low: clip-higher.")
    kl_beta: float = Field(0.0, ge=0, description="KL to the starting model; 0 loads no reference.")
    entropy_bonus: float = Field(
        0.0, ge=0, description="Times the mean entropy of the responses' tokens, in nats, taken from the loss."
    )
    loss: Literal["clip", "gspo", "cispo", "sapo"] = Field(
        "clip", description="Clipped ratios of tokens (paper) or of responses (GSPO), clipped weights that keep the "
        "gradient (CISPO), or a smooth gate (SAPO). They differ where epochs or minibatches exceed 1.",
    )  # fmt: skip
    sapo_temperatures: tuple[float, float] = Field(
        (1.0, 1.05), description="Of SAPO's gate where the advantage is above 0, and elsewhere."
    )
    token_share: float = Field(
        1.0, gt=0, le=1, description="Share of a gradient step's tokens that get a policy gradient; GRPO only."
    )
    token_measure: Literal["entropy", "image"] = Field(
        "entropy", description="Which tokens token_share keeps: the most uncertain ones (arXiv 2506.01939), or those "
        "that depend most on the image, by the KL to what a grey one gives (arXiv 2510.09285).",
    )  # fmt: skip
    aggregation: Literal["sequence", "token", "dr_grpo"] = Field(
        "sequence", description="Mean per response (paper), over all tokens, or sum over a constant length (Dr.GRPO)."
    )
    normalize_std: bool = Field(True, description="False: advantages are rewards less the group mean (Dr.GRPO).")
    mismatch_correction: Literal["off", "token", "sequence", "token_mask", "sequence_mask"] = Field(
        "off", description="Importance weights where another engine sampled: cut to the cap, or 0 beyond it (mask). "
        "Default with rollout.engine=vllm: token.",
    )  # fmt: skip
    mismatch_cap: float = Field(2.0, gt=1, description="Largest importance weight; a mask also drops below 1 / cap.")
    minibatches: int = Field(1, gt=0, description="Gradient steps per pass over an episode.")
    epochs: int = Field(1, gt=0, description="Passes over an episode.")
    dynamic_sampling: bool = Field(False, description="Drop groups without variance and sample others instead.")
    max_resamples: int = Field(3, gt=0, description="Rounds of dynamic sampling before going on with fewer groups.")
    samples: int = Field(
        0, ge=0, description="Completions to sample in all, those of dropped groups included: training ends with them, "
        "or after `steps` where that comes first. 0: no limit.",
    )  # fmt: skip
    curriculum: tuple[tuple[float, tuple[Difficulty, ...]], ...] = Field(
        (), description='[share of training, difficulties] pairs, e.g. [[0.0, ["normal"]], [0.5, ["hard"]]].'
    )


class PpoConfig(Section):
    gae_lambda: float = Field(1.0, ge=0, le=1, description="1: whole returns, 0: one-step estimates.")
    gamma: float = Field(1.0, gt=0, le=1, description="Discount per token.")
    value_coef: float = Field(0.5, gt=0, description="Weight of the value loss.")
    value_clip: float = Field(0.2, gt=0, description="Values may move so far from the old ones in a step.")
    critic_lr: float = Field(1e-4, gt=0, description="Learning rate of the value head.")
