"""A weighted mixture of a streamed source and others on two ranks: the prompts of one process, also after a resume."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from helpers.nano import picture, save_nano
from helpers.ranks import on_ranks
from helpers.same_run import assert_same_run
from seethink.config import Recipe, make_recipe
from seethink.data.image_store import Member
from seethink.dist.world import rank
from seethink.train.start import train

STEPS = 4


def add(shard: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    shard.addfile(entry, io.BytesIO(content))


def write_shards(folder: Path) -> None:
    """Two WebDataset shards of six rows each, whose pictures stay in the tars."""
    folder.mkdir()
    for number in range(2):
        with tarfile.open(folder / f"train-{number}.tar", "w") as shard:
            for i in range(6 * number, 6 * number + 6):
                drawn = io.BytesIO()
                picture(i).save(drawn, format="PNG")
                row = {"prompt": f"what is in {i}", "answer": str(i), "domain": "tars"}
                add(shard, f"{i:04d}.json", json.dumps(row).encode())
                add(shard, f"{i:04d}.png", drawn.getvalue())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    save_nano(folder / "model")
    write_shards(folder / "shards")
    return folder


def recipe(home: Path, name: str) -> Recipe:
    mixture: list[dict[str, Any]] = [
        {"source": str(home / "shards" / "train-{0..1}.tar"), "name": "tars", "weight": 3.0},
        {"source": "world:math", "size": 8, "weight": 1.0},
        {"source": "world:dice", "size": 5, "weight": 0.5},
    ]
    return make_recipe(
        {
            "name": name,
            "stage": "grpo",
            "model": str(home / "model"),
            "out": str(home / name),
            "data": {"mixture": mixture, "domain_weights": {"math": 2.0}, "memory_mb": 16},
            "rollout": {"prompts_per_step": 5, "group_size": 2, "max_new_tokens": 4},
            "algorithm": {"steps": STEPS, "dynamic_sampling": True, "max_resamples": 1},
            "optim": {"lr": 1e-4},
            "reward": {"function": "helpers.nano:likes_e"},
            "checkpoint": {"every": 2, "keep": 9},
            "blindness": {"every": 0},
            "log": {"tensorboard": False, "rollouts_every": 1, "rollouts_kept": 5},
        }
    )


def prompts(run: Path) -> list[list[str]]:
    """The ids of every step's groups, in their order."""
    files = sorted((run / "rollouts").glob("step_*.jsonl"))
    return [[json.loads(line)["id"] for line in file.read_text().splitlines()] for file in files]


def train_and_count(made: Recipe, resume: bool, seen: Path) -> None:
    """Train, and write how many pictures this rank read from the tars while it trained."""
    read: list[str] = []
    real = Member.read

    def counting(self: Member) -> bytes:
        read.append(self.name)
        return real(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Member, "read", counting)
        train(made, resume=resume)
    seen.with_suffix(f".{rank()}").write_text(str(len(read)))


@pytest.mark.slow
def test_two_ranks_draw_as_one_and_go_on_as_one(home: Path) -> None:
    train(recipe(home, "one"))
    on_ranks(2, train_and_count, home, recipe(home, "two"), False, home / "read")
    one = prompts(home / "one")
    assert len(one) == STEPS
    assert {name.partition("/")[0] for step in one for name in step} == {"tars", "math", "dice"}
    assert prompts(home / "two") == one
    assert_same_run(home / "two", home / "one")
    assert all(int((home / f"read.{number}").read_text()) > 0 for number in range(2))
    # Stopped after step 2, and resumed on two ranks: the same prompts, and on one process again.
    for name in ("two", "one"):
        (home / name / "done.json").unlink()
        shutil.rmtree(home / name / "checkpoints" / f"step_{STEPS:06d}")
    on_ranks(2, train_and_count, home / "shards", recipe(home, "two"), True, home / "again")  # another rendezvous
    assert prompts(home / "two") == one
    assert_same_run(home / "two", home / "one")
    shutil.move(home / "one" / "checkpoints", home / "kept")
    shutil.copytree(home / "two" / "checkpoints", home / "one" / "checkpoints")
    shutil.rmtree(home / "one" / "checkpoints" / f"step_{STEPS:06d}")
    train(recipe(home, "one"), resume=True)
    assert prompts(home / "one") == one
    assert_same_run(home / "one", home / "two")
