"""`seethink export`: what a run ends with becomes a folder for others, with a card that says how it was made."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from helpers.command_line import run_command
from helpers.families import save_family
from helpers.scripted_openai import sends
from seethink.cli.main import app
from seethink.config import make_recipe
from seethink.export import ExportError, export_run
from seethink.models.load import load_model
from seethink.train.start import train as train_stage
from seethink.world.make import world_samples, write_parquet

OTHERS = ("instructblip", "qwen2_5_vl")


def trained(folder: Path, model: str, **sections: object) -> Path:
    table = {
        "name": "exported",
        "stage": "grpo",
        "model": model,
        "out": str(folder / "run"),
        "data": {"train": "world:math", "train_size": 6},
        "rollout": {"prompts_per_step": 3, "group_size": 3, "max_new_tokens": 6},
        "algorithm": {"steps": 1},
        "optim": {"lr": 1e-3},
        "reward": {"function": "helpers.nano:likes_e"},
        "blindness": {"every": 0},
        "log": {"tensorboard": False},
    }
    train_stage(make_recipe(table | sections))
    return folder / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the nano model, to be copied before it is changed."""
    return trained(tmp_path_factory.mktemp("trained"), "nano")


def test_the_export_is_the_checkpoint_with_a_card(run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(run, tmp_path / "run")
    score = {"domain": "math", "difficulty": "all", "mode": "greedy", "n": 6, "accuracy": 0.5, "stderr": 0.2}
    (run / "eval.json").write_text(json.dumps({"scores": [score]}))
    (run / "quarantine.jsonl").write_text('{"reason": "image_unreadable"}\n{"reason": "image_unreadable"}\n')
    result = CliRunner().invoke(app, ["export", str(run), "--out", str(tmp_path / "out"), "--dtype", "float32"])
    assert result.exit_code == 0, result.output
    last = load_file(run / "checkpoints/step_000001/model.safetensors")
    assert all(
        torch.equal(tensor, last[name]) for name, tensor in load_file(tmp_path / "out/model.safetensors").items()
    )
    assert not (tmp_path / "out" / "train_state").exists()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| math | greedy | 50.0 ± 20.0 | 6 |" in card
    assert "Quarantined as image_unreadable: 2." in card
    assert "| connector | 83,200 | yes | 1.0e-03 |" in card
    recipe = tomllib.loads(card.split("```toml\n")[1].split("```")[0])
    assert recipe["algorithm"]["steps"] == 1
    assert str(tmp_path) not in card


@pytest.mark.slow
def test_the_snippet_of_the_card_runs_as_it_stands(run: Path, tmp_path: Path) -> None:
    """In a fresh interpreter, with its first line where that is needed, as the card says."""
    export_run(run, tmp_path / "out")
    code = (tmp_path / "out" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    code = code.removeprefix("# ") + "\nprint(model.num_parameters(), type(processor).__name__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1] == "InternVLProcessor"


def test_half_precision_is_what_the_config_says(run: Path, tmp_path: Path) -> None:
    export_run(run, tmp_path / "out")
    assert {t.dtype for t in load_file(tmp_path / "out/model.safetensors").values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "out/config.json").read_text())["dtype"] == "bfloat16"
    assert load_model(str(tmp_path / "out")).model.num_parameters() == load_model("nano").model.num_parameters()


@pytest.mark.parametrize("family", ["blip-2", *(pytest.param(f, marks=pytest.mark.slow) for f in OTHERS)])
def test_chat_templates_survive(tmp_path: Path, family: str) -> None:
    """The Q-Formers' processors drop theirs; the export must still talk."""
    model = save_family(family, tmp_path / "model")
    write_parquet(world_samples("world:math", "train", 6, 0), tmp_path / "data.parquet")
    run = trained(tmp_path, str(model), data={"train": str(tmp_path / "data.parquet")})
    out = export_run(run, tmp_path / "out", dtype="float32")
    before, after = load_model(str(model)).chat, load_model(str(out)).chat
    sample = world_samples("world:math", "test", 1, 0)[0]
    assert before.prompt(sample).input_ids == after.prompt(sample).input_ids


def test_what_cannot_be_exported_says_why(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no run folder"):
        export_run(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "run").mkdir()
    with pytest.raises(ExportError, match="has not finished"):
        export_run(tmp_path / "run", tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "config.json").write_text("{}")
    with pytest.raises(ExportError, match="not empty"):
        export_run(tmp_path / "run", tmp_path / "out", checkpoint=tmp_path / "checkpoint")
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"


def test_a_card_shows_no_secret_and_no_markup(run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(run, tmp_path / "run")
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["data"]["train"] = "https://me:hunter2pass@example.org/x```\n# Not a heading"
    recipe["reward"]["verifier"] = {"base_url": "http://127.0.0.1/v1", "api_key": "sk-abcdefghijklmnop"}
    (run / "recipe.json").write_text(json.dumps(recipe))
    export_run(run, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "hunter2pass" not in card
    assert "sk-abcdef" not in card
    assert card.count("```") == 4
    assert "\n# Not a heading" not in card


class Hub(BaseHTTPRequestHandler):
    """A hub on loopback that takes one commit, of files within the request."""

    asked: ClassVar[dict[str, Any]] = {}
    full = False

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        path, home = self.path.partition("?")[0], f"http://{self.headers['host']}/me/mine"
        assert self.headers["authorization"] == "Bearer hf_test"
        self.asked[path] = text
        if path.endswith("/preupload/main"):
            how = {"uploadMode": "regular", "shouldIgnore": False}
            self._say({"files": [{"path": file["path"], **how} for file in json.loads(text)["files"]]})
        elif "/commit/" in path and self.full:
            self._say({"error": "the disk of the hub is full"}, 507)
        elif "/commit/" in path:
            self._say({"commitUrl": f"{home}/commit/1", "commitOid": "1", "success": True})
        else:
            self._say({"url": home, "errors": [], "warnings": []})

    def _say(self, answer: dict[str, Any], status: int = 200) -> None:
        sends(status, json.dumps(answer), {"Content-Type": "application/json"})(self)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        monkeypatch.setattr(Hub, "asked", {})
        yield Hub
        server.shutdown()


def test_a_push_is_one_commit_of_the_folder(run: Path, tmp_path: Path, hub: type[Hub]) -> None:
    done = run_command("export", str(run), "--out", str(tmp_path / "out"), "--push", "me/mine")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^pushed: http://[\d.:]+/me/mine/commit/1$", done.stdout, re.MULTILINE)
    assert json.loads(hub.asked["/api/repos/create"])["visibility"] == "private"
    lines = map(json.loads, hub.asked["/api/models/me/mine/commit/main"].splitlines())
    sent = {line["value"]["path"]: line["value"]["content"] for line in lines if line["key"] == "file"}
    assert sent.keys() == {path.name for path in (tmp_path / "out").iterdir()}
    assert all(base64.b64decode(text) == (tmp_path / "out" / name).read_bytes() for name, text in sent.items())


def test_a_push_that_fails_keeps_the_folder(
    run: Path, tmp_path: Path, hub: type[Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "full", True)
    done = run_command("export", str(run), "--out", str(tmp_path / "out"), "--push", "me/mine", "--public")
    assert done.returncode == 2
    assert "507" in done.stderr
    assert f"`hf upload me/mine {tmp_path / 'out'}` tries again" in " ".join(done.stderr.split())
    assert "hf_test" not in done.stderr
    assert json.loads(hub.asked["/api/repos/create"])["visibility"] == "public"
    load_model(str(tmp_path / "out"))


def test_a_push_that_cannot_work_is_refused_before_the_export(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["export", str(run), "--out", str(tmp_path / "out")]
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    for more, said in (
        (["--push", "mine"], "expected OWNER/NAME"),
        (["--push", "me/mi ne"], "expected OWNER/NAME"),
        (["--push", "me/mine"], "HF_HUB_OFFLINE is set"),
        (["--public"], "is about --push"),
    ):
        done = run_command(*words, *more)
        assert done.returncode == 2
        assert said in done.stderr
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert "set HF_TOKEN" in run_command(*words, "--push", "me/mine").stderr
    assert not (tmp_path / "out").exists()
