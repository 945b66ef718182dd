"""`seethink select` on another trainer's folder of checkpoints, and on a run of our own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from helpers.nano import labels_drawn
from seethink.cli.main import app
from seethink.config import make_recipe
from seethink.core.errors import UserError
from seethink.models.load import NANO, load_model
from seethink.studies.selection import checkpoints
from seethink.train.start import train as train_stage
from seethink.world.make import world_samples, write_parquet

pytestmark = pytest.mark.slow
SMALL = ["--size", "4", "--samples", "2", "--max-new-tokens", "24", "--words", "answer,red,blue"]
"""The base model answers directly: words that it says take the place of "Wait"."""


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What plain transformers leaves behind: model and processor in numbered folders, an optimizer's state beside."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = tmp_path_factory.mktemp("foreign")
    processor = AutoProcessor.from_pretrained(NANO)
    for step in (5, 20, 100):
        model = AutoModelForImageTextToText.from_pretrained(NANO, dtype=torch.float32)
        torch.manual_seed(step)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * parameter.std() * step / 1000)
        model.save_pretrained(folder / f"checkpoint-{step}")
        processor.save_pretrained(folder / f"checkpoint-{step}")
        torch.save({"state": {}}, folder / f"checkpoint-{step}" / "optimizer.pt")
    items = [s for d in ("math", "dice") for s in world_samples(f"world:{d}", "test", 8, 0)]
    write_parquet(items, folder / "held_out.parquet")
    return folder


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The checkpoints that are really sampled."""
    return labels_drawn(monkeypatch, checkpoints)


def run(*words: str) -> str:
    result = CliRunner().invoke(app, ["select", *words], env={"COLUMNS": "200"})
    if isinstance(result.exception, UserError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_a_foreign_folder_as_the_docs_say(foreign: Path, draws: list[str], tmp_path: Path) -> None:
    data = ["--data", str(foreign / "held_out.parquet"), "--in-domain", "math"]
    text = run(str(foreign), *data, *SMALL, "--export", str(tmp_path / "chosen"))
    assert draws == ["checkpoint-5", "checkpoint-20", "checkpoint-100"]
    table = json.loads((foreign / "select.json").read_text())
    assert list(table["criteria"]["critical_entropy"]["values"]) == draws
    assert f"chosen by critical_entropy: {table['chosen']}" in text
    assert "reward" not in table["criteria"]
    assert table["criteria"]["last"]["chosen"] == "checkpoint-100"
    assert table["in_domain"] == ["math"]
    accuracy = table["targets"]["out_of_domain"]["values"]["checkpoint-5"]
    assert accuracy["n"] == 4
    assert 0 <= accuracy["low"] <= accuracy["value"] <= accuracy["high"] <= 1
    entropies = [v["value"] for v in table["criteria"]["entropy_mean"]["values"].values()]
    assert entropies[0] < entropies[2]  # noise on the weights makes the model less sure
    exported = load_model(str(tmp_path / "chosen")).model.state_dict()
    chosen = load_model(str(foreign / table["chosen"])).model.state_dict()
    assert all(torch.equal(tensor, exported[name]) for name, tensor in chosen.items())
    assert not list((tmp_path / "chosen").glob("*.pt"))

    draws.clear()
    run(str(foreign), *data, *SMALL, "--by", "accuracy")
    assert draws == []
    again = json.loads((foreign / "select.json").read_text())
    assert again["by"] == "accuracy"
    assert again["criteria"] == table["criteria"]
    with pytest.raises(UserError, match="--by reward: the run has no reward/mean"):
        run(str(foreign), *data, *SMALL, "--by", "reward")


def test_a_changed_checkpoint_is_measured_again(foreign: Path, draws: list[str], tmp_path: Path) -> None:
    shutil.copytree(foreign, tmp_path / "run")
    data = ["--data", str(foreign / "held_out.parquet"), "--in-domain", "math"]
    run(str(tmp_path / "run"), *data, *SMALL)
    draws.clear()
    shutil.copy(foreign / "checkpoint-5/model.safetensors", tmp_path / "run/checkpoint-20/model.safetensors")
    run(str(tmp_path / "run"), *data, *SMALL)
    assert draws == ["checkpoint-20"]


def test_a_checkpoint_without_its_processor(foreign: Path, tmp_path: Path) -> None:
    shutil.copytree(foreign, tmp_path / "run")
    (tmp_path / "run/checkpoint-20/processor_config.json").unlink()
    with pytest.raises(UserError, match=r"checkpoint-20 has no processor .*1 of 3 checkpoints.*save_pretrained"):
        run(str(tmp_path / "run"), "--data", str(foreign / "held_out.parquet"))


def test_a_foreign_run_needs_data(foreign: Path) -> None:
    with pytest.raises(UserError, match="--data is needed"):
        run(str(foreign))


def test_a_run_of_ours_knows_its_reward_and_its_domain(tmp_path: Path) -> None:
    table = {
        "name": "kept",
        "stage": "grpo",
        "model": "nano",
        "out": str(tmp_path / "run"),
        "data": {"train": "world:math", "train_size": 6},
        "rollout": {"prompts_per_step": 3, "group_size": 3, "max_new_tokens": 6},
        "algorithm": {"steps": 3},
        "optim": {"lr": 1e-3},
        "checkpoint": {"every": 1, "keep": 100},
        "reward": {"function": "helpers.nano:likes_e"},
        "blindness": {"every": 0},
        "log": {"tensorboard": False, "critical_words": ["answer", "red"]},
    }
    train_stage(make_recipe(table))
    run(str(tmp_path / "run"), *SMALL[:-2], "--data", "world:math,dice", "--by", "reward",
        "--export", str(tmp_path / "chosen"))  # fmt: skip
    found = json.loads((tmp_path / "run/select.json").read_text())
    assert found["words"] == ["answer", "red"]
    assert found["in_domain"] == ["math"]
    names = [f"checkpoints/step_{step:06d}" for step in (1, 2, 3)]
    assert list(found["criteria"]["reward"]["values"]) == names
    assert "select" not in (tmp_path / "chosen/README.md").read_text()
    assert load_model(str(tmp_path / "chosen"))
