"""A trained model some of whose parts are put back to what they were: which part holds a gain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from seethink.config import Part
from seethink.models.load import load_model
from seethink.models.parts import split_parts
from seethink.runs.checkpoint import export_whole
from seethink.studies.lab.schema import LabError

FOLDER = "model"


@torch.no_grad()
def put_back(after: str, before: str, parts: Sequence[Part], folder: Path) -> str:
    """Write the model `after` with the `parts` of `before` to `folder/model`, where it is not yet; returns its path.

    Raises LabError where the two are not of one architecture.
    """
    out = folder / FOLDER
    if out.exists():
        return str(out)
    loaded = load_model(after)
    new, old = split_parts(loaded.model), split_parts(load_model(before).model)
    for part in parts:
        shapes = [{name: weight.shape for name, weight in side[part].items()} for side in (new, old)]
        if shapes[0] != shapes[1]:
            raise LabError(f"{after} and {before} differ in the shapes of their {part}")
        for name, weight in new[part].items():
            weight.copy_(old[part][name])
    export_whole(loaded, out, {"after": after, "before": before, "put_back": list(parts)})
    return str(out)
