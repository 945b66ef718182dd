"""What runs inside vLLM's processes, and the one module that imports vLLM: the server's end of weight sync over gloo.

vLLM loads it by the entry point group `vllm.general_plugins` (pyproject.toml): seethink must be installed in the
environment that vLLM is installed in. `NcclTransfer` is the trainer's end of vLLM's own NCCL engine; it needs vLLM in
the trainer's environment too.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seethink.generate.gloo import ENGINE, broadcast, gloo_group
from seethink.generate.kept_weights import KeptWeights


def register() -> None:
    """Make `--weight-transfer-config '{"backend": "seethink_gloo"}'` known to vLLM."""
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    if ENGINE not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(ENGINE, _engine_class())


def _engine_class() -> type[Any]:
    from vllm.distributed.weight_transfer.base import (
        WeightTransferEngine,
        WeightTransferInitInfo,
        WeightTransferUpdateInfo,
    )
    from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

    @dataclass
    class Init(WeightTransferInitInfo):  # type: ignore[misc]
        address: str
        port: int
        world: int

    @dataclass
    class Update(WeightTransferUpdateInfo):  # type: ignore[misc]
        names: list[str]
        shapes: list[list[int]]
        dtype: str
        keeps: bool = False
        """Whether the server is to keep what it is sent, and merge adapters into it."""

    class GlooEngine(WeightTransferEngine):  # type: ignore[misc]
        """Receives buckets from the trainer, rank 0 of a group with this server's workers."""

        init_info_cls, update_info_cls = Init, Update

        def init_transfer_engine(self, info: Init) -> None:
            worker = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
            with socket.create_connection((info.address, info.port), timeout=60) as probe:
                own = probe.getsockname()[0]
            self._kept = KeptWeights()
            self._group, self._store = gloo_group(info.address, info.port, 1 + worker, info.world, own=own)

        def start_weight_update(self) -> None:
            initialize_layerwise_reload(self.model)

        def update_weights(self, update_info: dict[str, Any]) -> None:
            # The base class ends in torch.accelerator.synchronize(), which a CPU has not.
            self.receive_weights(self.parse_update_info(update_info))
            if self.device.type != "cpu":
                torch.accelerator.synchronize()

        def receive_weights(self, info: Update) -> None:
            sizes = [torch.Size(shape).numel() for shape in info.shapes]
            flat = torch.empty(sum(sizes), dtype=getattr(torch, info.dtype))
            broadcast(self._group, flat).wait()
            values = flat if info.keeps else flat.to(self.device)
            parts = zip(info.names, values.split(sizes), info.shapes, strict=True)
            if not info.keeps:
                self.model.load_weights((name, part.view(shape)) for name, part, shape in parts)
                return
            for name, part, shape in parts:
                self._kept.take(name, part.view(shape))

        def finish_weight_update(self) -> None:
            if self._kept:
                # All of them, also where few were sent: layers that vLLM fuses are loaded as one.
                kept = self._kept.merged(self.model_config.dtype)
                self.model.load_weights((name, tensor.to(self.device)) for name, tensor in kept)
            finalize_layerwise_reload(self.model, self.model_config)
            repack_tied_heads(self.model)

        def shutdown(self) -> None:
            self._group = self._store = None

    return GlooEngine


def repack_tied_heads(model: torch.nn.Module) -> None:
    """Let every output head make its packed copy of the weights again.

    On a CPU vLLM packs the head when it loads. A tied head gets its new values through the embedding, and the packed
    copy would stay as it was: logits of the old head over hidden states of the new model.
    """
    heads: Iterator[Any] = model.modules()
    for module in heads:
        if type(module).__name__ == "ParallelLMHead":
            module.quant_method.process_weights_after_loading(module)


class _Bucket:
    """vLLM's WeightSource: one bucket."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.tensors: list[Tensor] = []

    def metadata(self) -> list[Any]:
        from vllm.distributed.weight_transfer.base import ParamMeta

        return [ParamMeta(n, t.dtype, tuple(t.shape)) for n, t in zip(self.names, self.tensors, strict=True)]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        return iter(zip(self.names, self.tensors, strict=True))


class NcclTransfer:
    """Buckets between GPUs by vLLM's own engine (`--weight-transfer-config '{"backend": "nccl"}'`). Not run yet."""

    def __init__(self, address: str, port: int, workers: int, client: Any) -> None:
        """`client` has the `init_weight_transfer_engine` and `update_weights` of vLLM's VLLMWeightSyncClient; start and
        finish are WeightSync's."""
        from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

        self._bucket = _Bucket()
        info = NCCLTrainerInitInfo(address, port, 1 + workers, rank=0)
        self._engine = WeightTransferTrainerFactory.trainer_init(info, client=client, source=self._bucket)

    def send(self, names: list[str], tensors: list[Tensor], keeps: bool) -> None:
        assert not keeps, "vLLM's own engine keeps nothing"
        self._bucket.names, self._bucket.tensors = names, tensors
        self._engine.send_weights()

    def close(self) -> None:
        self._engine.shutdown()
