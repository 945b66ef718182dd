"""Ranks that share the weights write a checkpoint beside training: the same bytes, and the failure of one is of all."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch.distributed.checkpoint.hf_storage as hf_storage

from helpers.killing import digest
from helpers.moments import policy_of, train
from helpers.ranks import on_ranks, train_on_ranks
from helpers.same_run import assert_same_run, short
from seethink.config import CheckpointConfig
from seethink.core.errors import OtherRankError
from seethink.dist.agreement import agree, from_main
from seethink.dist.world import is_main, rank
from seethink.runs import checkpoint as runs_checkpoint
from seethink.train.hooks.checkpoints import Checkpoints

pytestmark = pytest.mark.slow


def digests(folder: Path) -> dict[str, str]:
    return {str(f.relative_to(folder)): digest(f) for f in folder.rglob("*") if f.is_file() and f.name != "manifest.json"}


def save_beside(model: Path, folder: Path, shard: str) -> None:
    policy = policy_of(model, "float32", f"cluster.shard={shard}")
    config = CheckpointConfig(asynchronous=True, keep=9)
    saves = Checkpoints(folder / f"rank{rank()}", config, policy, {}, origin="nano", stage="sft")

    def save(step: int, *, wait: bool) -> None:
        saves.end_step(step, {}, {"position": step})
        saves.save(lambda: None, wait=wait)

    real = runs_checkpoint.write_manifest
    runs_checkpoint.write_manifest = lambda folder: (time.sleep(0.5), real(folder))[1]
    train(policy, 1)
    save(1, wait=True)
    train(policy, 1)
    save(2, wait=False)
    assert saves.saved == 1
    for number in range(3):  # in the default group, while the thread meets the others in its own
        train(policy, 1, seed=number)
        assert agree(1, "sum") == 2
    saves.wait()
    again = policy_of(model, "float32", f"cluster.shard={shard}")
    waiting = Checkpoints(folder / "waiting", config, again, {}, origin="nano", stage="sft")
    train(again, 1)
    train(again, 1)
    waiting.end_step(2, {}, {"position": 2})
    waiting.save(lambda: None, wait=True)
    written = digests(folder / "rank0" / "checkpoints" / "step_000002")
    assert len([name for name in written if "shares" in name]) == 2
    assert written == digests(folder / "waiting" / "checkpoints" / "step_000002")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    write = hf_storage.HuggingFaceStorageWriter.write_data
    if rank() == 1:
        hf_storage.HuggingFaceStorageWriter.write_data = full  # type: ignore[method-assign, assignment]
    save(5, wait=False)
    saves.wait()
    hf_storage.HuggingFaceStorageWriter.write_data = write  # type: ignore[method-assign]
    assert saves.saved == 2, "one rank's full disk is a failed save of all"
    assert saves.metrics()["checkpoint/failed"] == 1
    save(6, wait=False)
    saves.wait()
    assert saves.saved == 6

    def broken(folder: Path) -> None:
        raise ZeroDivisionError("the first cause")

    runs_checkpoint.write_manifest = broken
    train(policy, 1)
    save(7, wait=False)
    while saves._writing is not None and not saves._writing.done:
        time.sleep(0.01)
    with pytest.raises(ZeroDivisionError if is_main() else OtherRankError, match="the first cause"):
        from_main(saves.metrics)
    saves.finish_writing()
    assert saves.saved == 6


@pytest.mark.parametrize("shard", ["zero2", "zero3"])
def test_ranks_write_the_bytes_of_ranks_that_wait(random_nano: Path, tmp_path: Path, shard: str) -> None:
    on_ranks(2, save_beside, tmp_path, random_nano, tmp_path, shard)
    checkpoints = tmp_path / "rank0" / "checkpoints"
    assert sorted(p.name for p in checkpoints.iterdir()) == ["step_000001", "step_000002", "step_000006"]


@pytest.mark.parametrize("shard", ["none", "zero2"])
def test_a_run_is_the_same(tmp_path: Path, shard: str) -> None:
    """Every checkpoint of two ranks that write beside their steps, and of two that wait."""
    often = {"checkpoint.every": 1, "checkpoint.keep": 9, "cluster.shard": shard}
    for name, beside in (("beside", True), ("waiting", False)):
        # The file through which ranks meet serves once.
        train_on_ranks(2, short(tmp_path / name, "run", "grpo", **often, **{"checkpoint.asynchronous": beside}))
    assert_same_run(tmp_path / "beside" / "run", tmp_path / "waiting" / "run")
    one, other = (digests(tmp_path / name / "run" / "checkpoints") for name in ("beside", "waiting"))
    assert {name.split("/")[0] for name in one} == {f"step_00000{step}" for step in (1, 2, 3, 4)}
    assert one == other
