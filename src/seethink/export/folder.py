"""Run folder -> a Hugging Face folder: weights in one dtype, processor, model card, lineage."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from seethink.core.errors import UserError
from seethink.export.card import write_card
from seethink.models.load import load_model
from seethink.report.load import load_run
from seethink.runs.folder import final_model

LINEAGE = "seethink.json"
DTYPES = ("bfloat16", "float16", "float32")


class ExportError(UserError):
    """A run that cannot be exported; the message says what to do."""


def export_run(run: Path, out: Path, *, checkpoint: Path | None = None, dtype: str = "bfloat16") -> Path:
    """Write a run's model as a folder that plain transformers and vLLM load, with a model card.

    The folder is written under a temporary name and renamed: a folder with its final name is complete.

    Args:
        run: Folder of a finished run.
        out: Folder to write; it must be empty or not exist.
        checkpoint: This checkpoint instead of the one that the run ended with.
        dtype: `bfloat16`, `float16` or `float32`; of the weights.

    Returns:
        `out`.

    Raises:
        ExportError: The run has not finished, the checkpoint is not one, or `out` is not empty.
    """
    run, out = Path(run), Path(out)
    if dtype not in DTYPES:
        raise ExportError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
    source = Path(checkpoint) if checkpoint is not None else _final(run)
    if not (source / "config.json").is_file():
        raise ExportError(f"{source} is not a checkpoint (no config.json in it); name one of {run}/checkpoints")
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise ExportError(f"{out} exists and is not empty; choose another folder")
    recipe = _json(run / "recipe.json")
    parts = recipe.get("parts", {}).get("modules")
    waiting = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(waiting, ignore_errors=True)
    waiting.parent.mkdir(parents=True, exist_ok=True)
    _write_weights(source, waiting, dtype, parts)
    lineage = _json(source / LINEAGE)
    (waiting / LINEAGE).write_text(json.dumps(lineage, indent=2) + "\n", encoding="utf-8")
    write_card(waiting / "README.md", out.name, load_run(run).stages[0], lineage, dropped=_quarantined(run))
    if out.is_dir():
        out.rmdir()
    os.replace(waiting, out)
    return out


def _final(run: Path) -> Path:
    if not run.is_dir():
        raise ExportError(f"no run folder at {run}")
    final = final_model(run)
    if final is None:
        raise ExportError(f"{run} has not finished; resume it, or name a checkpoint with --checkpoint")
    return final


def _write_weights(source: Path, folder: Path, dtype: str, modules: dict[str, Any] | None) -> None:
    from seethink.config import PartModules

    loaded = load_model(str(source), modules=PartModules(**modules) if modules else None)
    model = loaded.model.to("cpu", getattr(torch, dtype))
    model.config.dtype = getattr(torch, dtype)
    model.save_pretrained(folder)
    loaded.chat.processor.save_pretrained(folder)
    # Q-Former processors keep no chat template, their tokenizer does.
    loaded.chat.tokenizer.save_pretrained(folder)


def _quarantined(run: Path) -> dict[str, int]:
    """Rows left out of the data, by reason."""
    file = run / "quarantine.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return dict(Counter(str(json.loads(line).get("reason")) for line in lines if line.strip()).most_common())


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
