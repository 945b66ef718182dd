"""`seethink parts`: the parts of a model, from its configuration alone (no weights are read or allocated)."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text
from torch import nn

from seethink.config import PARTS, PartModules
from seethink.models.load import (
    ModelError,
    attach_family,
    check_source,
    model_path,
    prepare_transformers,
    refuse_unreachable,
    unreadable,
)
from seethink.models.parts import Family, family_of, split_parts
from seethink.models.weight_files import read_weights

DEPTH = 3
"""How many components of a module's name the table distinguishes."""


@dataclass(frozen=True, slots=True)
class Description:
    """A model on the meta device, and the dtypes of its stored weights."""

    model: Any
    stored_dtypes: dict[str, int]
    """Parameters by dtype in the folder's safetensors files; empty without weights."""


def meta_model(source: str, *, trust_remote_code: bool = False, modules: PartModules | None = None) -> Any:
    """The model without storage: every parameter has a shape and a dtype and costs no memory.

    Raises ModelError or PartsError.
    """
    prepare_transformers()
    from transformers import AutoConfig, AutoModelForImageTextToText

    path = model_path(source)
    check_source(source, path)
    refuse_unreachable(source, path)
    with unreadable(source):
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
        with torch.device("meta"):
            model = AutoModelForImageTextToText.from_config(
                config, dtype=config.dtype or torch.float32, trust_remote_code=trust_remote_code
            )
        model.tie_weights()
        attach_family(model, modules)
    return model


def describe(source: str, *, trust_remote_code: bool = False, modules: PartModules | None = None) -> Description:
    """The model of a folder, a hub name or a packaged name. Raises ModelError or PartsError."""
    model = meta_model(source, trust_remote_code=trust_remote_code, modules=modules)
    return Description(model, _stored(Path(model_path(source))))


def _stored(folder: Path) -> dict[str, int]:
    """Parameters by dtype, from the headers of the weight files. Raises ModelError where one is damaged."""
    weights = read_weights(folder)
    if weights.files and weights.problems:
        found, advice = weights.problems[0]
        raise ModelError(f"{folder}: {found}: {advice}")
    return dict(weights.sizes)


def as_json(description: Description) -> dict[str, Any]:
    """For scripts: parameters by part, and the family table's facts."""
    model, family = description.model, family_of(description.model)
    parts = split_parts(model)
    return {
        "model_type": model.config.model_type,
        "parameters": {part: _count(named) for part, named in parts.items()},
        "modules": {part: list(family.paths(part)) for part in PARTS},
        "tied": tied(model),
        "connector": family.connector_kind,
        "positions": family.positions,
        "images": family.images,
        "image_tokens": list(family.image_tokens),
        "stored": description.stored_dtypes,
        "found": list(family.evidence),
    }


def render(description: Description) -> Group:
    """For people: modules by role with their parameters, and the family table's facts."""
    model, family = description.model, family_of(description.model)
    parts = split_parts(model)
    total = sum(_count(named) for named in parts.values())
    table = Table(box=None, pad_edge=False, title=Text(f"{type(model).__name__}: {total:,} parameters"))
    table.add_column("part")
    table.add_column("modules", overflow="fold")
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    table.add_column("dtype")
    for part, named in parts.items():
        share = f"{100 * _count(named) / max(total, 1):.1f}%"
        table.add_row(Text(part, style="bold"), "", Text(f"{_count(named):,}", style="bold"), share, _dtypes(named))
        for module, count in _modules(named):
            table.add_row("", Text(module), f"{count:,}")
    facts = Table(box=None, show_header=False, pad_edge=False)
    for name, value in (
        ("connector", family.connector_kind),
        ("positions", family.positions),
        ("images", family.images),
        ("never sampled", " ".join(family.image_tokens) or "the config's image and video ids"),
        ("tied", ", ".join(tied(model)) or "nothing"),
        ("stored as", ", ".join(f"{n:,} x {d}" for d, n in description.stored_dtypes.items()) or "no weights here"),
    ):
        facts.add_row(Text(name, style="dim"), Text(value))
    return Group(table, Text(), facts, *_found(family))


def _found(family: Family) -> list[Text]:
    """Why the parts of a family that is not listed are where they are, and how a recipe states them."""
    if not family.evidence:
        return []
    modules = "\n".join(f"{part} = {json.dumps(list(family.paths(part)))}" for part in PARTS)
    return [
        Text("\nFound by the model's structure, as its family is not listed; proven on a picture when it is loaded:"),
        *(Text(f"  {line}") for line in family.evidence),
        Text("A recipe states them, or states them otherwise, by", style="dim"),
        Text(f"[parts.modules]\n{modules}", style="dim"),
    ]


def tied(model: Any) -> list[str]:
    """Names that share one weight: `lm_head.weight = model.language_model.embed_tokens.weight`."""
    first: dict[int, str] = {}
    found = []
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in first:
            found.append(f"{name} = {first[id(parameter)]}")
        first.setdefault(id(parameter), name)
    return found


def _count(named: dict[str, nn.Parameter]) -> int:
    return sum(p.numel() for p in named.values())


def _dtypes(named: dict[str, nn.Parameter]) -> str:
    return ", ".join(sorted({str(p.dtype).removeprefix("torch.") for p in named.values()}))


def _modules(named: dict[str, nn.Parameter]) -> list[tuple[str, int]]:
    """(module, parameters) of a part; numbered layers share one row."""
    counts: Counter[str] = Counter()
    layers: dict[str, set[str]] = {}
    for name, parameter in named.items():
        path = name.split(".")
        number = next((i for i, piece in enumerate(path) if piece.isdigit()), None)
        key = ".".join(path[:number] if number is not None else path[: min(DEPTH, len(path) - 1)]) or name
        counts[key] += parameter.numel()
        if number is not None:
            layers.setdefault(key, set()).add(path[number])
    times = {key: f" x {len(numbers)}" for key, numbers in layers.items()}
    return [(key + times.get(key, ""), count) for key, count in counts.items()]
