"""Training runs: killed and resumed they end where an uninterrupted one ends, to the last bit."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from helpers import forked
from helpers.killed import KILLED
from helpers.plain_transformers import PlainTransformers
from seethink.config import Recipe, make_recipe
from seethink.models.load import NANO
from seethink.runs.folder import RunFolderError
from seethink.train.start import train as train_stage

UNTIMED = ("time/", "throughput/")
STEPS = 4
RL: dict[str, Any] = {
    "data": {"train": "world:math", "train_size": 9},
    "optim": {"lr": 1e-3, "warmup_ratio": 0.3, "schedule": "cosine"},
    "rollout": {"prompts_per_step": 3, "group_size": 4, "max_new_tokens": 16},
    "algorithm": {"steps": STEPS},
}
STAGES: dict[str, dict[str, Any]] = {
    "sft": {
        "data": {"train": "world:math:traces", "train_size": 24, "val_size": 6},
        "optim": {"lr": 1e-3, "warmup_ratio": 0.3, "schedule": "cosine"},
        "sft": {"epochs": 2, "batch_size": 15, "val_every": 1},
    },
    "grpo": RL,
    "ppo": RL,
}


def recipe(stage: str, out: Path, **sections: Any) -> Recipe:
    table = {"name": f"tiny-{stage}", "stage": stage, "out": str(out), "model": "nano"} | STAGES[stage]
    table |= {"checkpoint": {"every": 2, "keep": 5}, "log": {"tensorboard": False}}
    return make_recipe(table | sections)


def records(out: Path) -> list[dict[str, Any]]:
    """The metrics of a run less its clock."""
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith(UNTIMED)} for line in lines]


def toml(resolved: Recipe) -> str:
    """A recipe as a file; the tables here are plain enough for JSON's values."""
    table = resolved.model_dump(mode="json", exclude_unset=True)
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, dict)]
    for name, section in table.items():
        if isinstance(section, dict):
            lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in section.items())]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder of an uninterrupted run of a stage."""

    @cache
    def run(stage: str) -> Path:
        out = tmp_path_factory.mktemp(stage) / "whole"
        train_stage(recipe(stage, out))
        return out

    return run


def kill_in_step_3(given: Recipe) -> None:
    """Run it in a process that is killed between step 3's record and its checkpoint; that of step 2 is the newest."""
    out = Path(given.out)
    file = out.with_suffix(".toml")
    file.write_text(toml(given))
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, str(file)]
    killed = forked.run(command, timeout=300, env=env)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [r["step"] for r in records(out)] == [1, 2, 3]
    assert [p.name for p in sorted((out / "checkpoints").glob("step_*"))] == ["step_000002"]


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_killed_and_resumed_is_as_if_never_killed(stage: str, whole: Any, tmp_path: Path) -> None:
    out = tmp_path / "run"
    given = recipe(stage, out)
    kill_in_step_3(given)
    with pytest.raises(RunFolderError, match="add --resume"):
        train_stage(given)
    last = train_stage(given, resume=True)

    reference = whole(stage)
    assert records(out) == records(reference)
    assert len(records(out)) == STEPS
    ours, theirs = (folder / "checkpoints" / f"step_{STEPS:06d}" for folder in (out, reference))
    assert (ours / "model.safetensors").read_bytes() == (theirs / "model.safetensors").read_bytes()
    for name in ("tensors.safetensors", "state.json"):
        assert (ours / "train_state" / name).read_bytes() == (theirs / "train_state" / name).read_bytes()
    for name in ("done.json", "parts.json"):
        assert (out / name).read_text() == (reference / name).read_text()
    assert train_stage(given, resume=True) == last, "a finished run is left as it is"


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run_and_another_does_not(whole: Any, tmp_path: Path) -> None:
    train_stage(recipe("grpo", tmp_path / "again"))
    assert records(tmp_path / "again") == records(whole("grpo"))
    train_stage(recipe("grpo", tmp_path / "other", seed=1))
    assert records(tmp_path / "other") != records(whole("grpo"))


@pytest.mark.parametrize("stage", ["sft", "grpo", pytest.param("ppo", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_the_runs_compared_above_do_learn(stage: str, whole: Any) -> None:
    """Equal metrics would mean little if nothing moved."""
    out = whole(stage)
    norms = [r["optim/grad_norm"] for r in records(out)]
    assert any(norm > 0 for norm in norms)
    start, end = (load_file(f / "model.safetensors") for f in (NANO, out / "checkpoints" / f"step_{STEPS:06d}"))
    moved = {name for name in end if not torch.equal(start[name].float(), end[name].float())}
    assert {"vision_tower", "multi_modal_projector", "language_model"} <= {p for name in moved for p in name.split(".")}


GRPO_KEYS = {
    "step", "loss/total", "loss/policy", "reward/mean", "reward/std", "reward/accuracy", "reward/format",
    "reward/uncertain",
    "reward/masked", "advantage/std", "advantage/max", "advantage/zero_variance_share", "entropy/mean",
    "entropy/critical_count", "response/length_mean", "response/length_max", "response/truncated_share",
    "optim/grad_norm", "optim/grad_norm_vision", "optim/grad_norm_connector", "optim/grad_norm_language",
    "mismatch_kl/mean", "mismatch_kl/max", "loss/clip_fraction",
}  # fmt: skip


def test_metrics_of_a_grpo_step(whole: Any) -> None:
    out = whole("grpo")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    missing = GRPO_KEYS - set(lines[0])
    assert not missing, sorted(lines[0])
    assert {"time/step_s", "time/rollout_s", "time/train_s", "throughput/generated_tokens_per_s"} <= set(lines[0])
    for line in lines:
        assert line["mismatch_kl/max"] < 1e-4, "decoder and trainer give the same log-probabilities"
        assert line["response/length_max"] <= 16
        assert line["reward/mean"] == pytest.approx(0.8 * line["reward/accuracy"] + 0.2 * line["reward/format"])
    assert {"parts/change_vision", "parts/change_connector", "parts/change_language"} <= set(lines[1])


@pytest.mark.slow
def test_a_checkpoint_is_plain_transformers(whole: Any, plain_transformers: PlainTransformers, tmp_path: Path) -> None:
    """In a process that never imports seethink, but for torchvision where its operators are missing."""
    Image.new("RGB", (56, 56)).save(tmp_path / "black.png")
    found = plain_transformers.load(whole("grpo") / "checkpoints" / f"step_{STEPS:06d}", tmp_path / "black.png")
    assert found.model_class == "InternVLForConditionalGeneration"
    assert 1 <= found.returned_tokens - found.prompt_tokens <= 4


@pytest.mark.slow
def test_connector_tuning_leaves_the_other_parts_to_the_last_bit(tmp_path: Path) -> None:
    out = tmp_path / "run"
    train_stage(recipe("sft", out, parts={"train": ["connector"]}))
    start = load_file(NANO / "model.safetensors")
    end = load_file(out / "checkpoints" / f"step_{STEPS:06d}" / "model.safetensors")
    moved = {name for name in end if not torch.equal(start[name].float(), end[name])}
    assert moved
    assert all("multi_modal_projector" in name for name in moved)
    parts = json.loads((out / "parts.json").read_text())
    assert {row["part"]: row["trainable"] for row in parts["parts"]} == {
        "vision": False, "connector": True, "language": False,
    }  # fmt: skip
    proofs = [
        {part: row[f"parts/change_{part}"] for part in parts["change"]}
        for row in records(out)
        if "parts/change_vision" in row
    ]
    assert parts["change"] == pytest.approx(proofs[-1])
    assert all(change["vision"] == change["language"] == 0.0 < change["connector"] for change in proofs)
    assert "optim/grad_norm_vision" not in records(out)[0]


RUINOUS = {
    "sft": {"epochs": 10, "batch_size": 10, "val_every": 1, "patience": 2},
    "optim": {"lr": 0.3},
}


@pytest.mark.slow
def test_early_stopping_keeps_the_best(tmp_path: Path) -> None:
    """A rate that ruins the model: validation gets worse, the run stops, and `best` is what was best."""
    out = tmp_path / "run"
    best = train_stage(recipe("sft", out, **RUINOUS))
    losses = [r["loss/val"] for r in records(out)]
    stopped = json.loads((out / "done.json").read_text())
    assert best == out / "best"
    assert stopped["step"] == len(losses) < 20
    assert stopped["best_val"] == pytest.approx(min(losses))
    assert losses.index(min(losses)) + 1 == stopped["best_step"] == len(losses) - 2
    assert json.loads((best / "seethink.json").read_text())["step"] == stopped["best_step"]

    again = recipe("sft", tmp_path / "killed", **RUINOUS)
    kill_in_step_3(again)
    train_stage(again, resume=True)
    assert records(tmp_path / "killed") == records(out), "what was waited for before the kill counts after it"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "sections"),
    [
        ("grpo", {"algorithm": {"steps": 2, "epochs": 2, "minibatches": 2, "kl_beta": 0.1, "aggregation": "token"}}),
        ("grpo", {"algorithm": {"steps": 2, "aggregation": "dr_grpo", "normalize_std": False, "clip_high": 0.28}}),
        ("grpo", {"algorithm": {"steps": 2, "dynamic_sampling": True, "max_resamples": 2}}),
        ("grpo", {"algorithm": {"steps": 9, "samples": 5 * 4}}),
        (
            "grpo",
            {
                "algorithm": {"steps": 2, "curriculum": [[0.0, ["easy"]], [0.5, ["hard"]]]},
                "rollout": {
                    "prompts_per_step": 2,
                    "group_size": 3,
                    "max_new_tokens": 8,
                    "length_schedule": [[0.5, 12]],
                },
            },
        ),
        ("ppo", {"algorithm": {"steps": 2, "epochs": 2}, "ppo": {"gae_lambda": 0.9}}),
        ("grpo", {"dtype": "bfloat16", "algorithm": {"steps": 2}}),
    ],
    ids=["off-policy with KL", "Dr.GRPO", "dynamic sampling", "samples", "curriculum and lengths", "PPO", "bfloat16"],
)
def test_every_switch_runs(stage: str, sections: dict[str, Any], tmp_path: Path) -> None:
    train_stage(recipe(stage, tmp_path / "run", **sections))
    lines = records(tmp_path / "run")
    assert len(lines) == 2
    assert all(math.isfinite(line["loss/total"]) and math.isfinite(line["optim/grad_norm"]) for line in lines)
    if "samples" in sections["algorithm"]:  # 3 prompts of 4 completions, and the 2 prompts that are left
        assert [line["rollout/samples"] for line in lines] == [12, 20]
        assert json.loads((tmp_path / "run" / "done.json").read_text())["step"] == 2
    if "kl_beta" in sections["algorithm"]:
        assert lines[1]["loss/kl"] > 0
    if "curriculum" in sections["algorithm"]:
        stored = [(tmp_path / "run" / "rollouts" / f"step_{1:06d}.jsonl").read_text()]
        assert {json.loads(line)["difficulty"] for text in stored for line in text.splitlines()} == {"easy"}
        assert lines[0]["response/length_max"] <= 8
        assert lines[1]["response/length_max"] <= 12
