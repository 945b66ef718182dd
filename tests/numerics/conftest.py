"""One random nano model per session; each test that changes weights loads its own copy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers.nano import load_nano, save_nano
from seethink.models.load import LoadedModel


@pytest.fixture(scope="session")
def nano_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_nano(tmp_path_factory.mktemp("nano"))


@pytest.fixture(scope="session")
def frozen_nano(nano_folder: Path) -> LoadedModel:
    """A float32 model that all tests share: do not train it."""
    return load_nano(nano_folder)


@pytest.fixture
def nano(nano_folder: Path) -> LoadedModel:
    """A float32 model to train."""
    return load_nano(nano_folder)


@pytest.fixture
def nano64(nano_folder: Path) -> LoadedModel:
    """A float64 model to train, in which differences of 1e-10 are visible."""
    return load_nano(nano_folder, torch.float64)
