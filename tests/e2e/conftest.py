"""One process of transformers for all tests of exported checkpoints."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from helpers.plain_transformers import PlainTransformers


@pytest.fixture(scope="session")
def plain_transformers() -> Iterator[PlainTransformers]:
    with PlainTransformers() as running:
        yield running
