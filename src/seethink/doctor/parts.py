"""Which parts learn, at what rate, by adapters or in full; and the model frozen accordingly, for the estimate."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from seethink.config import PARTS, Recipe, part_lr
from seethink.core.errors import UserError
from seethink.doctor.check import Report, Status, plural
from seethink.models.describe import meta_model
from seethink.models.lora import add_adapters, is_adapter, quantize_base
from seethink.models.parts import split_parts
from seethink.models.quantized import count_numbers
from seethink.models.trainable import param_groups

SECTION = "parts"


def check_parts(report: Report, recipe: Recipe, known: Any) -> Any:
    """The model on the meta device as the run would train it, or None. `known` says whether it is understood."""
    if known is None:
        report.add(SECTION, "trained", Status.SKIP, "the model's parts are not known")
        return None
    # Another one: adapters and frozen weights must not show in the other checks.
    model = meta_model(recipe.model, trust_remote_code=recipe.trust_remote_code, modules=recipe.parts.modules)
    if recipe.lora.parts:
        try:
            quantize_base(model, recipe.lora)
            add_adapters(model, recipe.lora, recipe.seed)
        except UserError as error:
            advice = "install what is missing, or leave the part out of lora.parts"
            report.add(SECTION, "lora", Status.FAIL, str(error), advice)
            return None
    param_groups(model, recipe.parts, recipe.lora, recipe.optim)
    rows = _rows(model, recipe)
    report.tables.append(_table(rows))
    report.facts["parts"] = rows
    learning = sum(row["trained"] for row in rows)
    adapted = f", through LoRA in {', '.join(recipe.lora.parts)}" if recipe.lora.parts else ""
    adapted += f" over a base in {recipe.lora.base}" if recipe.lora.base != "float32" else ""
    found = f"{learning:,} of {sum(row['parameters'] for row in rows):,} parameters{adapted}"
    report.add(SECTION, "trained", Status.PASS, found)
    _check_rates(report, recipe)
    return model


def _rows(model: Any, recipe: Recipe) -> list[dict[str, Any]]:
    return [
        {
            "part": part,
            "parameters": count_numbers(model, named),
            "trained": sum(p.numel() for p in named.values() if p.requires_grad),
            "lr": part_lr(part, recipe.parts, recipe.optim) if part in recipe.parts.train else 0.0,
            "adapters": sum(p.numel() for name, p in named.items() if is_adapter(name)),
        }
        for part, named in split_parts(model).items()
    ]


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="Parts", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("part")
    for heading in ("parameters", "trained", "of them LoRA", "lr"):
        table.add_column(heading, justify="right")
    for row in rows:
        lr = f"{row['lr']:.1e}" if row["trained"] else "frozen"
        table.add_row(row["part"], f"{row['parameters']:,}", f"{row['trained']:,}", f"{row['adapters']:,}", lr)
    return table


def _check_rates(report: Report, recipe: Recipe) -> None:
    """A rate for a part that does not learn is a mistake that nothing else would tell."""
    idle = [f"parts.lr.{part}" for part in PARTS if part in recipe.parts.lr and part not in recipe.parts.train]
    if idle:
        found = f"{', '.join(idle)} set{'s' if len(idle) == 1 else ''} a rate for {plural(len(idle), 'frozen part')}"
        report.add(SECTION, "rates", Status.WARN, found, "name the part in parts.train, or remove its rate")
