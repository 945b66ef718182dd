"""What may not appear in a report: secrets from recipes and commands, and characters that hide or act."""

from __future__ import annotations

import re
from typing import Any

REDACTED = "(redacted)"
_SECRET_NAME = re.compile(
    r"(^|_)(api|access|auth|private|hf|wandb)?_?(key|token)$"
    r"|(api|access|auth|private|secret|hf)_?(keys|tokens)$"
    r"|secret|passw|passphrase|credential|authorization"
)
_SECRET_VALUE = re.compile(
    r"\b(?:sk|pk|rk)-[\w-]{12,}|\b(?:hf|ghp|gho|github_pat|xox[abp])_?-?[A-Za-z0-9_-]{16,}"
    r"|\bAKIA[0-9A-Z]{16}\b|(?<=Bearer )[\w.~+/=-]{8,}"
)
_URL_USER = re.compile(r"(?<=://)[^/\s@]+(?=@)")
_ASSIGNED = re.compile(r"(?<![\w.-])(?:([\w.-]+)(=)|--([\w.-]+)(\s+)(?!-))(\"[^\"]*\"|'[^']*'|[^\s&\"']+)")
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def is_secret_name(name: str) -> bool:
    """`api_key`, `HF_TOKEN` and `dbPassword` are; `max_tokens` and `critical_tokens` are not."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().replace("-", "_").replace(".", "_")
    return bool(_SECRET_NAME.search(snake))


def redact(value: Any, name: str = "") -> Any:
    """A copy of a recipe with its secrets replaced, at any depth."""
    if is_secret_name(name) and value is not None and not isinstance(value, bool):
        return REDACTED
    if isinstance(value, dict):
        return {str(key): redact(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    return redact_text(value) if isinstance(value, str) else value


def redact_text(text: str) -> str:
    """One string without user names in URLs, known kinds of key, or values given to a secret's name."""
    text = _URL_USER.sub(REDACTED, _SECRET_VALUE.sub(REDACTED, text))
    return _ASSIGNED.sub(_redact_assigned, text)


def _redact_assigned(match: re.Match[str]) -> str:
    name = match[1] or match[3]
    return match[0][: match.start(5) - match.start()] + REDACTED if is_secret_name(name.lstrip("-")) else match[0]


def visible(text: str) -> str:
    """The same text with control and direction characters shown as pictures: escape becomes ␛."""
    return _HIDDEN.sub(_picture, text)


def _picture(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"
