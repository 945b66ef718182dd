"""A captured step made cheap to call from Python, with the same result to the last bit.

With few rows a step of a small model costs what its calls cost. So operations that do nothing are left out, equal ones
are made once, parameters are arguments (a module looks its attributes up slowly), and torch's own bindings are called:
they parse arguments about a microsecond faster than operators called by overload.
"""

from __future__ import annotations

import operator
from typing import Any, cast

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.passes.dialect.common.cse_pass import CSEPass

from seethink.models import small_cpu

aten = torch.ops.aten


def with_direct_calls(module: GraphModule) -> tuple[GraphModule, list[Any]]:
    """A new module, and the constants that its forward takes after its own arguments. `module` is used up."""
    if not small_cpu.ENABLED:
        return module, []
    for node in list(module.graph.nodes):
        if _does_nothing(node):
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
        elif node.target is torch._C._set_grad_enabled:
            module.graph.erase_node(node)
    merged = CSEPass()(module)
    assert merged is not None, "the pass always returns a module"
    module = merged.graph_module
    constants = _as_arguments(module)
    for node in module.graph.nodes:
        _call_directly(node)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module, constants


def _does_nothing(node: Node) -> bool:
    """A conversion to what a tensor is already, a slice of all of it, a product with 1."""
    match node.target, node.args:
        case aten.to.dtype, (Node() as given, dtype, *_):
            return bool(given.meta["val"].dtype == dtype)
        case aten.to.dtype_layout, (Node() as given,):
            kinds = [(n.meta["val"].dtype, n.meta["val"].device, n.meta["val"].layout) for n in (given, node)]
            return kinds[0] == kinds[1]
        case aten.slice.Tensor, (_, _, 0, end):
            return bool(end == torch.iinfo(torch.int64).max)
        case aten.mul.Tensor, (_, float() as factor):
            return factor == 1.0
    return False


def _as_arguments(module: GraphModule) -> list[Any]:
    """Every constant becomes an argument after the others; their values."""
    graph = module.graph
    arguments: dict[str, Node] = {}
    first = next(n for n in graph.nodes if n.op != "placeholder")
    for node in [n for n in graph.nodes if n.op == "get_attr"]:
        name = str(node.target)
        if name not in arguments:
            with graph.inserting_before(first):
                arguments[name] = graph.placeholder(name)
        node.replace_all_uses_with(arguments[name])
        graph.erase_node(node)
    return [getattr(module, name) for name in arguments]


def _call_directly(node: Node) -> None:
    """The tensor's method or the function of torch that has the operator's name, where there is one."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return
    if node.target is aten.to.dtype_layout:
        return  # the method knows no layout
    name = node.target._schema.name.removeprefix("aten::")
    is_method = isinstance(node.args[0], Node) and node.target._schema.arguments[0].name == "self"
    if node.target is aten.slice.Tensor:
        given, dim, *ends = node.args
        whole = [slice(None)] * cast(int, dim)
        node.target, node.args = operator.getitem, (given, (*whole, slice(*ends)))
    elif node.target is aten.sym_size.int:
        node.op, node.target = "call_method", "size"
    elif is_method and hasattr(Tensor, name):
        node.op, node.target = "call_method", name
    elif found := getattr(torch, name, None) or getattr(torch._C._nn, name, None):
        node.target = found
