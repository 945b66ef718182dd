"""The commands as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.command_line import run_command
from seethink import __version__

RECIPES = Path(__file__).parents[2] / "recipes"
COMMANDS = [
    ["quickstart"],
    ["train"],
    ["coldstart"],
    ["chat"],
    ["serve"],
    ["eval"],
    ["modes"],
    ["select"],
    ["entropy"],
    ["report"],
    ["grade"],
    ["verifier", "check"],
    ["lab", "list"],
    ["lab", "run"],
    ["lab", "plan"],
    ["lab", "report"],
    ["lab", "verdicts"],
    ["world", "make"],
    ["world", "floors"],
    ["world", "examine"],
    ["world", "base"],
]


def in_a_process(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "160", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "seethink.cli.main", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=cwd, env=env)


def done(*words: str, cwd: Path | None = None) -> str:
    result = run_command(*words, cwd=cwd)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_shows_an_example(command: list[str]) -> None:
    text = done(*command, "--help")
    assert f"Example: seethink {' '.join(command)}" in text.replace("`", "")
    assert "Traceback" not in text


def test_help_lists_every_command() -> None:
    listed = done("--help") + done("world", "--help") + done("verifier", "--help") + done("lab", "--help")
    assert all(f" {command[-1]} " in listed for command in COMMANDS)


def test_version() -> None:
    result = in_a_process("--version")
    assert (result.returncode, result.stdout) == (0, f"seethink {__version__}\n")


def test_a_dry_run_prints_the_resolved_recipe_and_makes_nothing(tmp_path: Path) -> None:
    text = done("train", str(RECIPES / "nano-grpo.toml"), "optim.lr=3e-5", "out=r", "--dry-run", cwd=tmp_path)
    recipe = json.loads(text)
    assert recipe["optim"]["lr"] == 3e-5
    assert recipe["algorithm"]["clip_low"] == 0.2
    assert not list(tmp_path.iterdir())


def test_a_dry_run_starts_quickly() -> None:
    """No torch: what it imports is what it costs."""
    code = (
        "import sys; sys.argv = ['seethink', 'train', sys.argv[1], '--dry-run']\n"
        "from seethink.cli.main import app\n"
        "app(standalone_mode=False)\n"
        "sys.exit(3 if {'torch', 'transformers', 'pyarrow'} & set(sys.modules) else 0)"
    )
    command = [sys.executable, "-c", code, str(RECIPES / "nano-grpo.toml")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["train", str(RECIPES / "nano-grpo.toml"), "optim.lrr=1"],
            "unknown key 'optim.lrr'; did you mean 'optim.lr'?",
        ),
        (["train", "none.toml"], "no recipe at none.toml"),
        pytest.param(["eval", "nanno"], "no model 'nanno'", marks=pytest.mark.slow),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(words: list[str], message: str, tmp_path: Path) -> None:
    result = in_a_process(*words, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stdout + result.stderr
    assert not list(tmp_path.iterdir())


def test_a_world_file_can_be_made_and_read(tmp_path: Path) -> None:
    from helpers.rows import load_samples

    words = ["world", "make", "new/d.parquet", "--source", "world:dice:traces", "--split", "val", "--size", "7"]
    assert "7 items: new/d.parquet" in done(*words, "--seed", "3", cwd=tmp_path)
    stored = load_samples(str(tmp_path / "new" / "d.parquet"), "val", None, 0)
    made = load_samples("world:dice:traces", "val", 7, 3)
    assert [(s.id, s.question, s.answer, s.response) for s in stored] == [
        (s.id, s.question, s.answer, s.response) for s in made
    ]
    assert [s.pictures()[0].tobytes() for s in stored] == [s.pictures()[0].tobytes() for s in made]


@pytest.mark.slow
def test_train_evaluate_and_report(tmp_path: Path) -> None:
    """The way of a new user: data of one's own, a stage, its scores, its page; then the run is not overwritten."""
    done("world", "make", "d.parquet", "--source", "world:math:traces", "--size", "24", cwd=tmp_path)
    sizes = ["data.train_size=24", "data.val_size=4", "sft.epochs=1", "sft.batch_size=8", "eval.size=4"]
    words = ["train", str(RECIPES / "nano-coldstart.toml"), "out=r", "data.train=d.parquet", *sizes]
    text = done(*words, cwd=tmp_path)
    assert "traces: " in text
    assert "checkpoint: r/best" in text
    scores = done(
        "eval", "r/best", "--data", "world:math", "--size", "4", "--samples", "1", "--max-new-tokens", "8",
        "--out", "scores", cwd=tmp_path,
    )  # fmt: skip
    assert "math" in scores
    record = json.loads((tmp_path / "scores" / "eval.json").read_text())
    assert {s["mode"] for s in record["scores"]} == {"avg@1", "greedy"}
    assert "report: r/report.html" in done("report", "r", cwd=tmp_path)
    assert (tmp_path / "r" / "report.html").read_text().startswith("<!")

    again = run_command(*words, cwd=tmp_path)
    assert again.returncode == 2
    assert again.stderr.startswith("error: r already holds a run: add --resume")
    assert "checkpoint: r/best" in done(*words, "--resume", cwd=tmp_path)
    other = run_command(*words, "--resume", "optim.lr=1e-4", cwd=tmp_path)
    assert other.returncode == 2, "a finished run of another recipe is not passed off as this one's"
    assert "the recipe differs in optim.lr" in other.stderr
