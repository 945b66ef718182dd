"""Checkpoints written beside training: the bytes of the step they are of, one at a time, and no error lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.nano import load_nano, nano_recipe
from helpers.training import make_policy
from seethink.runs import checkpoint as runs_checkpoint
from seethink.runs.snapshot import copied
from seethink.train.hooks.checkpoints import Checkpoints
from seethink.train.loop import Loop
from seethink.train.policy import Policy
from seethink.train.signals import StopSignals
from seethink.train.step import StepResult


def update(policy: Policy, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in policy.model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
    policy.optimizer.step()
    policy.optimizer.zero_grad(set_to_none=True)
    policy.steps_done += 1


def begin(model: Path, folder: Path, *words: str) -> tuple[Policy, Checkpoints]:
    recipe = nano_recipe(model, "checkpoint.asynchronous=true", *words)
    policy = make_policy(load_nano(model), recipe, 8)
    return policy, Checkpoints(folder, recipe.checkpoint, policy, {}, origin="nano", stage="grpo")


def save(saves: Checkpoints, step: int, policy: Policy, *, wait: bool = False, state: Any = None) -> None:
    update(policy, step)
    saves.end_step(step, {}, state or {"position": step})
    saves.save(lambda: None, wait=wait)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


class Gate:
    """Holds a save back before its files are hashed, and notes when saves begin and end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open, self.said = threading.Event(), list[str]()
        real = runs_checkpoint.write_manifest

        def write(folder: Path) -> None:
            self.said.append(f"in {folder.name}")
            assert self.open.wait(20)
            real(folder)
            self.said.append(f"out {folder.name}")

        monkeypatch.setattr(runs_checkpoint, "write_manifest", write)


def later(seconds: float, work: Callable[[], object]) -> None:
    threading.Timer(seconds, work).start()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    gate.open.set()
    yield gate
    gate.open.set()


@pytest.mark.parametrize("parts", ['["vision","connector","language"]', '["connector"]'])
def test_a_checkpoint_has_the_bytes_of_its_step(random_nano: Path, tmp_path: Path, gate: Gate, parts: str) -> None:
    """While it is written, weights, optimizer, the stage's state, random states and the tokenizer's padding go on."""
    found = {}
    for name, words in (("beside", ()), ("waiting", ("checkpoint.asynchronous=false",))):
        torch.manual_seed(0)
        policy, saves = begin(random_nano, tmp_path / name, f"parts.train={parts}", "checkpoint.keep=5", *words)
        save(saves, 1, policy)
        if name == "beside":
            gate.open.clear()
        state: dict[str, Any] = {"seen": [1, 2]}
        save(saves, 2, policy, state=state)
        assert saves.saved == (1 if name == "beside" else 2)
        state["seen"].append(3)
        update(policy, 3)
        torch.rand(1)
        tokenizer = policy.loaded.chat.tokenizer
        tokenizer(["red", "red and blue"], padding=True)
        gate.open.set()
        saves.wait()
        assert saves.saved == 2
        found[name] = contents(tmp_path / name / "checkpoints" / "step_000002")
    assert len(found["waiting"]) > 8
    assert found["beside"] == found["waiting"]


def test_one_is_written_at_a_time_and_the_next_waits(random_nano: Path, tmp_path: Path, gate: Gate) -> None:
    policy, saves = begin(random_nano, tmp_path, "checkpoint.keep=2")
    save(saves, 1, policy)
    gate.open.clear()
    save(saves, 2, policy)
    later(0.3, gate.open.set)
    save(saves, 3, policy)
    assert saves.metrics()["time/checkpoint_s"] > 0.2, "training has waited for the one before"
    assert saves.saved >= 2
    saves.wait()
    assert gate.said == [f"{way} .step_00000{step}.tmp" for step in (1, 2, 3) for way in ("in", "out")]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step_000002", "step_000003"]


def test_the_first_one_is_waited_for(random_nano: Path, tmp_path: Path, gate: Gate) -> None:
    """A run that is killed with records of later steps and no checkpoint at all could not be resumed."""
    policy, saves = begin(random_nano, tmp_path)
    save(saves, 1, policy)
    assert saves.saved == 1
    assert (tmp_path / "checkpoints" / "step_000001" / "manifest.json").is_file()


def test_the_best_weights_are_exported_after_it(random_nano: Path, tmp_path: Path, gate: Gate) -> None:
    policy, saves = begin(random_nano, tmp_path)
    save(saves, 1, policy)
    gate.open.clear()
    save(saves, 2, policy)
    later(0.2, gate.open.set)
    assert saves.export_best(tmp_path / "best", 3)
    assert gate.said[-2:] == ["in .best.tmp", "out .best.tmp"]
    assert saves.saved == 2


def failing(error: Exception) -> Callable[..., None]:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


def settled(saves: Checkpoints) -> None:
    until = time.monotonic() + 20
    while saves._writing is not None and not saves._writing.done and time.monotonic() < until:
        time.sleep(0.01)


def test_a_disk_that_fails_costs_one_checkpoint(
    random_nano: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where training waits: it is said and counted at the next step, and the next save is tried."""
    policy, saves = begin(random_nano, tmp_path)
    save(saves, 1, policy)
    with monkeypatch.context() as patch:
        patch.setattr(runs_checkpoint, "save_file", failing(OSError(28, "No space left on device")))
        save(saves, 2, policy)
        settled(saves)
        assert saves.metrics()["checkpoint/failed"] == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "CHECKPOINT FAILED: the checkpoint of step 2 was not saved: the disk is full" in said
    assert "that of step 1 is still the newest" in said
    save(saves, 3, policy)
    saves.wait()
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step_000001", "step_000003"]


class Steps:
    """A stage whose steps move the weights and end when what is written in the background has ended."""

    total_steps = 6

    def __init__(self, policy: Policy, saves: Checkpoints) -> None:
        self.policy, self._saves, self.done = policy, saves, 0

    def step(self, number: int) -> StepResult:
        self.done = number + 1
        update(self.policy, number)
        settled(self._saves)
        return StepResult({"loss/total": 0.0}, None)

    def state(self) -> dict[str, Any]:
        return {}


def run(stage: Steps, saves: Checkpoints) -> None:
    Loop(stage, [], saves, StopSignals(1.0)).run(lambda *_: None, lambda _: "")  # type: ignore[arg-type]


def test_any_other_error_stops_the_run_at_the_next_step(
    random_nano: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, saves = begin(random_nano, tmp_path, "checkpoint.every=2", "checkpoint.keep=3")
    real = runs_checkpoint.write_manifest

    def fail_at_four(folder: Path) -> None:
        if "4" in folder.name:
            raise ZeroDivisionError("the first cause")
        real(folder)

    monkeypatch.setattr(runs_checkpoint, "write_manifest", fail_at_four)
    stage = Steps(policy, saves)
    with pytest.raises(ZeroDivisionError, match="the first cause"):
        run(stage, saves)
    assert stage.done == 5
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step_000002"], "nothing half written is left"


def test_a_run_that_fails_waits_for_what_is_being_written(
    random_nano: Path, tmp_path: Path, gate: Gate, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, saves = begin(random_nano, tmp_path, "checkpoint.every=2", "checkpoint.keep=3")

    class Failing(Steps):
        def step(self, number: int) -> StepResult:
            if number == 4:
                assert saves._writing is not None
                assert not saves._writing.done
                later(0.2, gate.open.set)
                raise ValueError("a bug of the fifth step")
            if number == 3:
                gate.open.clear()
            update(self.policy, number)
            return StepResult({}, None)

    with pytest.raises(ValueError, match="the fifth step"):
        run(Failing(policy, saves), saves)
    assert saves.saved == 4
    assert "NOR" not in capsys.readouterr().out


def test_copies_share_what_was_shared_and_nothing_else() -> None:
    """Tied weights stay tied, which save_pretrained looks for; what does not change is not copied."""
    table, frozen = torch.arange(6.0).view(2, 3), torch.ones(2)
    found = copied({"a": table, "b": table.detach(), "c": table[1], "frozen": frozen}, [table])
    assert found["a"] is found["b"]
    assert found["c"].untyped_storage().data_ptr() != found["a"].untyped_storage().data_ptr()
    assert found["frozen"] is frozen
    table.zero_()
    assert found["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["c"].tolist() == [3, 4, 5]
    assert copied({"frozen": frozen})["frozen"] is not frozen
