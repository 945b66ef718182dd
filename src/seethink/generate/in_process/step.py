"""One decoding step of any family: the model's own forward, captured once as a plain list of tensor operations.

transformers' modules spend much of a small step in Python: masks, caches, keyword arguments, output classes. The
capture (torch's `make_fx`, shapes symbolic in the number of rows) keeps the operations alone, on the same parameters;
attention is the one operation that the decoder does itself (decode_batch.py). A model that cannot be captured runs
uncaptured.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx
from transformers.cache_utils import Cache

from seethink.models.forward import attention_configs, next_logits
from seethink.models.load import LoadedModel, load_model

Attend = Callable[[int, Tensor, Tensor, Tensor, float, int], Tensor]
"""(layer, query [R, H, 1, D], key and value [R, K, 1, D], scale, window) -> [R, 1, H, D]."""
StepFn = Callable[[Tensor, Tensor], Tensor]
"""(token ids [R], positions [R]) -> logits [R, V]."""

NAME = "seethink_step"
TRACED_ROWS = 5
log = logging.getLogger(__name__)


@lru_cache
def _stand_in() -> tuple[Any, torch.library.Library]:
    """An operator that stands for the decoder's attention while a step is captured, and the library that keeps it.

    It has the shape of the attention and is never run.
    """
    library = torch.library.Library("seethink", "FRAGMENT")
    library.define("attend(int layer, Tensor query, Tensor key, Tensor value, float scale, int window) -> Tensor")
    library.impl(
        "attend",
        lambda layer, query, key, value, scale, window: query.transpose(1, 2).contiguous(),
        "CompositeExplicitAutograd",
    )
    return torch.ops.seethink.attend.default, library


class Step:
    """A StepFn. `attend` computes every layer's attention."""

    def __init__(self, loaded: LoadedModel, attend: Attend) -> None:
        self._model, self._attend = loaded.model, attend
        self._plain = _plain_step(loaded, attend)
        self.captured: StepFn | None = None
        try:
            self.captured = _capture(loaded, attend)
        except Exception as error:  # whatever tracing stumbles over, the model itself still runs
            log.info("decoding without a captured step: %s", error)

    def __call__(self, token_ids: Tensor, positions: Tensor) -> Tensor:
        if self.captured is not None:
            return self.captured(token_ids, positions)
        with _attention(self._model):
            return self._plain(token_ids, positions)


class _States(NamedTuple):
    """A layer's new keys and values; transformers passes them from the cache to the attention unopened."""

    layer: int
    key: Tensor
    value: Tensor
    attend: Attend

    def to(self, _: torch.device) -> _States:
        """As tensors have it: layers of Gemma 4 that share an earlier one's states ask for them on their own device."""
        return self


class _StepCache(Cache):
    """Keeps nothing, but hands the new keys and values on to the attention: the decoder keeps the past."""

    def __init__(self, attend: Attend) -> None:
        super().__init__(layers=[])
        self._attend = attend

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
        states = _States(layer_idx, key_states, value_states, self._attend)
        return states, states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 1


def _step_attention(
    module: nn.Module,
    query: Tensor,
    states: _States,
    _: Any,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    window = sliding_window or 0
    return states.attend(states.layer, query, states.key, states.value, float(scale), window), None


@contextmanager
def _attention(model: Any) -> Iterator[None]:
    """The language model's attention is the decoder's. No mask is made for it: every key it is given is visible."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(NAME, _step_attention)
    before = [(config, config._attn_implementation) for config in attention_configs(model)]
    for config, _ in before:
        config._attn_implementation = NAME
    try:
        yield
    finally:
        for config, name in before:
            config._attn_implementation = name


def _plain_step(loaded: LoadedModel, attend: Attend) -> StepFn:
    def step(token_ids: Tensor, positions: Tensor) -> Tensor:
        return next_logits(loaded.model, token_ids, positions, _StepCache(attend))

    return step


def _capture(loaded: LoadedModel, attend: Attend) -> StepFn:
    stand_in, _ = _stand_in()
    plain = _plain_step(loaded, stand_in)
    # Two tensors: one given twice would be taken for one input.
    given = [torch.zeros(TRACED_ROWS, dtype=torch.long, device=loaded.device) for _ in range(2)]
    structure = _structure(loaded)
    with _attention(loaded.model), torch.inference_mode(False), torch.no_grad(), _unlogged():
        known = _CAPTURES.get(structure) if structure else None
        module = known.on(loaded.model) if known else _traced(plain, given)
        if not torch.equal(module(*given), plain(*given)):
            raise RuntimeError("the captured step gives other logits than the model")
    if structure and known is None and (names := _names_of_tensors(module, loaded.model)) is not None:
        _CAPTURES[structure] = _Capture(deepcopy(module.graph), names)
    for node in module.graph.nodes:
        if node.target is stand_in:
            node.target = attend
    module.recompile()
    return module.forward


@contextmanager
def _unlogged() -> Iterator[None]:
    """torch writes a traceback of its own where tracing fails: of every mixture of experts in float32, which then runs
    uncaptured."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def capture_ahead(source: str) -> None:
    """Capture the step of a model now, for the processes that are forked from this one."""
    _capture(load_model(source), _stand_in()[0])


def _traced(plain: StepFn, given: list[Tensor]) -> fx.GraphModule:
    trace = make_fx(plain, tracing_mode="symbolic", pre_dispatch=True, _allow_non_fake_inputs=True)
    module = trace(*given)
    for node in module.graph.nodes:
        if node.target is torch._C._set_grad_enabled:
            module.graph.erase_node(node)  # a model's own `no_grad`, which would outlast the step
    module.recompile()
    return module


@dataclass(frozen=True)
class _Capture:
    """The operations of a step, for every model of one structure. Tracing takes seconds even for a small model."""

    graph: fx.Graph
    names: dict[str, str]
    """Attribute that the graph reads -> name of the model's parameter or buffer."""

    def on(self, model: nn.Module) -> fx.GraphModule:
        """These operations on the model's own tensors."""
        tensors = _tensors(model)
        return fx.GraphModule({own: tensors[name] for own, name in self.names.items()}, deepcopy(self.graph))


_CAPTURES: dict[str, _Capture] = {}
"""By structure, for the life of the process: a pipeline's stages, and evaluations, load the same model again."""


def _structure(loaded: LoadedModel) -> str | None:
    """All that decides a step's operations: None where it may be more than classes, configuration and shapes.

    That is so for code from elsewhere: a model's own (`trust_remote_code`), adapters, quantized layers.
    """
    model = loaded.model
    classes = {type(module).__module__ for module in model.modules()}
    if not all(name.startswith(("transformers.", "torch.nn.")) for name in classes):
        return None
    shapes = [(name, tuple(t.shape), str(t.dtype)) for name, t in _tensors(model).items()]
    config = model.config.to_dict() | {"_name_or_path": None}
    return repr((str(model), config, shapes, loaded.device, loaded.compute_dtype))


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())


def _names_of_tensors(module: fx.GraphModule, model: nn.Module) -> dict[str, str] | None:
    """None where the operations read a tensor that is not the model's."""
    names = {id(tensor): name for name, tensor in _tensors(model).items()}
    read = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    found = {own: names.get(id(getattr(module, own))) for own in read}
    return {own: name for own, name in found.items() if name is not None} if None not in found.values() else None
