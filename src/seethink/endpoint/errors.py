"""What can go wrong between a client and its server."""

from __future__ import annotations

_ABOUT_REQUEST = (400, 413, 415, 422)


class ServerError(Exception):
    """The server gave no proper answer: refused, cut off, too slow, too long, not a chat completion, 5xx."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        """`retry_after`: seconds that the server asks the client to wait, where it says so."""
        super().__init__(message)
        self.retry_after = retry_after


class RequestRefusedError(ServerError):
    """The server understood and said no (3xx, 4xx): a wrong key, model or address, or this one request."""

    def __init__(self, message: str, *, status: int) -> None:
        """`status` is HTTP's."""
        super().__init__(message)
        self.is_about_request = status in _ABOUT_REQUEST
        """Whether this one request is at fault (too long, an image that cannot be read), so that others may pass."""


class RateLimitedError(Exception):
    """The server asks the client to come back later (429)."""

    def __init__(self, retry_after: float | None) -> None:
        super().__init__("429 too many requests")
        self.retry_after = retry_after


class UnreadableReplyError(Exception):
    """The server works, but its reply is not what the caller needs; raised by the caller's `read`."""


class ServerDownError(Exception):
    """The request was not sent, because the server is down and the caller does not wait for it."""
