"""The one place that decides where completions come from."""

from __future__ import annotations

from seethink.generate.in_process.generator import InProcessGenerator
from seethink.generate.protocol import Generator
from seethink.models.load import LoadedModel


def make_generator(loaded: LoadedModel, *, max_rows: int = 256) -> Generator:
    """A generator that serves the weights of `loaded`, at most `max_rows` responses at a time."""
    return InProcessGenerator(loaded, max_rows=max_rows)
