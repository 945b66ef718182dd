"""`coldstart.reward_model`: the server of a model that scores responses. Imports neither torch nor an HTTP client."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from seethink.config.endpoint import EndpointConfig


class RewardModelConfig(EndpointConfig):
    """A server such as vLLM's with `--runner pooling`, which answers a chat with one number."""

    route: Literal["classify", "pooling", "score"] = Field(
        default="classify",
        description="classify (one score), pooling (a score for each token: the last counts), score (pairs of texts).",
    )

    @property
    def root(self) -> str:
        """The address without /v1: these routes lie beside it, not below."""
        return self.base_url.removesuffix("/v1")
