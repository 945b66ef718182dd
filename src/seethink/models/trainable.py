"""Which parts learn, at what rate, and the proof that exactly these parts moved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from rich.table import Table
from torch import Tensor, nn

from seethink.config import PARTS, LoraConfig, OptimConfig, Part, PartsConfig, part_lr
from seethink.models.lora import is_adapter
from seethink.models.parts import split_parts
from seethink.models.quantized import count_numbers
from seethink.models.shares import own_share


class FrozenPartMovedError(RuntimeError):
    """A frozen part moved, or a part that was to learn did not."""


@dataclass(frozen=True)
class PartRow:
    """One part of the model, as the table of parts shows it."""

    part: str
    parameters: int
    """Adapters included."""
    trainable: bool
    in_optimizer: int
    lr: float
    adapters: int = 0
    """How many of the parameters belong to LoRA adapters."""


def param_groups(model: nn.Module, parts: PartsConfig, lora: LoraConfig, optim: OptimConfig) -> list[dict[str, Any]]:
    """Freeze the parts that are not in `parts.train`; returns the optimizer's groups for the others.

    Each part has a group of matrices and one of norms and biases, which have no weight decay. A part in `lora.parts`
    learns through its adapters alone. A group's "base_lr" is the rate before any schedule.
    """
    groups = []
    for part, named in split_parts(model).items():
        for name, parameter in named.items():
            adapted = part not in lora.parts or is_adapter(name)
            parameter.requires_grad_(part in parts.train and adapted)
        for decayed in (True, False):
            members = [p for p in named.values() if p.requires_grad and (p.ndim >= 2) == decayed]
            if members:
                decay = optim.weight_decay if decayed else 0.0
                lr = part_lr(part, parts, optim)
                groups.append({"params": members, "lr": lr, "base_lr": lr, "weight_decay": decay, "part": part})
    return groups


class PartsProof:
    """Remembers the weights at the start, in main memory, and measures how far each part has gone since.

    Of sharded weights a rank knows its own shares; `over_ranks` adds a number up over ranks.
    """

    def __init__(
        self,
        model: nn.Module,
        parts: PartsConfig,
        optimizer: torch.optim.Optimizer,
        *,
        over_ranks: Callable[[float], float] | None = None,
    ) -> None:
        self._over_ranks = over_ranks or float
        self._parts = split_parts(model)
        self._trained = set(parts.train)
        self._start = {name: _copy(p) for named in self._parts.values() for name, p in named.items()}
        rates = {group["part"]: float(group["base_lr"]) for group in optimizer.param_groups}
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        self.rows = [
            PartRow(
                part=part,
                parameters=count_numbers(model, named),
                trainable=any(p.requires_grad for p in named.values()),
                in_optimizer=sum(p.numel() for p in named.values() if id(p) in held),
                lr=rates.get(part, 0.0),
                adapters=sum(p.numel() for name, p in named.items() if is_adapter(name)),
            )
            for part, named in self._parts.items()
        ]
        self._check_optimizer()

    def _check_optimizer(self) -> None:
        """Before the first step: the optimizer holds exactly the parameters that learn."""
        for row in self.rows:
            learning = sum(p.numel() for p in self._parts[cast(Part, row.part)].values() if p.requires_grad)
            if row.in_optimizer != learning or row.trainable != (row.part in self._trained):
                raise FrozenPartMovedError(
                    f"{row.part}: {learning:,} of {row.parameters:,} parameters are trainable and "
                    f"{row.in_optimizer:,} are in the optimizer; parts.train = {sorted(self._trained)}"
                )

    def change(self) -> dict[Part, float]:
        """Relative L2 distance of each part from the start: |now - start| / |start|."""
        return {part: self._distance(self._parts[part]) for part in PARTS}

    def _distance(self, named: dict[str, nn.Parameter]) -> float:
        moved = total = 0.0
        for name, parameter in named.items():
            if not parameter.is_floating_point():  # codes: how many changed
                moved += float((parameter != self._start[name].to(parameter.device)).sum())
                continue
            start = self._start[name].to(parameter.device).double()
            moved += float((own_share(parameter.detach()).double() - start).square().sum())
            total += float(start.square().sum())
        moved, total = self._over_ranks(moved), self._over_ranks(total)
        return float((moved / max(total, 1e-30)) ** 0.5)

    def check(self, *, updated: bool = True, saw_images: bool = True) -> dict[Part, float]:
        """The change per part; raises FrozenPartMovedError where it contradicts `parts.train`.

        A part that learns need not have moved before an update, nor vision and connector before an image.
        """
        change = self.change()
        for part, amount in change.items():
            frozen = {name: p for name, p in self._parts[part].items() if not p.requires_grad}
            stayed = amount if part not in self._trained else self._distance(frozen) if frozen else 0.0
            if stayed != 0.0:
                whose = f"{part} is frozen by parts.train" if part not in self._trained else f"{part} beneath its LoRA"
                raise FrozenPartMovedError(f"{whose} but moved by {stayed:.2e} of its norm")
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
                ("LoRA" if row.adapters else "yes") if row.trainable else "no",
                f"{row.in_optimizer:,}",
                f"{row.lr:.1e}",
            )
            table.add_row(row.part, *cells)
        return table


def _copy(parameter: nn.Parameter) -> Tensor:
    """On the CPU, so that the accelerator's memory does not pay for the proof."""
    return own_share(parameter.detach()).to("cpu", copy=True)
