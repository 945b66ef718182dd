"""An export names its tensors as the checkpoint it came from does: what can serve the one can serve the other."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors import safe_open

from helpers.families import FAMILY_PARAMS, NESTED_VISION_FAMILIES, save_family
from seethink.config import LoraConfig
from seethink.models.load import export_model, load_model
from seethink.models.lora import add_adapters


def _shapes(folder: Path) -> dict[str, list[int]]:
    with safe_open(folder / "model.safetensors", "pt") as file:
        return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118  (no mapping)


@pytest.mark.parametrize("model_type", FAMILY_PARAMS)
def test_names_stay(model_type: str, tmp_path: Path) -> None:
    start = _shapes(save_family(model_type, tmp_path / "start"))
    assert any("vision_tower.vision_model." in name for name in start) == (model_type in NESTED_VISION_FAMILIES)
    loaded = load_model(str(tmp_path / "start"))
    export_model(loaded.model, loaded.chat, tmp_path / "export", {})
    assert _shapes(tmp_path / "export") == start
    add_adapters(loaded.model, LoraConfig(parts=("vision", "language"), rank=2), seed=0)
    export_model(loaded.model, loaded.chat, tmp_path / "merged", {})
    assert _shapes(tmp_path / "merged") == start
