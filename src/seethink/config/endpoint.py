"""How an OpenAI-compatible server is reached, whatever it is asked for. Imports neither torch nor an HTTP client."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _plain_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("base_url must be an http(s) address such as 'http://127.0.0.1:8000/v1'")
    if "@" in parts.netloc or parts.query:
        # The recipe is saved with every run and shown in its report: a secret in it would travel along.
        raise ValueError("base_url must hold no user name, password or query; use api_key_env")
    return url.rstrip("/")


class EndpointConfig(BaseModel):
    """The address, model, limits and deadlines of one server; the sections of its users extend it."""

    # An error does not repeat a refused value, which may be a key pasted into the wrong field.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    base_url: Annotated[str, AfterValidator(_plain_url)] = Field(
        description="Address of the server, usually ending in /v1, without any secret."
    )
    model: str = Field(min_length=1, description="Model name as the server knows it.")
    api_key_env: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="NAME of the environment variable that holds the API key, never the key; unset for none.",
    )
    max_concurrency: int = Field(default=32, ge=1, description="Requests in flight at once.")
    requests_per_minute: float | None = Field(
        default=None, gt=0, description="Requests started per minute, evenly spaced; unset for no limit."
    )
    call_timeout_s: float = Field(default=60.0, gt=0, description="Deadline of one request, last byte included.")
    max_retries: int = Field(
        default=4,
        ge=0,
        description="Further attempts after a failed or unreadable reply. One more failure in a row: down.",
    )
    max_tokens: int = Field(
        default=512,
        ge=8,
        description="Longest reply requested, in tokens. A model that thinks first needs more.",
    )
