"""Ranks of one run: what they decide together, and who does what."""

from seethink.dist.agreement import agree

__all__ = ["agree"]
