"""`[teacher]`: the servers that write traces. Imports neither torch nor an HTTP client."""

from __future__ import annotations

from pydantic import Field

from seethink.config.endpoint import EndpointConfig


class TeacherConfig(EndpointConfig):
    """One of the servers; several differ in their address alone."""

    call_timeout_s: float = Field(default=600.0, gt=0, description="Deadline of one trace, last byte included.")
    tokens_per_minute: float | None = Field(
        default=None,
        gt=0,
        description="Of prompts and replies, by the server's count and per server; unset for no limit.",
    )
