"""The run folder: made or taken up again, and refused where it holds another run than the one that is asked for."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seethink.config import Recipe, recipe_keys
from seethink.core.console import console
from seethink.core.errors import UserError
from seethink.core.files import write_json
from seethink.runs.checkpoint import Checkpoint, clear_leftovers, newest_checkpoint, set_damaged_aside
from seethink.runs.identity import changed_versions, differing_keys, model_identity, versions
from seethink.runs.metrics import read_metrics

DONE = "done.json"
IDENTITY = "identity.json"
CONTENTS = ("data", "model")
"""What `--allow` takes besides recipe keys: the content of the data, and of the base model."""


class RunFolderError(UserError):
    """A run folder that cannot be used; the message says what to do."""


def prepare_folder(recipe: Recipe, *, resume: bool, allow: Sequence[str] = ()) -> Checkpoint | None:
    """Make the run folder, or find where to resume. Raises RunFolderError."""
    folder = Path(recipe.out)
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"out={recipe.out!r} is a file; choose a folder")
    if (folder / "metrics.jsonl").exists() and not resume:
        raise RunFolderError(f"{folder} already holds a run: add --resume to go on with it, or choose another out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"out={recipe.out!r} cannot be made: {error}; choose another folder") from None
    checkpoint = _take_up(recipe, allow) if resume else None
    _sign(recipe, checkpoint)
    write_json(folder / "recipe.json", recipe.as_table())
    return checkpoint


def _take_up(recipe: Recipe, allow: Sequence[str]) -> Checkpoint | None:
    """The checkpoint to go on from; None where the run died before its first."""
    folder = Path(recipe.out)
    checkpoints = folder / "checkpoints"
    for place in (folder, checkpoints):
        clear_leftovers(place)
    checkpoint = newest_checkpoint(checkpoints)
    if checkpoint is None:
        _refuse_lost_checkpoints(folder)
        return None
    refuse_changes(recipe, allow)
    set_damaged_aside(checkpoints, checkpoint)
    return checkpoint


def _refuse_lost_checkpoints(folder: Path) -> None:
    """Raises RunFolderError where a run got past its first checkpoint and has none: it must not begin again unasked."""
    every = _read(folder / "recipe.json").get("checkpoint", {}).get("every")
    records = read_metrics(folder)
    if every and records and records[-1]["step"] > every:
        raise RunFolderError(
            f"cannot resume: {folder} has the metrics of {records[-1]['step']} steps but no checkpoint (removed, or "
            f"the disk was full); put them back, or delete {folder} to begin again"
        )


def refuse_changes(recipe: Recipe, allow: Sequence[str] = ()) -> None:
    """Raises RunFolderError where the run in the folder was started with another recipe or base model.

    Keys named in `allow` (or whose section is) may differ. The folder may have moved.
    """
    check_allowed(allow)
    folder = Path(recipe.out)
    if not (folder / "recipe.json").exists():
        return
    saved = _read(folder / "recipe.json")
    changed = {key: values for key, values in differing_keys(saved, recipe).items() if not is_allowed(key, allow)}
    if changed:
        raise RunFolderError(
            f"cannot resume: the recipe differs in {', '.join(changed)} ({_shown(changed)}); choose another out, or "
            f"go on with the new values by {' '.join(f'--allow {key}' for key in changed)}"
        )
    _refuse_other_model(recipe, saved, allow)


def _refuse_other_model(recipe: Recipe, saved: dict[str, Any], allow: Sequence[str]) -> None:
    before = _read(Path(recipe.out) / IDENTITY).get("model")
    now = model_identity(recipe.model)
    if is_allowed("model", allow):
        return
    # Where the weights cannot be compared the name must do.
    if (before != now) if before and now else (saved.get("model") != recipe.model):
        raise RunFolderError(
            f"cannot resume: the base model is not the one that the run started from ({saved.get('model')!r}, now "
            f"{recipe.model!r}, whose configuration or weights differ); put it back, choose another out, or go on with "
            "this one by --allow model"
        )


def check_allowed(allow: Sequence[str]) -> None:
    """Raises RunFolderError for a name that no recipe key or section has."""
    keys = recipe_keys()
    for name in allow:
        if name not in CONTENTS and not any(is_allowed(key, [name]) for key in keys):
            raise RunFolderError(
                f"--allow {name}: no such recipe key; give one, or `data` or `model` for their content"
            )


def is_allowed(key: str, allow: Sequence[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in allow)


def _shown(changed: dict[str, tuple[Any, Any]]) -> str:
    """Old and new values, short; a server's address may hold a secret and is left out."""
    shown = [f"{key}: {old!r} -> {new!r}" for key, (old, new) in changed.items() if not key.startswith("reward.verif")]
    return "; ".join(text if len(text) < 120 else f"{text[:119]}…" for text in shown[:5]) or "values not shown"


def _sign(recipe: Recipe, checkpoint: Checkpoint | None) -> None:
    """identity.json: base model, versions, and which keys were changed on the way."""
    folder = Path(recipe.out)
    about: dict[str, Any] = {"model": model_identity(recipe.model), "versions": versions(), "changes": []}
    if checkpoint is not None:
        warning = changed_versions(checkpoint.state.get("versions", {}))
        if warning:
            console.print(f"resuming with other code ({warning}): the numbers may differ", style="yellow", markup=False)
        about["changes"] = _read(folder / IDENTITY).get("changes", [])
        for key, (old, new) in differing_keys(_read(folder / "recipe.json"), recipe).items():
            when = time.strftime("%Y-%m-%d %H:%M:%S")
            about["changes"].append({"after_step": checkpoint.step, "key": key, "old": old, "new": new, "at": when})
    write_json(folder / IDENTITY, about)


def _read(path: Path) -> dict[str, Any]:
    """A JSON object of ours; an empty one where there is none."""
    if not path.exists():
        return {}
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunFolderError(
            f"{path} cannot be read ({error}); put it back from a copy, or choose another out"
        ) from None
    return table if isinstance(table, dict) else {}


def final_model(folder: Path) -> Path | None:
    """The checkpoint that a finished run ended with, or None."""
    done = folder / DONE
    if not done.exists():
        return None
    return folder / str(json.loads(done.read_text(encoding="utf-8"))["final"])


def seconds_so_far(folder: Path) -> float:
    return float(sum(record.get("time/step_s") or 0.0 for record in read_metrics(folder)))
