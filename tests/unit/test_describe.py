"""`seethink parts`: counts from a configuration alone, for models of any size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from helpers.families import FAMILY_PARAMS, save_family
from seethink.cli.main import app
from seethink.models.describe import as_json, describe, meta_model, tied
from seethink.models.load import ModelError, load_model
from seethink.models.parts import split_parts


@pytest.fixture(scope="module", params=FAMILY_PARAMS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family(request.param, tmp_path_factory.mktemp("family"))


def test_the_meta_model_has_the_parts_of_the_loaded_one(folder: Path) -> None:
    meta, loaded = meta_model(str(folder)), load_model(str(folder)).model
    assert {p.device.type for p in meta.parameters()} == {"meta"}
    shapes = [{n: p.shape for n, p in named.items()} for m in (meta, loaded) for named in split_parts(m).values()]
    assert shapes[:3] == shapes[3:]
    assert bool(tied(meta)) == (loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight)


def test_the_command_says_what_is_where(folder: Path) -> None:
    result = CliRunner().invoke(app, ["parts", str(folder), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    counts = {
        part: sum(p.numel() for p in n.values()) for part, n in split_parts(load_model(str(folder)).model).items()
    }
    assert found["parameters"] == counts
    assert sum(found["stored"].values()) >= sum(counts.values())
    shown = CliRunner().invoke(app, ["parts", str(folder)]).output
    assert all(f"{count:,}" in shown for count in counts.values())
    assert found["connector"].split()[0] in shown


INTERNVL3_38B: dict[str, Any] = {
    "vision_config": {
        "hidden_size": 3200, "num_hidden_layers": 45, "num_attention_heads": 25, "intermediate_size": 12800,
        "image_size": [448, 448], "patch_size": [14, 14], "use_qk_norm": True, "norm_type": "rms_norm",
    },
    "text_config": {
        "model_type": "qwen2", "hidden_size": 5120, "num_hidden_layers": 64, "num_attention_heads": 40,
        "num_key_value_heads": 8, "intermediate_size": 27648, "vocab_size": 151674, "tie_word_embeddings": False,
    },
    "tie_word_embeddings": False,
    "dtype": "bfloat16",
}  # fmt: skip


@pytest.mark.slow
def test_a_38b_model_costs_no_memory(tmp_path: Path) -> None:
    """InternVL3-38B's sizes: InternViT-6B and Qwen2.5-32B. Its weights would be 77 GB."""
    from transformers import InternVLConfig

    InternVLConfig(**INTERNVL3_38B).save_pretrained(tmp_path)
    code = (
        "import re, sys\n"
        "from seethink.models.describe import as_json, describe\n"
        "found = as_json(describe(sys.argv[1]))\n"
        "peak = re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]\n"
        "print(sum(found['parameters'].values()), peak)\n"
    )
    output = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    parameters, kilobytes = map(int, output.stdout.split())
    assert parameters == pytest.approx(38.4e9, rel=0.01)
    assert kilobytes < 1_500_000


def test_what_is_not_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        describe(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    with pytest.raises(ModelError, match="cannot load"):
        describe(str(tmp_path))


def test_modules_of_a_recipe(tmp_path: Path) -> None:
    """An unlisted family's parts come from the recipe, and the command shows them."""
    from transformers import AutoConfig

    folder = save_family("llava", tmp_path / "model")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'name = "x"\nstage = "sft"\nout = "x"\ndata = {train = "x"}\n[parts.modules]\nvision = ["model.vision_*"]\n'
        'connector = ["model.multi_modal_projector"]\nlanguage = ["model.language_model", "lm_head"]\n'
    )
    assert AutoConfig.from_pretrained(folder).model_type == "llava"
    result = CliRunner().invoke(app, ["parts", str(folder), "--recipe", str(recipe), "--json"])
    found = json.loads(result.output)
    assert found["modules"]["vision"] == ["model.vision_*"]
    assert found["parameters"] == as_json(describe(str(folder)))["parameters"]
