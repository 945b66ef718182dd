"""Ranks of one run: what they decide together."""

from seethink.dist.agreement import agree

__all__ = ["agree"]
