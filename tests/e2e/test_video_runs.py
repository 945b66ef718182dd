"""Runs on rows with videos: SFT, GRPO, a resume, evaluation and the doctor; what is refused names its row."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from helpers.command_line import run_command
from helpers.doctoring import one
from helpers.families import picture, save_family
from helpers.videos import write_video
from seethink.coldstart.questions import prepare_questions
from seethink.config import ReadConfig, make_recipe
from seethink.core.errors import UserError
from seethink.data.quarantine import DataError
from seethink.doctor.check import Report, Status
from seethink.doctor.run import diagnose
from seethink.models.load import load_model
from seethink.rewards.golds import read_gold
from seethink.train.hooks.checkpoints import Checkpoints
from seethink.train.start import train

FRAMES = 6


def rows(folder: Path, *, files: bool = False) -> list[dict[str, Any]]:
    """Rows with a folder of frames, an image and a video, an image, and none; with `files`, an mp4 too."""
    made: list[dict[str, Any]] = []
    for i in range(12):
        clip = folder / f"clip{i}"
        clip.mkdir()
        for k in range(FRAMES):
            picture(100 * i + k, (40, 30)).save(clip / f"{k}.png")
        picture(10 * i, (80, 30)).save(folder / f"{i}.png")
        media = [
            {"videos": [clip.name]},
            {"videos": [{"path": clip.name, "fps": 4}], "image": f"{i}.png", "prompt": "is <image> in <video> or not"},
            {"image": f"{i}.png"},
            {},
        ][i % 4]
        made.append({"prompt": "what is the sum", "answer": str(i), "response": f"<think>so</think>{i}", **media})
    if files:
        write_video(folder / "a.mp4", 12)
        made[0]["videos"] = ["a.mp4"]
    return made


def write(folder: Path, lines: list[dict[str, Any]], name: str = "train.jsonl") -> Path:
    (folder / name).write_text("\n".join(map(json.dumps, lines)))
    return folder / name


@pytest.fixture(scope="module", params=["internvl", "qwen2_5_vl"])
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    save_family(request.param, folder / "model")
    write(folder, rows(folder))
    return folder


def table(home: Path, name: str, stage: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": name,
        "stage": stage,
        "model": str(home / "model"),
        "out": str(home / name),
        "data": {"train": str(home / "train.jsonl"), "val_size": 4, "video_frames": 4},
        "optim": {"lr": 1e-3},
        "reward": {"function": "helpers.nano:always_correct" if stage == "sft" else "helpers.nano:likes_e"},
        "checkpoint": {"every": 1, "keep": 9},
        "blindness": {"every": 0},
        "log": {"tensorboard": False},
    }
    if stage == "sft":
        made["sft"] = {"epochs": 1, "batch_size": 4, "val_every": 1}
    else:
        made["algorithm"] = {"steps": 2}
        made["rollout"] = {"prompts_per_step": 4, "group_size": 3, "max_new_tokens": 8}
    return made


def run(home: Path, name: str, stage: str, *words: str, resume: bool = False) -> Path:
    return train(make_recipe(table(home, name, stage), list(words)), resume=resume)


def metrics(home: Path, name: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (home / name / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_sft(home: Path) -> None:
    run(home, "sft", "sft")
    steps = metrics(home, "sft")
    assert all(math.isfinite(s["loss/total"]) and math.isfinite(s["loss/val"]) for s in steps)
    assert all(steps[0][f"optim/grad_norm_{part}"] > 0 for part in ("vision", "connector", "language"))


@pytest.mark.slow
def test_grpo_is_on_policy_resumes_and_is_evaluated(home: Path) -> None:
    """With the KL to grey videos, and frames in the report's rollouts."""
    words = ("algorithm.token_share=0.5", "algorithm.token_measure=image", "log.rollouts_every=1")
    last = run(home, "grpo", "grpo", *words)
    steps = metrics(home, "grpo")
    assert all(step["mismatch_kl/max"] < 1e-6 for step in steps)
    assert steps[0]["optim/grad_norm_vision"] > 0
    stored = [json.loads(line) for file in (home / "grpo/rollouts").iterdir() for line in file.read_text().splitlines()]
    assert {len(group["images"]) for group in stored} >= {4}
    _resumes(home, *words)
    write(home, [row for row in rows_of(home) if row.get("videos")], "clips.jsonl")
    done = run_command("eval", str(last), "--data", str(home / "clips.jsonl"), "--samples", "0", "--max-new-tokens",
                       "4", "--out", "scores", "data.video_frames=4", cwd=home)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((home / "scores/eval.json").read_text())["scores"][0]["n"] == 6


def rows_of(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home / "train.jsonl").read_text().splitlines()]


def _resumes(home: Path, *words: str) -> None:
    """Stopped after step 1 and resumed, the run ends with the same weights; with other frames it is refused."""
    save = Checkpoints.save

    def stop(self: Checkpoints, *args: Any, **kwargs: Any) -> None:
        save(self, *args, **kwargs)
        if self.saved == 1:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            run(home, "again", "grpo", *words)
    with pytest.raises(UserError, match=r"data.video_frames"):
        run(home, "again", "grpo", *words, "data.video_frames=3", resume=True)
    run(home, "again", "grpo", *words, resume=True)
    ends = [
        load_file(sorted((home / n / "checkpoints").iterdir())[-1] / "model.safetensors") for n in ("grpo", "again")
    ]
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


@pytest.mark.slow
def test_the_guard_compares_with_grey_videos(home: Path) -> None:
    write(home, [row for row in rows_of(home) if row.get("videos")], "clips.jsonl")
    run(home, "guard", "sft", f"data.train={home / 'clips.jsonl'}", "data.val_size=3", "blindness.every=1",
        "blindness.samples=3", "blindness.action=warn")  # fmt: skip
    found = [json.loads(line) for line in (home / "guard/blindness.jsonl").read_text().splitlines()]
    assert found


def examined(home: Path, *words: str, step: bool = False) -> Report:
    made = table(home, "doctor", "grpo")
    recipe = home / "recipe.toml"
    data = {**made.pop("data")}
    lines = [f"{key} = {json.dumps(value)}" for key, value in made.items() if not isinstance(value, dict)]
    for section, values in (("data", data), *((k, v) for k, v in made.items() if isinstance(v, dict))):
        lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    recipe.write_text("\n".join(lines))
    return diagnose(recipe, list(words), data=None, step=step)


@pytest.mark.slow
def test_the_doctor_counts_videos(home: Path) -> None:
    report = examined(home, step=True)
    found = one(report, "data.train", "videos")
    assert (found.status, found.found) == (Status.PASS, "6 videos of 1.5-3 seconds, 4 frames of each")
    lengths = one(report, "data.train", "prompt lengths")
    assert "for images and videos" in lengths.found
    chat = load_model(str(home / "model")).chat
    from seethink.data.dataset import load_samples

    config = ReadConfig(video_frames=4)
    samples = load_samples(str(home / "train.jsonl"), "train", None, 0, golds=read_gold, config=config)
    tokens = sorted(len(chat.prompt(sample).input_ids) for sample in samples)
    assert f"/{tokens[-1]} tokens (least/median/95%/most)" in lengths.found
    assert one(report, "step", "images reach the model").status is Status.PASS
    assert not [check for check in report.checks if check.status is Status.FAIL]
    refused = one(examined(home, "rollout.engine=vllm"), "data.train", "videos")
    assert (refused.status, refused.advice) == (Status.FAIL, "sample in process")


@pytest.mark.slow
def test_vllm_is_refused_before_the_first_step(home: Path) -> None:
    with pytest.raises(DataError, match=r"train.jsonl, row \d+: the row has a video, .* rollout.engine=in_process"):
        run(home, "vllm", "grpo", "rollout.engine=vllm", "vllm.urls=['http://127.0.0.1:9']")


@pytest.mark.slow
def test_a_family_without_videos_names_the_row(tmp_path: Path) -> None:
    save_family("llava", tmp_path / "model")
    write(tmp_path, rows(tmp_path))
    with pytest.raises(DataError, match=r"train.jsonl, row 1: the row has a video, and this model's family takes none"):
        run(tmp_path, "run", "sft")


@pytest.mark.slow
def test_an_mp4_trains(tmp_path: Path) -> None:
    pytest.importorskip("av")
    save_family("qwen2_5_vl", tmp_path / "model")
    write(tmp_path, rows(tmp_path, files=True))
    run(tmp_path, "run", "sft")
    assert all(math.isfinite(step["loss/total"]) for step in metrics(tmp_path, "run"))


def test_teachers_are_not_asked_about_videos(tmp_path: Path) -> None:
    source = write(tmp_path, rows(tmp_path))
    found = prepare_questions(str(source), tmp_path / "out", ReadConfig(), read_gold)
    assert [one.row for one in found.left_out if one.reason == "unsupported_media"] == [1, 2, 5, 6, 9, 10]
