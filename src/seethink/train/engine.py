"""What samples a run's completions: this process, or vLLM servers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from seethink.config import Recipe
from seethink.core.errors import UserError
from seethink.dist.generator import DealtGenerator, MainGenerator
from seethink.dist.servers import URLS
from seethink.generate.kept_weights import A, B
from seethink.generate.make import make_generator
from seethink.generate.token_guard import KEY
from seethink.models.load import LoadedModel
from seethink.models.weight_stream import checkpoint_weights, refuse_joined, separate_weights
from seethink.train.policy import Policy

if TYPE_CHECKING:
    from seethink.generate.vllm import VllmGenerator

Weights = Callable[[bool], Iterator[tuple[str, Tensor]]]
"""All of them, or what has changed since they were sent last."""


def rollout_generator(recipe: Recipe, policy: Policy) -> DealtGenerator | MainGenerator:
    """What samples single turns in a reinforcement learning run.

    Raises UserError where no server is known, or none can be sent the model's weights.
    """
    loaded = policy.loaded
    if recipe.rollout.engine == "in_process":
        return DealtGenerator(make_generator(loaded, max_rows=recipe.rollout.max_rows), policy.whole_weights)
    model, dtype = loaded.model, loaded.compute_dtype
    refuse_joined(model)  # once, before the first rollouts

    def weights(is_whole: bool) -> Iterator[tuple[str, Tensor]]:
        if recipe.vllm.send == "all":
            return checkpoint_weights(model, dtype)
        return separate_weights(model, dtype, (A, B), trained_alone=not is_whole)

    return MainGenerator(lambda: _servers(recipe, loaded, weights), weights, sleeps=recipe.vllm.sleep > 0)


def _servers(recipe: Recipe, loaded: LoadedModel, weights: Weights) -> VllmGenerator:
    # The HTTP client is loaded where it is used.
    from seethink.generate.vllm import VllmGenerator
    from seethink.generate.vllm_server import VllmServer

    vllm = recipe.vllm
    urls, key = vllm.urls, vllm.api_key_env
    if not urls:
        urls, key = tuple(os.environ.get(URLS, "").split()), KEY
    if not urls:
        raise UserError(
            "rollout.engine is vllm, but no server is known: start the run with `seethink launch RECIPE`, which starts "
            "cluster.servers of them, or name those that run in vllm.urls"
        )
    return VllmGenerator(
        loaded,
        [VllmServer(url, key_variable=key) for url in urls],
        weights,
        max_rows=recipe.rollout.max_rows,
        weight_sync=vllm.weight_sync,
        sleep=vllm.sleep,
        keeps=vllm.send == "trained",
        request_timeout_s=vllm.request_timeout_s,
        wait_s=vllm.wait_s,
    )
