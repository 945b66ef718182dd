"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

# Sums in one order; and models this small only lose to threads that wait for each other.
torch.set_num_threads(1)
os.environ.pop("COLUMNS", None)  # tests that care for the width set it themselves
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `full` run only where they are asked for by name."""
    if "full" in config.getoption("-m"):
        return
    config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("full")])
    items[:] = [item for item in items if not item.get_closest_marker("full")]


@pytest.fixture(scope="session")
def random_nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder of the nano architecture with random weights: it loads and trains, but knows nothing."""
    from helpers.nano import save_nano

    return save_nano(tmp_path_factory.mktemp("random_nano"))
