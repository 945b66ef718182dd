"""Exports a run as a Hugging Face folder: weights in one dtype, processor, model card, lineage."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from seethink.config import PartModules
from seethink.core.errors import UserError
from seethink.core.files import read_json_lines, write_json
from seethink.export.card import write_card
from seethink.models.load import load_model
from seethink.report.load import load_run
from seethink.runs.folder import final_model

LINEAGE = "seethink.json"


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
    source = checkpoint or _final(run)
    if not (source / "config.json").is_file():
        raise ExportError(
            f"{source} is not a checkpoint: it has no config.json; pass a folder inside {run}/checkpoints"
        )
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise ExportError(f"{out} exists and is not empty; choose another folder")
    recipe = _json(run / "recipe.json")
    parts = recipe.get("parts", {}).get("modules")
    waiting = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(waiting, ignore_errors=True)
    waiting.parent.mkdir(parents=True, exist_ok=True)
    _write_weights(source, waiting, dtype, parts)
    lineage = _json(source / LINEAGE)
    write_json(waiting / LINEAGE, lineage)
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
    loaded = load_model(str(source), modules=PartModules(**modules) if modules else None)
    model = loaded.model.to("cpu", getattr(torch, dtype))
    model.config.dtype = getattr(torch, dtype)
    model.save_pretrained(folder)
    loaded.chat.processor.save_pretrained(folder)
    # Q-Former processors keep no chat template, their tokenizer does.
    loaded.chat.tokenizer.save_pretrained(folder)


def _quarantined(run: Path) -> dict[str, int]:
    """How many samples of the data set were unusable, by reason."""
    records = read_json_lines(run / "quarantine.jsonl")
    return dict(Counter(str(record.get("reason")) for record in records).most_common())


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
