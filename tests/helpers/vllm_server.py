"""A real vLLM server on the CPU, in the environment that `make test-vllm` makes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers.serving import PYTHON
from seethink.config import Recipe, make_recipe
from seethink.dist.servers import URLS, local_servers
from seethink.endpoint.background import BackgroundLoop
from seethink.generate.token_guard import KEY
from seethink.generate.vllm_server import VllmServer

needs_vllm: list[pytest.MarkDecorator] = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="no vLLM environment; `make test-vllm` makes it"),
]
START_S = 600.0
SMALL = ("--max-model-len", "256", "--limit-mm-per-prompt", '{"image": 2}', "--max-num-batched-tokens", "256")
"""As many tokens at once as one sequence may have, so that not all prompts of a step fit."""


def vllm_recipe(model: Path | str, out: Path | str = "unused", **sections: object) -> Recipe:
    """A short GRPO run whose rollouts come from one server of `model`."""
    table = {
        "name": "served",
        "stage": "grpo",
        "model": str(model),
        "out": str(out),
        "data": {"train": "world:math", "train_size": 32},
        "rollout": {
            "engine": "vllm",
            "prompts_per_step": 4,
            "group_size": 6,
            "max_new_tokens": 24,
            "max_rows": 32,
            "temperature": 1.5,
        },
        "algorithm": {"steps": 3},
        "optim": {"lr": 1e-4},
        "blindness": {"every": 0},
        "log": {"tensorboard": False},
        "vllm": {"python": str(PYTHON), "args": SMALL},
        **sections,
    }
    return make_recipe(table)


@contextmanager
def running_server(recipe: Recipe) -> Iterator[str]:
    """The address of a server that has loaded the recipe's model."""
    # The first start asks a child per architecture what it can do, which takes minutes; the answers are kept.
    os.environ.setdefault("VLLM_CACHE_ROOT", str(PYTHON.parents[1] / "cache"))
    with local_servers(recipe):
        url = os.environ[URLS]
        wait_until_ready(url)
        yield url


def wait_until_ready(url: str) -> None:
    loop, server, until = BackgroundLoop("waiting"), VllmServer(url, key_variable=KEY), time.monotonic() + START_S
    while loop.run(server.look()) is None:
        assert time.monotonic() < until, server.fault
        time.sleep(1.0)
    loop.close(server.close)
