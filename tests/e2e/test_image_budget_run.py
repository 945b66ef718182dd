"""A run whose images have more tiles, or fewer pixels, than its model's own processor gives: from training to eval."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from helpers.command_line import run_command
from helpers.families import picture, save_family
from seethink.config import make_recipe
from seethink.core.errors import UserError
from seethink.core.types import Sample
from seethink.models import vision_cache
from seethink.models.forward import image_token_id
from seethink.models.load import load_model
from seethink.train.hooks.checkpoints import Checkpoints
from seethink.train.start import train

pytestmark = pytest.mark.slow
SIZE = (240, 120)
LIMITS = {"internvl": ("data.image_tiles=8", 36, 12), "qwen2_5_vl": ("data.image_max_pixels=3000", 10, 18)}
"""Family -> (key, image tokens of a picture under it, and by the checkpoint's own processor)."""


@pytest.fixture(params=LIMITS)
def home(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str, int, int]:
    save_family(request.param, tmp_path / "model")
    rows = []
    for i in range(6):
        picture(i, SIZE).save(tmp_path / f"{i}.png")
        rows.append(json.dumps({"prompt": "what is the sum?", "images": [f"{i}.png"], "answer": str(i)}))
    (tmp_path / "train.jsonl").write_text("\n".join(rows))
    return (tmp_path, *LIMITS[request.param])


def run(home: Path, name: str, *words: str, resume: bool = False) -> Path:
    table: dict[str, Any] = {
        "name": name,
        "stage": "grpo",
        "model": str(home / "model"),
        "out": str(home / name),
        "data": {"train": str(home / "train.jsonl"), "val_size": 2},
        "parts": {"train": ["connector"]},
        "reward": {"function": "helpers.nano:likes_e"},
        "algorithm": {"steps": 2},
        "rollout": {"prompts_per_step": 2, "group_size": 4, "max_new_tokens": 8},
        "checkpoint": {"every": 1, "keep": 9},
        "blindness": {"every": 0},
        "log": {"tensorboard": False},
    }
    return train(make_recipe(table, list(words)), resume=resume)


def weights(home: Path, name: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(
        sorted((home / name / "checkpoints").iterdir())[-1] / "model.safetensors"
    )
    return found


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[key], other[key]) for key in one)


def test_a_run_trains_resumes_and_hands_its_images_on(
    home: tuple[Path, str, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, word, count, usual = home
    monkeypatch.setattr(vision_cache, "LEAST_WORK", 0)
    last = run(folder, "run", word)
    steps = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    assert all(step["mismatch_kl/max"] < 1e-6 for step in steps), "decoder and trainer see the same image"
    if "tiles" in word:  # the connector of Qwen-VL lies inside the encoder, whose features are not kept
        run(folder, "uncached", word, "parts.vision_cache_mb=0")
        assert same(weights(folder, "run"), weights(folder, "uncached"))
    _stopped_and_resumed(folder, word, monkeypatch)
    assert same(weights(folder, "run"), weights(folder, "again"))

    sample = Sample("s", "what is the sum?", (picture(0, SIZE),))
    for source, expected in ((last, count), (folder / "model", usual)):
        loaded = load_model(str(source))
        assert loaded.chat.prompt(sample).input_ids.count(image_token_id(loaded.model.config)) == expected
    done = run_command(
        "eval", str(folder / "model"), "--data", str(folder / "train.jsonl"), "--samples", "0", "--max-new-tokens", "4",
        "--out", "scores", word, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def _stopped_and_resumed(folder: Path, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after step 1; another value of the key is refused, and the same goes on."""
    save = Checkpoints.save

    def stop(self: Checkpoints, *args: Any, **kwargs: Any) -> None:
        save(self, *args, **kwargs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            run(folder, "again", word)
    with pytest.raises(UserError, match=word.partition("=")[0]):
        run(folder, "again", resume=True)
    run(folder, "again", word, resume=True)
