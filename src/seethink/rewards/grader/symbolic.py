"""Hands an equality that arithmetic cannot settle to the worker processes."""

from __future__ import annotations

from typing import Any

from seethink.rewards.grader.pool import get_pool
from seethink.rewards.grader.syntax import Call, Const, Group, Node, Num, Sym


def equal_in_worker(gold: Node, found: Node) -> bool:
    """Whether sympy finds two expressions equal. Raises PoolError where no worker could tell."""
    try:
        trees = tree(gold), tree(found)
    except TypeError:
        return False  # no expression, so it equals none
    return get_pool().equal(*trees)


def tree(node: Node) -> list[Any]:
    """A node as the JSON that `worker.build` reads. Raises TypeError for a node that is no expression."""
    match node:
        case Num():
            return ["num", f"{node.value.numerator}/{node.value.denominator}"]
        case Sym():
            return ["sym", node.name]
        case Const("pi" | "e" | "i" | "oo"):
            return ["const", node.name]
        case Call():
            return ["call", node.name, [tree(arg) for arg in node.args]]
        case Group("tuple", items):
            return ["tuple", [tree(item) for item in items]]
    raise TypeError("not an expression that sympy could hold")
