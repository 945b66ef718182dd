"""`[cluster]`: on how many processes a recipe trains."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from seethink.config.section import Section


class ClusterConfig(Section):
    """What `seethink launch` starts; `torchrun -m seethink train RECIPE` has numbers of its own (docs/scale.md)."""

    trainers: int = Field(1, gt=0, description="Training processes on this machine; the gradient is the same.")
    servers: int = Field(1, gt=0, description="vLLM servers on this machine, where rollout.engine is vllm.")
    max_restarts: int = Field(3, ge=0, description="How often a run goes on after a process died.")
    timeout_s: float = Field(1800.0, gt=0, description="Seconds that a process waits for the others.")
    shard: Literal["none", "zero2", "zero3"] = Field(
        "zero2",
        description="What several processes share of weights, gradients and optimizer: nothing (`none`: each has all), "
        "all, gathered once per step (`zero2`), or all, gathered layer by layer (`zero3`).",
    )
    sequence_parallel: int = Field(
        1, gt=0, description="So many processes share the tokens of each sequence in the language model."
    )
    replicas: int = Field(1, gt=0, description="Copies of the sharded weights: processes / replicas share one copy.")
