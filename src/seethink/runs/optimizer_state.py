"""An optimizer's state on disk: whole in one file, or each rank's shares in files of its own.

Shares are written and read by torch's distributed checkpointing (DCP) in its safetensors form, so that nothing is
pickled, and any number of ranks reads what any other number wrote. DCP takes seconds to import: it is imported where
shares are.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from seethink.config.optim import States
from seethink.core.errors import UserError
from seethink.dist.world import is_distributed
from seethink.runs.moments import CODES, empty_share, fill, moments_bytes, stored

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.distributed.checkpoint.api import CheckpointException

SHARES = "train_state/shares"


class CheckpointError(UserError):
    """A checkpoint that cannot be resumed from; the message says what to do."""


class LowMemory(Protocol):
    """What an optimizer has whose moments are not float32 ones on the device (`train/eight_bit.py`, `offloaded.py`)."""

    states: States

    def new_state(self, parameter: Tensor) -> dict[str, Tensor]: ...


def states_of(optimizer: torch.optim.Optimizer) -> States:
    """`optim.states` of an optimizer."""
    states: States = getattr(optimizer, "states", "float32")
    return states


def optimizer_bytes(optimizer: torch.optim.Optimizer) -> int:
    """What a checkpoint holds of an optimizer, about."""
    return sum(moments_bytes(p.shape, states_of(optimizer)) for p in _parameters(optimizer))


def optimizer_tensors(prefix: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state as flat named tensors."""
    parameters, states = _parameters(optimizer), states_of(optimizer)
    tensors: dict[str, Tensor] = {}
    for i, entry in optimizer.state_dict()["state"].items():
        for key, value in entry.items():
            tensors |= stored(f"{prefix}/{i}/{key}", value, parameters[i], states)
    return tensors


def restore_optimizer(prefix: str, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Take what `optimizer_tensors` gave, of this optimizer or of one with other `optim.states`.

    Raises CheckpointError where it does not fit.
    """
    current = optimizer.state_dict()
    entries: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        head, _, rest = name.partition("/")
        if head == prefix:
            number, _, key = rest.partition("/")
            entries.setdefault(int(number), {})[key] = value
    parameters = _parameters(optimizer)
    for index, entry in entries.items():
        # A parameter that had no gradient yet (vision without images) has no entry; an entry must have its parameter.
        moment = entry.get("exp_avg", entry.get("exp_avg" + CODES))
        if index >= len(parameters) or moment is None or moment.shape != parameters[index].shape:
            raise CheckpointError(f"the checkpoint's optimizer entry {index} fits no parameter that this recipe trains")
        entries[index] = {key: _like(value, parameters[index]) for key, value in entry.items()}
    if states_of(optimizer) != "float32":
        _fill(optimizer, {parameters[index]: entry for index, entry in entries.items()})
    elif any("exp_avg" not in entry for entry in entries.values()):
        raise _wide()
    else:
        optimizer.load_state_dict({"state": entries, "param_groups": current["param_groups"]})


def _fill(optimizer: Any, entries: dict[Tensor, dict[str, Tensor]]) -> None:
    low: LowMemory = optimizer
    try:
        for parameter, entry in entries.items():
            optimizer.state[parameter] = low.new_state(parameter)
            fill(optimizer.state[parameter], entry)
    except LookupError:
        raise _wide() from None


def _wide() -> CheckpointError:
    return CheckpointError(
        "the checkpoint's optimizer has 8-bit moments, which are not widened: go on with optim.states=8bit"
    )


def save_shares(tensors: dict[str, Tensor], folder: Path, group: ProcessGroup | None = None) -> None:
    """Each rank writes its own shares of `tensors`; every rank must call it. Raises OSError where one fails.

    `group` has all ranks, and is not the default one in a thread beside the main one.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        # In one order: after a resume the optimizer has its entries in another.
        save(dict(sorted(tensors.items())), storage_writer=writer, process_group=group)
    except CheckpointException as error:
        raise OSError(_first(error)) from None


def load_shares(folder: Path, prefix: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's tensors, sharded as its parameters are; {} where `folder` is not there. Every rank must call it.

    Raises CheckpointError where they do not fit the optimizer.
    """
    if not folder.is_dir():
        return {}
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    parameters = _parameters(optimizer)
    reader = HuggingFaceStorageReader(str(folder))
    found: dict[str, Tensor] = {}
    for name in reader.read_metadata().state_dict_metadata:
        head, number, key = name.split("/")
        if head == prefix and int(number) < len(parameters):
            found[name] = empty_share(key, parameters[int(number)], states_of(optimizer))
    try:
        load(found, storage_reader=reader, no_dist=not is_distributed())
    except CheckpointException as error:
        raise CheckpointError(f"the checkpoint's optimizer does not fit this recipe: {_first(error)}") from None
    return found


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor sharded as the parameter is."""
    if not hasattr(parameter, "placements") or hasattr(value, "placements") or not value.ndim:
        return value
    from torch.distributed.tensor import distribute_tensor

    sharded: Any = parameter
    return distribute_tensor(value, sharded.device_mesh, sharded.placements)


def _first(error: CheckpointException) -> str:
    """What the first rank that failed says."""
    failure = next(iter(error.failures.values()))[0]
    return f"{type(failure).__name__}: {failure}"
