"""What all ranks of a run must share: decisions, and values that one of them or each of them has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist

from seethink.core.errors import OtherRankError
from seethink.dist.world import CPU, is_distributed, is_main, world_size

Number = TypeVar("Number", bool, int, float)
T = TypeVar("T")
Rule = Literal["any", "all", "max", "min", "sum"]
_OPERATIONS = {"any": "MAX", "all": "MIN", "max": "MAX", "min": "MIN", "sum": "SUM"}


def agree(value: Number, rule: Rule) -> Number:
    """The same answer on every rank; a process without a group has its own.

    `any` and `all` are of bools, `max`, `min` and `sum` of numbers (float64, exact for integers below 2**53). Every rank
    of the default process group must call it at the same place.

    Example: `if agree(loss_is_nan, "any"): skip_the_step()`
    """
    if not is_distributed():
        return value
    shared = torch.tensor(float(value), dtype=torch.float64)
    dist.all_reduce(shared, getattr(dist.ReduceOp, _OPERATIONS[rule]))
    return type(value)(shared.item())


def from_main(make: Callable[[], T], group: dist.ProcessGroup | None = None) -> T:
    """What `make` returns on rank 0, on every rank; it is called there alone.

    Where it raises on rank 0, the others raise OtherRankError. `group` has all ranks, and is not the default one in a
    thread beside the main one.
    """
    if not is_distributed():
        return make()
    failure: BaseException | None = None
    shared: list[Any] = [None, None]
    if is_main():
        try:
            shared[0] = make()
        except Exception as error:
            failure = error
            shared[1] = f"{type(error).__name__}: {error}"
    dist.broadcast_object_list(shared, src=0, group=group, device=CPU)
    if failure is not None:
        raise failure
    if shared[1] is not None:
        raise OtherRankError(f"rank 0: {shared[1]}")
    return shared[0]  # type: ignore[no-any-return]


def from_all(value: T) -> list[T]:
    """Every rank's value, in the order of ranks."""
    if not is_distributed():
        return [value]
    shared: list[Any] = [None] * world_size()
    dist.all_gather_object(shared, value)
    return shared


def all_or_none(work: Callable[[], T], recoverable: Callable[[BaseException], bool]) -> T:
    """`work`, which has no collective operation in it; where a rank fails recoverably, every rank raises.

    The failing rank raises its own error, the others OtherRankError with its message, so that no rank is left waiting.
    """
    failure: BaseException | None = None
    try:
        result = work()
    except Exception as error:
        if not is_distributed() or not recoverable(error):
            raise
        failure = error
    if agree(failure is not None, "any"):
        said = from_all(None if failure is None else " ".join(f"{type(failure).__name__}: {failure}".split())[:200])
        if failure is not None:
            # The traceback holds the tensors that did not fit.
            raise failure.with_traceback(None)
        number, reason = next((n, text) for n, text in enumerate(said) if text is not None)
        raise OtherRankError(f"rank {number}: {reason}")
    return result


def joined_rows(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Every rank's tensors of each key, joined along the first dimension in the order of ranks, on their device.

    A rank may lack keys, where it had no work.
    """
    if not is_distributed():
        return tensors
    shared = from_all({key: tensor.detach().cpu() for key, tensor in tensors.items()})
    device = next((tensor.device for tensor in tensors.values()), CPU)
    keys = dict.fromkeys(key for found in shared for key in found)
    return {key: torch.cat([found[key] for found in shared if key in found]).to(device) for key in keys}
