"""`[vllm]`: servers that sample in place of the training process (`rollout.engine = "vllm"`). Imports no vllm."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from seethink.config.section import Section


def _server(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected the http(s) address of a server, such as 'http://127.0.0.1:8000'")
    if "@" in parts.netloc or parts.query or parts.fragment:
        # The recipe is saved with every run and shown in its report: a secret in it would travel along.
        raise ValueError("an address must hold no user name, password or query; use vllm.api_key_env")
    return url.rstrip("/").removesuffix("/v1")


class VllmConfig(Section):
    """Where the servers are, or how `seethink launch` starts them (docs/scale.md)."""

    urls: tuple[Annotated[str, AfterValidator(_server)], ...] = Field(
        (), description="Servers that run already. Default: `seethink launch` starts cluster.servers of them."
    )
    api_key_env: str | None = Field(
        None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="NAME of the variable that holds the servers' API key."
    )
    python: str | None = Field(None, description="Python of the environment with vLLM. Default: the one in use.")
    args: tuple[str, ...] = Field((), description="Further words of the server's command, such as `--max-num-seqs`.")
    tensor_parallel: int = Field(1, gt=0, description="GPUs of each server that `seethink launch` starts.")
    weight_sync: Literal["gloo", "nccl"] = Field(
        "gloo", description="How weights reach the servers: gloo anywhere; nccl between GPUs, by vLLM's own engine."
    )
    send: Literal["all", "trained"] = Field(
        "all", description="Which weights are sent after a step: all of them, adapters merged; or trained ones and "
        "adapters alone, which the servers merge into those that they keep in main memory.",
    )  # fmt: skip
    sleep: Literal[0, 1, 2] = Field(
        0, description="1 or 2: servers sleep while training, on the trainers' GPUs; their weights wait in main memory "
        "(1), or are discarded (2). 0: they are always awake, on GPUs of their own.",
    )  # fmt: skip
    request_timeout_s: float = Field(1800.0, gt=0, description="Deadline of one prompt's completions.")
    wait_s: float = Field(900.0, gt=0, description="Stop the run where no server has been ready for so long.")
