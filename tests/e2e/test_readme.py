"""What the README tells a reader to type works, and what it points to exists."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from helpers.command_line import run_command

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def bash_lines() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    return [line.partition("#")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def test_make_commands_are_real_targets() -> None:
    targets = [line.split()[1] for line in bash_lines() if line.startswith("make ")]
    assert targets == ["quickstart", "test"]
    for target in targets:
        result = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
    quickstart = subprocess.run(["make", "-n", "quickstart"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "seethink quickstart --out runs/quickstart" in quickstart.stdout


@pytest.mark.parametrize("line", [line for line in bash_lines() if line.startswith("seethink ")])
def test_seethink_commands_know_their_words(line: str) -> None:
    """Every option that the README uses is in the command's help, and every recipe exists."""
    words = shlex.split(line)[1:]
    command = [word for word in words[:2] if re.fullmatch(r"[a-z]+", word)]
    command = command if command[0] in ("world", "verifier", "lab") else command[:1]
    result = run_command(*command, "--help")
    assert result.returncode == 0, result.stderr
    for word in words:
        if word.startswith("--"):
            assert word in result.stdout, f"{word} is not an option of {command}"
        if word.startswith("recipes/"):
            assert (ROOT / word).is_file()


def test_links_and_paths_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (ROOT / target).exists(), target
    for path in re.findall(r"`((?:src|recipes|examples|tests|docs|benchmarks)/[\w./*-]+)`", README):
        assert list(ROOT.glob(path)), path


def test_the_example_is_as_short_as_the_readme_says() -> None:
    stated = int(re.search(r"one file of (\d+) lines", README).group(1))  # type: ignore[union-attr]
    lines = len((ROOT / "examples" / "grpo_loop.py").read_text().splitlines())
    assert abs(lines - stated) <= 10
