"""Item 41: secrets of the environment and of addresses are in no log, recipe, checkpoint, report or traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import forked
from helpers.scripted_openai import ScriptedOpenAI, sends
from helpers.verifying import hurry  # noqa: F401
from seethink.core.png import png_bytes
from seethink.report import write_report
from seethink.world.make import world_samples

SECRETS = {
    "JUDGE_KEY": "judge-1f4d8e2b77c05a93",
    "HF_TOKEN": "hf_AbCdEfGhIjKlMnOpQrStUvWx",
    "WANDB_API_KEY": "wandb-90aa51c2b3d4e5f6",
    "AWS_SECRET_ACCESS_KEY": "aws/Zz81+kQ0pLmNoP",
}
PASSWORD = "hunter2-in-an-address"
RUN = """
import sys
from pathlib import Path
from seethink.config import load_recipe
from seethink.train.start import train
from seethink.train.hooks.checkpoints import Checkpoints

save = Checkpoints.save
def save_and_fail(self, *args, **kwargs):
    save(self, *args, **kwargs)
    if self.saved == 2:
        raise RuntimeError("made to fail in step 2")

Checkpoints.save = save_and_fail
train(load_recipe(Path(sys.argv[1])))
"""


def write_recipe(folder: Path, base_url: str) -> Path:
    samples = [s for s in world_samples("world:math", "train", 40, 0) if not s.choices][:8]
    rows = []
    for sample in samples:
        (folder / f"{sample.id}.png").write_bytes(png_bytes(sample.images[0]))
        rows.append({"prompt": sample.question, "images": [f"{sample.id}.png"], "answer": "a thing unknown"})
    rows.append({"prompt": "?", "images": [f"https://me:{PASSWORD}@example.com/a.png"], "answer": "1"})
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    keys = {
        "name": "secret", "stage": "grpo", "model": "nano", "out": str(folder / "run"), "algorithm.steps": 3,
        "data.train": str(folder / "data.jsonl"), "data.max_bad_share": 0.5, "blindness.every": 0,
        "rollout.prompts_per_step": 2, "rollout.group_size": 4, "rollout.max_new_tokens": 8, "checkpoint.every": 1,
        "log.rollouts_every": 1, "reward.verifier.base_url": base_url, "reward.verifier.model": "judge",
        "reward.verifier.api_key_env": "JUDGE_KEY", "reward.verifier.on_down": "rule_only",
        "reward.verifier.canary_every": 0,
    }  # fmt: skip
    path = folder / "recipe.toml"
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items()))
    return path


def train(script: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | SECRETS | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, *script]
    return forked.run(command, cwd=folder, env=environment)


@pytest.mark.slow
@pytest.mark.usefixtures("hurry")
def test_41_no_secret_is_left_behind_by_a_run_that_fails(tmp_path: Path) -> None:
    with ScriptedOpenAI(lambda ask: sends(500, f"who is {ask.headers.get('authorization')}?")) as server:
        recipe = write_recipe(tmp_path, server.base_url)
        ended = train(["-c", RUN, str(recipe)], tmp_path)
        assert "made to fail in step 2" in ended.stderr, ended.stderr
        assert "Traceback" in ended.stderr
        assert any(SECRETS["JUDGE_KEY"] in ask.headers["authorization"] for ask in server.asks)
    run = tmp_path / "run"
    write_report(run)
    files = [path for path in run.rglob("*") if path.is_file()]
    assert {"quarantine.jsonl", "recipe.json", "metrics.jsonl", "report.html", "state.json"} <= {f.name for f in files}
    told = {"stdout": ended.stdout.encode(), "stderr": ended.stderr.encode()}
    told |= {str(path.relative_to(run)): path.read_bytes() for path in files}
    for name, secret in [*SECRETS.items(), ("an address", PASSWORD)]:
        assert not [place for place, content in told.items() if secret.encode() in content], name


@pytest.mark.parametrize(
    "words",
    [
        ["train", "r.toml", "--dry-run"],
        ["verifier", "check", "cases.jsonl", "--model", "x", "--base-url", f"http://me:{PASSWORD}@127.0.0.1:9/v1"],
    ],
)
def test_41_an_address_with_a_password_is_refused_and_not_repeated(words: list[str], tmp_path: Path) -> None:
    verifier = f'base_url = "http://me:{PASSWORD}@127.0.0.1:9/v1"\nmodel = "x"\n'
    head = 'name = "a"\nstage = "grpo"\nout = "o"\n[data]\ntrain = "d"\n[reward.verifier]\n'
    (tmp_path / "r.toml").write_text(head + verifier)
    (tmp_path / "cases.jsonl").write_text("")
    ended = train(["-m", "seethink.cli.main", *words], tmp_path)
    assert ended.returncode == 2
    assert "base_url" in ended.stderr
    assert PASSWORD not in ended.stdout + ended.stderr
