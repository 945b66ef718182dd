"""Which parts learn, at what rate, and the proof that exactly they moved."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.table import Table
from torch import nn

from seethink.config import PARTS, Part, Recipe
from seethink.models.parts import split_parts


class FrozenPartMovedError(RuntimeError):
    """A part that was to stay moved, or one that was to learn did not."""


@dataclass(frozen=True)
class PartRow:
    part: str
    parameters: int
    trainable: bool
    in_optimizer: int
    lr: float


def param_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Freeze what the recipe does not train; one optimizer group a part (norms and biases undecayed apart)."""
    groups = []
    for part, named in split_parts(model).items():
        trainable = part in recipe.parts.train
        for parameter in named.values():
            parameter.requires_grad_(trainable)
        for decayed in (True, False):
            members = [p for p in named.values() if trainable and (p.ndim >= 2) == decayed]
            if members:
                decay = recipe.optim.weight_decay if decayed else 0.0
                lr = recipe.lr(part)
                groups.append({"params": members, "lr": lr, "base_lr": lr, "weight_decay": decay, "part": part})
    return groups


class PartsProof:
    """Remembers the weights at the start and measures how far each part has gone since."""

    def __init__(self, model: nn.Module, recipe: Recipe, optimizer: torch.optim.Optimizer) -> None:
        self._parts = split_parts(model)
        self._trained = set(recipe.parts.train)
        self._start = {name: p.detach().clone() for named in self._parts.values() for name, p in named.items()}
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        self.rows = [
            PartRow(
                part=part,
                parameters=sum(p.numel() for p in named.values()),
                trainable=any(p.requires_grad for p in named.values()),
                in_optimizer=sum(p.numel() for p in named.values() if id(p) in held),
                lr=recipe.lr(part) if part in self._trained else 0.0,
            )
            for part, named in self._parts.items()
        ]

    def change(self) -> dict[Part, float]:
        """Relative L2 distance of each part from the start: |now - start| / |start|."""
        return {part: self._part_change(part) for part in PARTS}

    def _part_change(self, part: Part) -> float:
        moved = total = 0.0
        for name, parameter in self._parts[part].items():
            start = self._start[name].double()
            moved += float((parameter.detach().double() - start).square().sum())
            total += float(start.square().sum())
        return float((moved / max(total, 1e-30)) ** 0.5)

    def check(self, *, updated: bool = True, saw_images: bool = True) -> dict[Part, float]:
        """The change per part; raises FrozenPartMovedError where it contradicts the recipe.

        A part that learns need not have moved before an update, nor vision and connector before an image.
        """
        change = self.change()
        for part, amount in change.items():
            if part not in self._trained and amount != 0.0:
                raise FrozenPartMovedError(f"{part} is frozen by parts.train but moved by {amount:.2e} of its norm")
            due = updated and (saw_images or part == "language")
            if part in self._trained and due and amount == 0.0:
                raise FrozenPartMovedError(
                    f"{part} is in parts.train but did not move: no gradient reaches it, or its lr is too small for "
                    "the weights' precision"
                )
        return change

    def as_json(self) -> list[dict[str, Any]]:
        return [asdict(row) for row in self.rows]

    def table(self) -> Table:
        table = Table("part", title="Parts")
        for heading in ("parameters", "trainable", "in optimizer", "lr"):
            table.add_column(heading, justify="right")
        for row in self.rows:
            cells = (
                f"{row.parameters:,}",
                "yes" if row.trainable else "no",
                f"{row.in_optimizer:,}",
                f"{row.lr:.1e}",
            )
            table.add_row(row.part, *cells)
        return table
