"""An optimizer's state on disk: whole in one file, or each rank's shares in files of its own.

Shares are written and read by torch's distributed checkpointing (DCP) in its safetensors form, so that nothing is
pickled, and any number of ranks reads what any other number wrote. DCP takes seconds to import: it is imported where
shares are.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from seethink.core.errors import UserError
from seethink.dist.world import is_distributed

if TYPE_CHECKING:
    from torch.distributed.checkpoint.api import CheckpointException

SHARES = "train_state/shares"


class CheckpointError(UserError):
    """A checkpoint that cannot be resumed from; the message says what to do."""


def optimizer_tensors(prefix: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state as flat named tensors."""
    state = optimizer.state_dict()["state"]
    return {f"{prefix}/{i}/{key}": value for i, entry in state.items() for key, value in entry.items()}


def restore_optimizer(prefix: str, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
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
        if index >= len(parameters) or "exp_avg" not in entry or entry["exp_avg"].shape != parameters[index].shape:
            raise CheckpointError(f"the checkpoint's optimizer entry {index} fits no parameter that this recipe trains")
        entries[index] = {key: _like(value, parameters[index]) for key, value in entry.items()}
    optimizer.load_state_dict({"state": entries, "param_groups": current["param_groups"]})


def save_shares(tensors: dict[str, Tensor], folder: Path) -> None:
    """Each rank writes its own shares of `tensors`; every rank must call it. Raises OSError where one fails."""
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        # In one order: after a resume the optimizer has its entries in another.
        save(dict(sorted(tensors.items())), storage_writer=writer)
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
            found[name] = torch.zeros(()) if key == "step" else torch.zeros_like(parameters[int(number)].detach())
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
