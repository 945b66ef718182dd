"""Settings of the whole suite, and the fixtures that several folders share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import seethink.models.torchvision_shim  # noqa: F401  (before a test imports model classes of transformers)

# One thread, here and in the processes that tests start: sums keep their order, and models this small lose time to
# threads that wait for each other.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("COLUMNS", None)  # A test that depends on the terminal's width sets it.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests marked `full` unless `-m` names them."""
    if "full" in config.getoption("-m"):
        return
    config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("full")])
    items[:] = [item for item in items if not item.get_closest_marker("full")]


@pytest.fixture(scope="session")
def random_nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder of the nano architecture with random weights: it loads and trains, but answers nothing."""
    from helpers.nano import save_nano

    return save_nano(tmp_path_factory.mktemp("random_nano"))
