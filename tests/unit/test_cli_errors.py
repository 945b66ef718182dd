"""A user's mistake is one line on stderr and exit code 2: no traceback, no half-made run."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.table import Table

from seethink.cli import main as cli
from seethink.core.console import console

RECIPES = Path(__file__).parents[2] / "recipes"
SFT, GRPO = str(RECIPES / "nano-coldstart.toml"), str(RECIPES / "nano-grpo.toml")
SMALL_GRPO = (GRPO, "out=r", "model=nano", "data.train_size=8")


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must be refused; gives its message."""

    def run(*words: str) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["seethink", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        said = capsys.readouterr()
        assert stop.value.code == 2, said
        assert said.err.startswith("error: "), said.err
        assert said.err.count("\n") == 1, "one line"
        assert "Traceback" not in said.err + said.out
        return said.err.removeprefix("error: ").rstrip()

    return run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "none.toml"], "no recipe at none.toml; see the recipes/ folder"),
        (["train", SFT, "optim.lrr=1"], "unknown key 'optim.lrr'; did you mean 'optim.lr'?"),
        (["train", SFT, "optim.lr=fast"], "optim.lr: Input should be a valid number"),
        (["train", SFT, "seed"], "'seed' is not of the form key=value"),
        (["train", SFT, "--dry-run", "stage=dpo"], "stage: Input should be 'sft', 'grpo' or 'ppo'"),
        (["train", SFT, "out=r", "data.train=none.jsonl"], "no data at 'none.jsonl'"),
        (["train", SFT, "out=r", "data.train=world:maths"], "no domain 'maths'; choose from math"),
        (["train", GRPO, "out=r", "model=nanno"], "no model 'nanno'; give nano, nano-resampler, nano-qwen"),
        (["train", GRPO, "out=r", "model=./none"], "'./none' is not a checkpoint folder (no config.json in it)"),
        (
            ["train", *SMALL_GRPO, "reward.function=nowhere:f"],
            "reward.function='nowhere:f'",
        ),
        (
            ["train", *SMALL_GRPO, "reward.function=json:nothing"],
            "reward.function='json:nothing'",
        ),
        (["eval", "nanno"], "no model 'nanno'"),
        (["eval", "nano", "--data", "none.parquet"], "no data at 'none.parquet'"),
        (["eval", "nano", "--data", "world:nope"], "'world:nope': no domain 'nope'; choose from math"),
        (["eval", "nano", "--data", "world:math?blur=1"], "'world:math?blur=1': no option 'blur'"),
        (["eval", "runs/nope"], "'runs/nope' is not a checkpoint folder (no config.json in it)"),
        (["select", "runs", "--by", "luck"], "there is no such criterion; choose from critical_entropy"),
        (["hallucination", "x", "--base-url", "http://me:secret@host/v1"], "verifier: base_url: base_url must hold no"),
        (["verifier", "check", "x", "--base-url", "host", "--model", "m"], "verifier: base_url: base_url must be an"),
        (["report", "none"], "none"),
        (["world", "make", "x.parquet", "--source", "math"], "'math' is not of the form world:DOMAINS[:traces]"),
        (["world", "make", "x.parquet", "--source", "world:maths"], "no domain 'maths'"),
        (["world", "make", "x.parquet", "--split", "dev"], "splits train, val, test, not 'dev'"),
        (["quickstart", "--out", "q", "sft.epoch=1"], "unknown key 'sft.epoch'; did you mean 'sft.epochs'?"),
    ],
)
def test_mistakes(refused: Callable[..., str], tmp_path: Path, words: list[str], message: str) -> None:
    (tmp_path / "runs").mkdir()
    said = refused(*words)
    assert message in said
    assert "secret" not in said


def test_out_that_cannot_be_a_folder(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "out='file' is a file" in refused("train", SFT, "out=file")
    assert "cannot be made" in refused("train", SFT, "out=file/run")
    assert "/file is a file" in refused("world", "make", "file/x.parquet", "--size", "1")
    assert "/file is a file" in refused("quickstart", "--out", "file/q")


def test_a_folder_with_a_run_in_it(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "metrics.jsonl").write_text("{}\n")
    assert "r already holds a run: add --resume to go on with it" in refused("train", SFT, "out=r")


def test_a_bad_row_is_named(refused: Callable[..., str], tmp_path: Path) -> None:
    rows = [{"prompt": "q", "answer": "1", "response": "r"}, {"prompt": "q", "images": ["../x.png"], "answer": "1"}]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "d.jsonl, row 2: image path '../x.png' leads out of" in refused("train", SFT, "out=r", "data.train=d.jsonl")


def test_traces_of_which_none_is_left(refused: Callable[..., str], tmp_path: Path) -> None:
    row = {"answer": "1", "response": "<think>a</think>The answer is 2."}
    (tmp_path / "d.jsonl").write_text("".join(json.dumps({"prompt": f"q{i}", **row}) + "\n" for i in range(4)))
    message = refused("train", SFT, "out=r", "model=nano", "data.train=d.jsonl", "data.val_size=1")
    assert "no trace of 'd.jsonl' is left after verification: {'wrong_answer': 3}" in message


def test_a_terminal_is_not_driven_by_what_is_shown(refused: Callable[..., str]) -> None:
    message = refused("train", SFT, "model=\x1b[2Jevil", "out=r")
    assert "\x1b" not in message
    assert "\\x1b[2Jevil" in message


@pytest.mark.parametrize("damage", ["cut weights", "no JSON", "unknown family", "no tokenizer"])
def test_damaged_checkpoints(refused: Callable[..., str], tmp_path: Path, random_nano: Path, damage: str) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(random_nano, broken)
    if damage == "cut weights":
        weights = broken / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:10_000])
    elif damage == "no JSON":
        (broken / "config.json").write_text("{")
    elif damage == "unknown family":
        config = json.loads((broken / "config.json").read_text())
        (broken / "config.json").write_text(json.dumps(config | {"model_type": "nosuch"}))
    else:
        for file in broken.glob("token*"):
            file.unlink()
    assert refused("eval", str(broken)).startswith(f"cannot load '{broken}': ")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_terminal_of_any_encoding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, encoding: str) -> None:
    """What it cannot show is escaped: neither a table nor an error ends in a second error."""
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(f"sys.{name}", io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["seethink", "train", SFT, "--dry-run", "out=läuft→走る"])
    ended(cli.main)
    monkeypatch.setattr("sys.argv", ["seethink", "eval", "mödel→走る"])
    ended(cli.main)
    console.print(Table("→", title="Zahlen ± 走る"))
    written = [getattr(sys, name).buffer.getvalue().decode(encoding) for name in ("stdout", "stderr")]
    assert all("走る" in text or "\\u8d70\\u308b" in text for text in written)
    assert "no model" in written[1]


def ended(command: Callable[[], None]) -> None:
    with contextlib.suppress(SystemExit):
        command()


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def test_pickled_weights_are_refused_unread(refused: Callable[..., str], tmp_path: Path, random_nano: Path) -> None:
    bad = tmp_path / "pickled"
    shutil.copytree(random_nano, bad)
    (bad / "model.safetensors").unlink()
    torch.save({"x": Payload(tmp_path / "touched")}, bad / "pytorch_model.bin")
    assert "model.safetensors" in refused("eval", str(bad))
    assert not (tmp_path / "touched").exists()


def test_code_that_comes_with_a_model_is_not_run(
    refused: Callable[..., str], tmp_path: Path, random_nano: Path
) -> None:
    bad = tmp_path / "remote"
    shutil.copytree(random_nano, bad)
    config = json.loads((bad / "config.json").read_text())
    auto = {"AutoConfig": "code.Config", "AutoModelForImageTextToText": "code.Model"}
    (bad / "config.json").write_text(json.dumps(config | {"model_type": "theirs", "auto_map": auto}))
    (bad / "code.py").write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'touched')!r}).touch()\n")
    assert "trust_remote_code" in refused("eval", str(bad))
    assert not (tmp_path / "touched").exists()


def test_nothing_is_left_behind_by_a_refused_command(refused: Callable[..., str], tmp_path: Path) -> None:
    refused("train", SFT, "out=r", "optim.lrr=1")
    refused("quickstart", "--out", "q", "sft.epoch=1")
    assert not (tmp_path / "r").exists()
    assert not (tmp_path / "q").exists()


def test_a_run_that_failed_at_its_data_can_be_started_again(refused: Callable[..., str], tmp_path: Path) -> None:
    refused("train", GRPO, "out=r", "model=nano", "data.train=none.jsonl")
    assert "no data at" in refused("train", GRPO, "out=r", "model=nano", "data.train=none.jsonl")
