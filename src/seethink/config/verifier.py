"""What a recipe says about the LLM verifier: `[verifier]`. Imports neither torch nor openai."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _plain_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("base_url must be an http(s) address such as 'http://127.0.0.1:8000/v1'")
    if "@" in parts.netloc or parts.query:
        # The recipe is saved with every run and shown in its report: a secret in it would travel along.
        raise ValueError("base_url must hold no user name, password or query; use verifier.api_key_env")
    return url.rstrip("/")


class VerifierConfig(BaseModel):
    """An OpenAI-compatible server that judges answers which the rule grader called wrong."""

    # A refused value is not repeated in the error: it may be a key pasted into the wrong field.
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
    on_down: Literal["wait", "rule_only"] = Field(
        default="wait",
        description=(
            "What to do while the server is down. wait: block, say so every half minute, go on when it "
            "answers. rule_only: the rule's verdict stands and is counted, until the server answers again."
        ),
    )
    max_concurrency: int = Field(default=32, ge=1, description="Requests in flight at once.")
    requests_per_minute: float | None = Field(
        default=None, gt=0, description="Requests started in a minute, evenly spaced; unset for no limit."
    )
    call_timeout_s: float = Field(default=60.0, gt=0, description="Deadline of one request, last byte included.")
    batch_timeout_s: float = Field(
        default=600.0,
        gt=0,
        description="Deadline of one batch, not counting time while the server is down; the rest is masked.",
    )
    max_retries: int = Field(
        default=4,
        ge=0,
        description="Further attempts after a failed or unreadable reply. One more failure in a row: down.",
    )
    max_tokens: int = Field(
        default=512,
        ge=8,
        description="Longest reply asked for, in tokens. A judge that thinks first needs more.",
    )
    max_answer_chars: int = Field(default=300, ge=1, description="A longer extracted answer is wrong without asking.")
    cache: Path | None = Field(
        default=None, description="File of known verdicts (SQLite); unset: verdicts.sqlite in the run folder."
    )
    canary_every: int = Field(
        default=200,
        ge=0,
        description="Requests between two canaries (attacks that must score 0); first all are asked. 0: none",
    )
    recheck_share: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of cached verdicts asked again, to measure how often they flip.",
    )
