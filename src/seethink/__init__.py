"""seethink: post-train vision-language models to reason (see, then think)."""

__version__ = "0.1.0"
