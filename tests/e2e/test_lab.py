"""The lab by its commands: every experiment at the smoke scale, kills, arms that fail, and what the report says."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from helpers import forked
from helpers.command_line import run_command
from helpers.forked import Forked
from seethink.studies.lab.scales import find_scale, why_left_out
from seethink.studies.lab.schema import load_experiments

LEFT_OUT = [name for name, e in load_experiments().items() if why_left_out(e, find_scale("smoke"))]
ENV = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}


def lab(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "seethink.cli.main", "lab", *words]
    return forked.run(command, timeout=900, env=ENV)


def start(*words: str) -> Forked:
    command = [sys.executable, "-m", "seethink.cli.main", "lab", "run", *words]
    return forked.start(command, env=ENV)


def smoke(out: Path, *names: str) -> list[str]:
    return [*names, "--scale", "smoke", "--seeds", "1", "--out", str(out)]


def wait_for(seconds: float, found: Any) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.1)
    raise AssertionError(f"nothing after {seconds} s")


def is_free(folder: Path) -> bool:
    """Whether no process holds the arm's lock."""
    with (folder / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("lab") / "lab"
    result = lab("run", *smoke(out, "all"))
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return out


@pytest.mark.slow
def test_every_experiment_runs_and_records_all_that_its_claims_ask_for(everything: Path) -> None:
    """Only a number that a few tiny answers leave undefined may be missing."""
    from seethink.studies.lab.results import load_results

    results = load_results(everything)
    assert [e.experiment.name for e in results.experiments] == [n for n in load_experiments() if n not in LEFT_OUT]
    for one in results.experiments:
        assert one.problems == []
        for found in one.results:
            undefined = "no finite value" in found.why or found.verdict == "untestable"
            assert found.effect is not None or undefined, (one.experiment.name, found.why)
            assert "not measured" not in found.why


@pytest.mark.slow
def test_the_report_has_every_claim_with_its_verdict(everything: Path) -> None:
    page, table = (everything / "report.html").read_text(), (everything / "report.md").read_text()
    for experiment in load_experiments().values():
        if experiment.name not in LEFT_OUT:
            assert f'id="{experiment.name}"' in page
            assert f"`{experiment.name}`" in table
    assert table.count("can't tell |") >= 20  # one seed says nothing
    assert "agrees |" not in table
    assert "critical tokens behind the entropy of every checkpoint: " in page
    again = lab("verdicts", str(everything / "values.json"))
    assert again.returncode == 0
    assert again.stdout.count("untestable") >= 10  # a few steps clip nothing, and hardly any token is critical


@pytest.mark.slow
def test_a_second_call_finds_everything_done(everything: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in everything.glob("arms/*/metrics.jsonl")}
    result = lab("run", *smoke(everything, "all"))
    assert result.returncode == 0
    assert " 0 to do" in result.stdout
    assert {path: path.stat().st_mtime_ns for path in everything.glob("arms/*/metrics.jsonl")} == before


@pytest.mark.slow
def test_an_arm_that_fails_is_named_with_its_cause_and_the_others_go_on(everything: Path) -> None:
    plan = json.loads((everything / "lab.json").read_text())["experiments"]["vision-frozen"]["arms"]
    frozen = everything / plan["frozen"][0]["folder"]
    (frozen / "done.json").unlink()
    with (frozen / ".lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        result = lab("run", *smoke(everything, "vision-frozen", "rl-zero"))
    assert result.returncode == 1
    assert f"FAILED {frozen.name} (vision-frozen/frozen): error: {frozen} is in use by another run" in result.stdout
    assert "frozen, seed 0: error:" in (everything / "report.html").read_text()
    assert lab("run", *smoke(everything, "vision-frozen")).returncode == 0


@pytest.mark.slow
def test_a_killed_lab_stops_its_arms_and_goes_on(tmp_path: Path) -> None:
    process = start(*smoke(tmp_path / "lab", "rl-zero"))
    folder = wait_for(120, lambda: next(iter(tmp_path.glob("lab/arms/rl-*/metrics.jsonl")), None)).parent
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(60, lambda: is_free(folder))
    assert lab("run", *smoke(tmp_path / "lab", "rl-zero")).returncode == 0
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 4


@pytest.mark.slow
def test_a_killed_arm_is_started_again_and_a_lab_that_is_asked_to_stop_says_how_to_go_on(tmp_path: Path) -> None:
    process = start(*smoke(tmp_path / "lab", "rl-zero"))
    lock = wait_for(120, lambda: next(iter(tmp_path.glob("lab/arms/coldstart-*/.lock")), None))
    os.kill(wait_for(60, lambda: read_pid(lock)), signal.SIGKILL)
    wait_for(120, lambda: (lock.parent / "log.txt").read_text().count("--- start") == 2)
    process.send_signal(signal.SIGTERM)
    process.wait(120)
    ended = process.output()
    said = ended.stdout + ended.stderr
    assert process.returncode == 75
    assert f"{lock.parent.name} was interrupted (exit code -9) and continues" in said
    assert "the same command continues" in said


def read_pid(lock: Path) -> int | None:
    """Of the process that holds the arm, once it has signed."""
    text = lock.read_text()
    return int(json.loads(text)["pid"]) if text.endswith("\n") else None


def test_the_plan_is_printed_and_nothing_is_made(tmp_path: Path) -> None:
    result = run_command("lab", "plan", "all", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "core-seconds" in result.stdout
    assert not any(tmp_path.iterdir())


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    result = run_command("lab", "run", "nonsense", cwd=tmp_path)
    assert result.returncode == 2
    assert "no experiment 'nonsense'; choose from all, primary, entropy-selection" in result.stderr
    assert "Traceback" not in result.stderr
