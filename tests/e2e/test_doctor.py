"""`seethink doctor` as a user runs it: shipped recipes pass, exit codes, report, another family."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from helpers.doctoring import examine, good_rows, one, worst, write_rows
from helpers.families import save_family
from helpers.nano import picture
from seethink.cli import main as cli
from seethink.core.types import Sample
from seethink.data.image_tokens import TRIED
from seethink.doctor.check import Status
from seethink.doctor.lengths import LengthMeter, histogram

RECIPES = Path(__file__).parents[2] / "recipes"


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """(exit code, what was printed)"""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "argv", ["seethink", "doctor", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err
    return int(stop.value.code or 0), said.out + said.err


@pytest.fixture(autouse=True)
def _few_world_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seethink.doctor.scan.WORLD_ROWS", 60)


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param("nano-coldstart", marks=pytest.mark.slow),
        "nano-grpo",
        pytest.param("nano-connector", marks=pytest.mark.slow),
    ],
)
def test_shipped_recipes_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], recipe: str
) -> None:
    out, report = tmp_path / "run", tmp_path / "report.json"
    words = [str(RECIPES / f"{recipe}.toml"), "model=nano", f"out={out}", "--out", str(report), "--gpus", "1x80"]
    code, said = run(monkeypatch, capsys, *words)
    assert code == 0, said
    assert "ready to train" in said
    assert not out.exists(), "a dry run"
    content = json.loads(report.read_text())
    assert content["ok"]
    by_name = {(c["section"], c["name"]): c["status"] for c in content["checks"]}
    steps = [name for section, name in by_name if section == "step"]
    assert steps == ["forward and backward", "gradients", "images reach the model", "rollout"]
    assert set(by_name.values()) <= {"pass", "info", "warn"}
    learned = {row["part"] for row in content["parts"] if row["trained"]}
    assert learned == ({"connector"} if recipe == "nano-connector" else {"vision", "connector", "language"})


def test_exit_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rows = good_rows(tmp_path, 60)
    rows[1]["id"] = rows[0]["id"]
    file = str(write_rows(tmp_path / "d.jsonl", rows))
    words = [str(RECIPES / "nano-grpo.toml"), "model=nano", f"out={tmp_path / 'run'}", "--data", file, "--no-step"]
    code, said = run(monkeypatch, capsys, *words)
    assert code == 0
    assert "warn" in said
    code, said = run(monkeypatch, capsys, *words, "--strict")
    assert code == 1
    assert "--strict" in said
    code, said = run(monkeypatch, capsys, *words, "optim.lrr=1")
    assert code == 1
    assert "did you mean 'optim.lr'?" in said
    code, said = run(monkeypatch, capsys, *words, "--gpus", "many")
    assert code == 2
    assert "e.g. 8x80" in said


def test_the_help_states_the_exit_codes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(monkeypatch, capsys, "--help")
    assert code == 0
    assert "Exit code 0" in said


@pytest.mark.parametrize("family", ["qwen2_5_vl", pytest.param("llava", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_another_family(tmp_path: Path, family: str) -> None:
    model = save_family(family, tmp_path / "model")
    rows = good_rows(tmp_path, 24)
    for place, row in enumerate(rows):
        picture(place).resize((40 + 4 * (place % 3), 40)).save(tmp_path / str(row["images"][0]))
        row["prompt"] = "what is this"
    file = write_rows(tmp_path / "d.jsonl", rows)
    report = examine(tmp_path, f"model={model}", "rollout.max_new_tokens=16", data=file, step=True)
    assert not worst(report), [(c.section, c.name, c.found) for c in worst(report)]
    assert f"{family} family" in one(report, "model", "parts").found
    assert one(report, "step", "gradients").status is Status.PASS
    assert one(report, "step", "images reach the model").status is Status.PASS


@pytest.mark.slow
def test_a_broken_step_is_a_finding_and_not_a_crash(tmp_path: Path, random_nano: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    model = Path(shutil.copytree(random_nano, tmp_path / "model"))
    weights = load_file(model / "model.safetensors")
    name = next(name for name in weights if name.endswith("norm.weight") and "vision" not in name)
    weights[name] = torch.full_like(weights[name], 1e38)  # finite, and what comes of it is not
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    file = write_rows(tmp_path / "d.jsonl", good_rows(tmp_path, 8))
    report = examine(tmp_path, f"model={model}", data=file, step=True)
    assert one(report, "step", "forward and backward").status is Status.FAIL
    assert one(report, "step", "gradients").status is Status.FAIL


@pytest.mark.parametrize("family", ["internvl", "qwen2_5_vl", "llava_onevision", "smolvlm", "gemma3"])
def test_lengths_are_those_of_the_prompts(tmp_path: Path, family: str) -> None:
    from transformers import AutoProcessor

    from seethink.models.describe import meta_model
    from seethink.models.load import make_chat

    folder = save_family(family, tmp_path / "model")
    chat = make_chat(AutoProcessor.from_pretrained(folder), meta_model(str(folder)))
    sizes = [(40 + 9 * i, 150 - 11 * i) for i in range(TRIED + 5)]
    samples = [Sample(str(i), "what is this", (picture(i).resize(size),)) for i, size in enumerate(sizes)]
    samples.append(Sample("two", "which is it", (picture(1), picture(2))))
    samples.append(Sample("none", "what is red"))
    counted = LengthMeter(chat).measure(samples)
    assert [length for length, _ in counted] == [len(chat.prompt(s).input_ids) for s in samples]  # type: ignore[misc]
    assert [chat.prompt_length(s) for s in samples] == [length for length, _ in counted]  # type: ignore[misc]
    assert counted[-1][1] == 0  # type: ignore[index]


def test_histogram() -> None:
    assert histogram([10, 64, 65, 300]) == [("1-64", 2), ("65-128", 1), ("129-256", 0), ("257-512", 1)]
    assert histogram([100_000]) == [("over 32,768", 1)]
    assert histogram([]) == []
