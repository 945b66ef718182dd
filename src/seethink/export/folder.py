"""Run folder -> a Hugging Face folder: weights in one dtype, processor, model card, lineage."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from pathlib import Path

import torch
from safetensors import SafetensorError

from seethink.config import PartModules
from seethink.core.errors import UserError, as_user_error
from seethink.core.files import refuse_full_folder, write_json
from seethink.export.card import write_card
from seethink.models.load import load_model
from seethink.models.weight_stream import write_weights
from seethink.report.load import load_run
from seethink.runs.reading import final_model, read_key, read_lines, read_object

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
    try:
        refuse_full_folder(out)
    except UserError as error:
        raise ExportError(str(error)) from None
    modules, lineage = read_key(run, "parts", "modules", PartModules), read_object(source / LINEAGE)
    stage, dropped = as_user_error(lambda: load_run(run)).stages[0], _quarantined(run)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as work:
            waiting = Path(work) / out.name
            _write_weights(source, waiting, dtype, modules)
            write_json(waiting / LINEAGE, lineage)
            write_card(waiting / "README.md", out.name, stage, lineage, dropped=dropped)
            if out.is_dir():
                out.rmdir()
            os.replace(waiting, out)
    except (OSError, SafetensorError) as error:
        raise ExportError(f"--out {str(out)!r} was not written: {error}; choose another place, or free some") from None
    return out


def _final(run: Path) -> Path:
    if not run.is_dir():
        raise ExportError(f"no run folder at {run}")
    final = final_model(run)
    if final is None:
        raise ExportError(f"{run} has not finished; resume it, or name a checkpoint with --checkpoint")
    return final


def _write_weights(source: Path, folder: Path, dtype: str, modules: PartModules | None) -> None:
    loaded = load_model(str(source), modules=modules)
    model = loaded.model.to("cpu", getattr(torch, dtype))
    model.config.dtype = getattr(torch, dtype)
    write_weights(model, folder)
    loaded.chat.processor.save_pretrained(folder)
    # Q-Former processors keep no chat template, their tokenizer does.
    loaded.chat.tokenizer.save_pretrained(folder)


def _quarantined(run: Path) -> dict[str, int]:
    """Rows left out of the data, by reason."""
    return dict(Counter(str(row.get("reason")) for row in read_lines(run / "quarantine.jsonl", [])).most_common())
