"""One random nano model a session; each test that changes weights loads its own copy."""

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
    """float32, shared: do not train it."""
    return load_nano(nano_folder)


@pytest.fixture
def nano(nano_folder: Path) -> LoadedModel:
    """float32, to train."""
    return load_nano(nano_folder)


@pytest.fixture
def nano64(nano_folder: Path) -> LoadedModel:
    """float64, to train: differences of 1e-10 are visible."""
    return load_nano(nano_folder, torch.float64)
