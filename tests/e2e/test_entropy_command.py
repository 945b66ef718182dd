"""`seethink entropy`: a checkpoint, stored rollouts of ours and of others, and comparisons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from seethink.cli.main import app
from seethink.core.types import Completion, RolloutGroup, Sample
from seethink.data.prompts import PromptList
from seethink.entropy.meter import EntropyMeter
from seethink.generate.in_process.generator import InProcessGenerator
from seethink.generate.protocol import Sampling
from seethink.models.load import load_model
from seethink.runs.rollouts import store_rollouts
from seethink.studies.entropy.result_files import load_report
from seethink.world.make import world_samples

FEW = ("--size", "3", "--samples", "2", "--max-new-tokens", "12", "--words", "the,e,is")


def run(*words: object) -> str:
    result = CliRunner().invoke(app, ["entropy", *map(str, words)], env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return str(result.output)


@pytest.fixture(scope="module")
def measured(random_nano: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What measuring prints, and its file."""
    out = tmp_path_factory.mktemp("entropy") / "deep" / "entropy.json"
    return run(random_nano, "--data", "world:math", *FEW, "--out", out), out


def test_a_checkpoint_is_measured(measured: tuple[str, Path]) -> None:
    printed, out = measured
    report = load_report(out)
    assert len(report.prompts) == 3
    assert report.completions == 6
    assert report.settings.words == ("the", "e", "is")
    everything = report.groups["all"]
    assert sum(report.groups[f"position_{i}"].sketch.count for i in range(10)) == everything.sketch.count > 0
    assert f"{everything.estimate.mean:.4f}" in printed
    assert f"{everything.estimate.se:.4f}" in printed
    assert everything.tail.mean == pytest.approx(0.01, abs=0.02), "the threshold is the 99% quantile"


@pytest.mark.slow
def test_results_are_compared(measured: tuple[str, Path], random_nano: Path, tmp_path: Path) -> None:
    _, out = measured
    assert "paired by prompt" in " ".join(run(out, "--against", out).split())  # a long path breaks the title
    warm = ("--size", "3", "--samples", "2", "--max-new-tokens", "12", "--temperature", "0.5", "--out", tmp_path / "b")
    printed = run(random_nano, "--data", "world:math", *warm, "--against", out)
    colder, before = load_report(tmp_path / "b"), load_report(out)
    assert colder.settings.words == before.settings.words, "the words of the other result"
    assert colder.threshold == before.threshold
    difference = colder.groups["all"].estimate.mean - before.groups["all"].estimate.mean
    assert difference < 0
    assert f"{difference:+.4f}" in printed


@pytest.fixture(scope="module")
def rollouts(random_nano: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Sample], Any]:
    """A run's folder with stored rollouts, their samples, and the completions."""
    folder, loaded = tmp_path_factory.mktemp("run"), load_model(str(random_nano))
    prompts = PromptList(world_samples("world:math", "train", 3, 0), loaded.chat)
    groups: list[list[Completion]] = InProcessGenerator(loaded).generate(prompts, 2, Sampling(12), (1,))
    kept = [RolloutGroup(prompt, group) for prompt, group in zip(prompts, groups, strict=True)]
    meter = EntropyMeter(loaded.chat, (), 1)
    store_rollouts(folder / "rollouts" / "step_000001.jsonl", folder, kept, 1, meter)
    return folder, prompts.samples, groups


def test_stored_rollouts_are_scored_again(
    rollouts: tuple[Path, list[Sample], Any], random_nano: Path, tmp_path: Path
) -> None:
    folder, _, groups = rollouts
    run(random_nano, "--rollouts", folder, "--out", tmp_path / "again.json")
    report = load_report(tmp_path / "again.json")
    recorded = [e for group in groups for c in group for e in c.entropies]
    assert report.how == "rescored"
    assert report.groups["all"].sketch.count == len(recorded)
    assert report.groups["all"].estimate.mean == pytest.approx(sum(recorded) / len(recorded), abs=1e-5)


def test_rollouts_of_others_are_tokenized_anew(
    rollouts: tuple[Path, list[Sample], Any], random_nano: Path, tmp_path: Path
) -> None:
    _, samples, groups = rollouts
    rows = [
        {"id": samples[0].id, "completion": groups[0][0].text},
        {"prompt": f"USER: {samples[1].question} ASSISTANT:", "output": groups[1][0].text},
        {
            "prompt": [{"role": "user", "content": samples[2].question}],
            "completion": [{"role": "assistant", "content": "<think>3</think>3"}],
        },
    ]  # fmt: skip
    (tmp_path / "theirs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    from seethink.world.make import write_parquet

    write_parquet(samples, tmp_path / "data.parquet")
    words = ("--rollouts", tmp_path / "theirs.jsonl", "--data", tmp_path / "data.parquet")
    run(random_nano, *words, "--out", tmp_path / "out.json")
    report = load_report(tmp_path / "out.json")
    assert report.completions == len(report.prompts) == 3
    assert set(report.prompts) == {s.id for s in samples}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "is not JSON"),
        ("[1]", "is not a JSON object"),
        ('{"prompt": "unknown", "output": "x"}', "its prompt is not in --data"),
        ('{"prompt": "unknown"}', "the response in one of completion"),
        ('{"id": "a", "question": "q", "completions": [{}]}', "cannot be read: KeyError"),
        ('{"id": "a", "question": "q", "images": ["../../x.png"], "completions": []}', "line 1 of"),
    ],
)
def test_bad_rollouts_are_named(row: str, message: str, random_nano: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text(row + "\n")
    with pytest.raises(Exception, match=message):
        run(random_nano, "--rollouts", tmp_path / "bad.jsonl")
