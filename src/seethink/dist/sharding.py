"""FSDP2: every rank holds a share of each weight, of its gradient and of its optimizer state.

ZeRO-2 gathers the weights once per step, so that ranks may run any number of micro-batches; gradients are reduced once,
at the end. ZeRO-3 gathers each layer when it is due and frees it after: ranks must then run equal forwards, which
`dist/padding.py` sees to. Losses are sums whose weights count the tokens of the whole step, so that gradients are
summed over ranks and not averaged.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MethodType
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from seethink.core.errors import UserError
from seethink.dist.agreement import agree
from seethink.dist.world import is_main, world_size
from seethink.models.load import default_device
from seethink.models.scorer import TokenScorer
from seethink.models.units import units

Zero = Literal["zero2", "zero3"]


class Shards:
    """The weights of a scorer, sharded over the ranks. Whatever gathers or reduces is called by every rank."""

    def __init__(self, scorer: TokenScorer, mesh: DeviceMesh, zero: Zero, compute_dtype: torch.dtype) -> None:
        """Shards in place; freeze parts before and make the optimizer after. Weights stay float32 where they rest.

        They are those of rank 0: others may have the model on the meta device.
        """
        root: Any = scorer
        is_elsewhere = agree(any(p.is_meta for p in scorer.parameters()), "any")
        whole = scorer.model.state_dict() if is_elsewhere and is_main() else {}
        self._root = root
        self.zero = zero
        self._depth = 0
        warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view", UserWarning)  # none is written to
        policy = MixedPrecisionPolicy(param_dtype=compute_dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
        if compute_dtype in (torch.float32, torch.float64):
            policy = MixedPrecisionPolicy(cast_forward_inputs=False)
        for unit in units(scorer.model):
            _shard(unit, mesh=mesh, mp_policy=policy, reshard_after_forward=zero == "zero3")
        root.start_reduction = MethodType(_start_reduction, scorer)
        _shard(scorer, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
        register_fsdp_forward_method(scorer, "start_reduction")
        self._modules: list[Any] = [m for m in scorer.modules() if isinstance(m, FSDPModule)]
        for module in self._modules:
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo has no pre-multiplied sum
        if is_elsewhere:
            self._materialise(whole)
        # A rank without work has no forward, which would tell FSDP which module is the root.
        with torch.no_grad():
            root.start_reduction(torch.zeros(()))
        root.reshard()

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Whole weights, in the compute dtype, for anything without gradient: ranks may run different forwards."""
        if self._depth == 0:
            self._keep_whole(True)
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._keep_whole(False)

    def scoring(self) -> AbstractContextManager[None]:
        """For forwards without gradient and what follows from them; under ZeRO-3 ranks must run equal ones.

        ZeRO-3 keeps the output head whole from a forward to the next backward.
        """
        return self.gathered() if self.zero == "zero2" else nullcontext()

    @contextmanager
    def accumulating(self) -> Iterator[None]:
        """Forwards and backwards of a step; afterwards every rank's share of the gradient is the sum over ranks.

        An exception leaves no gradient behind.
        """
        if self.zero == "zero3":
            yield
            return
        root = self._root
        with self.gathered():
            root.set_requires_gradient_sync(False)
            root.set_is_last_backward(False)
            try:
                yield
            except BaseException:
                self._forget()
                raise
            finally:
                root.set_requires_gradient_sync(True)
                root.set_is_last_backward(True)
            reached = self._reached()
            # Every group reduces in one order, with zeros where this rank has no gradient.
            root.set_reduce_scatter_unused_params(True)
            root.start_reduction(torch.zeros((), requires_grad=True)).backward()
            # A weight that no rank has reached has no gradient: one of zeros would let the optimizer decay it.
            for parameter, flag in zip(self._parameters(), reached, strict=True):
                if not flag:
                    parameter.sharded_param.grad = None

    def state(self) -> dict[str, Tensor]:
        """The model's whole weights in main memory, as its `state_dict` has them; empty on all ranks but the first."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state: Any = get_model_state_dict(self._root.model, options=options)
        return dict(state)

    def load(self, state: dict[str, Tensor]) -> None:
        """Take the whole weights that rank 0 gives; names that are not in them keep what they have."""
        given: dict[str, Any] = dict(state)
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=False)
        set_model_state_dict(self._root.model, given, options=options)

    def _materialise(self, whole: dict[str, Tensor]) -> None:
        """Give ranks whose model is on the meta device storage, then rank 0's weights and buffers to all."""
        model: nn.Module = self._root.model
        if not is_main():
            model.to_empty(device=default_device())
        self.load(whole)
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)

    def _keep_whole(self, keep: bool) -> None:
        for module in self._modules:
            if keep:
                module.unshard()
            if self.zero == "zero3" and module is not self._root:
                module.set_reshard_after_forward(not keep, recurse=False)
            module.set_reshard_after_backward(not keep, recurse=False)
            if not keep:
                module.reshard()

    def _parameters(self) -> list[Any]:
        """FSDP's own records: it keeps unreduced gradients in them, where no public call reaches."""
        groups = [group for module in self._modules for group in module._get_fsdp_state()._fsdp_param_groups]
        return [parameter for group in groups for parameter in group.fsdp_params]

    def _reached(self) -> list[bool]:
        """Which weights have a gradient on any rank."""
        own = [p.unsharded_accumulated_grad is not None or p._unsharded_param.grad is not None for p in self._parameters()]
        flags = torch.tensor(own, dtype=torch.uint8)
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return [bool(flag) for flag in flags.tolist()]

    def _forget(self) -> None:
        """Drop what a failed accumulation left."""
        self._root.reset_iter_state()
        for parameter in self._parameters():
            parameter.unsharded_accumulated_grad = None
            parameter._unsharded_param.grad = None


def shard(scorer: TokenScorer, zero: Zero, *, replicas: int, compute_dtype: torch.dtype) -> Shards:
    """Shard a scorer over all ranks, in `replicas` copies of its weights, each on the ranks' devices."""
    ranks = world_size()
    if ranks % replicas:
        raise UserError(f"cluster.replicas={replicas} does not divide the {ranks} training processes")
    device = default_device().type
    shape, names = ((ranks,), ("shard",)) if replicas == 1 else ((replicas, ranks // replicas), ("replicate", "shard"))
    return Shards(scorer, init_device_mesh(device, shape, mesh_dim_names=names), zero, compute_dtype)


def _start_reduction(scorer: TokenScorer, zero: Tensor) -> Tensor:
    """A forward that uses no weight: its backward begins and ends FSDP's reduction of what was accumulated."""
    return zero * 1


def _shard(module: nn.Module, **how: Any) -> None:
    """`fully_shard`, which gives the module a class of another name: transformers finds by it what to record."""
    from transformers.utils import output_capturing

    before = str(type(module))
    fully_shard(module, **how)
    registry = output_capturing._CAN_RECORD_REGISTRY
    if before in registry:
        registry[str(type(module))] = registry[before]
