"""The torchvision shim: acts only where the compiled operators are missing, and makes processors load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from seethink.models import torchvision_shim
from seethink.models.load import PACKAGED


def python(code: str) -> str:
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return out.stdout.strip()


@pytest.mark.slow
def test_processors_load_whatever_torchvision_is_installed() -> None:
    code = (
        "from seethink.models import torchvision_shim; import torchvision; "
        "from transformers import InternVLProcessor, Qwen2_5_VLProcessor; print(torchvision.__name__)"
    )
    assert python(code) == "torchvision"


@pytest.mark.slow
def test_it_may_be_imported_after_torchvision_too() -> None:
    """A second definition of the operators would raise."""
    code = (
        "from seethink.models import torchvision_shim; import importlib; import torchvision; "
        "print(torchvision_shim.define_missing_operators() is None or 'defined')"
    )
    assert python(code) in ("True", "defined")


def test_nothing_is_done_where_torchvision_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not torchvision_shim._operators_are_missing()
    assert torchvision_shim.define_missing_operators.__wrapped__() is None


@pytest.mark.slow
def test_the_advice_of_the_readme_works_as_written() -> None:
    """Imported first, the module lets plain transformers load a processor."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    line = "import seethink.models.torchvision_shim"
    assert f"`{line}`" in readme
    folder = str(PACKAGED["nano"])
    code = f"from transformers import AutoProcessor; print(type(AutoProcessor.from_pretrained({folder!r})).__name__)"
    assert python(f"{line}; {code}") == "InternVLProcessor"


class Spec:
    def __init__(self, folder: Path) -> None:
        self.origin = str(folder / "__init__.py")


@pytest.mark.parametrize(("loads", "missing"), [(True, False), (False, True)])
def test_a_library_that_loads_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loads: bool, missing: bool
) -> None:
    (tmp_path / "_C.so").write_bytes(b"")

    def load(path: str) -> Any:
        if not loads:
            raise OSError("undefined symbol")

    monkeypatch.setattr("importlib.util.find_spec", lambda name: Spec(tmp_path))
    monkeypatch.setattr(torch.ops, "load_library", load)
    assert torchvision_shim._operators_are_missing() is missing


def test_no_library_at_all_counts_as_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: Spec(tmp_path))
    assert torchvision_shim._operators_are_missing()


@pytest.mark.slow
def test_only_what_loads_a_processor_defines_them() -> None:
    code = (
        "import sys, torch, seethink.models, seethink.models.load; "
        "assert 'seethink.models.torchvision_shim' not in sys.modules; "
        "print('torchvision' in sys.modules)"
    )
    assert python(code) == "False"
