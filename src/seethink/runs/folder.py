"""The run folder: made or taken up again, and refused where it holds another run than the one that is asked for, or
things of others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seethink.config import Recipe, recipe_keys
from seethink.core.console import say
from seethink.core.errors import UserError
from seethink.core.files import WAITING, write_json
from seethink.runs.checkpoint import Checkpoint, clear_leftovers, newest_checkpoint, set_damaged_aside
from seethink.runs.identity import changed_versions, differing_keys, model_identity, versions
from seethink.runs.lock import FILE as LOCK
from seethink.runs.lock import is_lock
from seethink.runs.metrics import read_metrics
from seethink.runs.reading import DONE, IDENTITY, RECIPE, RunFileError, read_object, read_recipe

CONTENTS = ("data", "model")
"""What `--allow` takes besides recipe keys: the content of the data, and of the base model."""
STARTED = frozenset(
    {LOCK, IDENTITY, RECIPE, "data.sha256", "data.json", "quarantine.jsonl", "verifier.jsonl"}
    | {f"verdicts.sqlite{suffix}" for suffix in ("", "-wal", "-shm", "-journal")}
)
"""What a run writes before its first step."""
MADE = STARTED | {
    DONE, "metrics.jsonl", "parts.json", "entropy.jsonl", "blindness.jsonl", "watchdogs.jsonl", "checkpoints", "best",
    ".best.tmp", ".best.old", "rollouts", "images", "bad_steps", "tensorboard",
    "trackers.json", "wandb", "swanlab",
}  # fmt: skip
"""All that a run writes or removes in its folder; a test compares it with a run's."""


class RunFolderError(UserError):
    """A run folder that cannot be used; the message says what to do."""


def refuse_foreign_folder(folder: Path, *, resume: bool) -> None:
    """Raises RunFolderError where a run would be among things that it did not make, before anything is touched.

    A new run wants an empty folder, or one in which an earlier start of a run failed before its first step. A resumed
    one wants the folder of a run; where there is none yet, as in a pipeline, it begins if none of its names is taken.
    """
    if not folder.is_dir():
        return
    try:
        there = sorted(path for path in folder.iterdir() if not path.name.endswith(WAITING))
    except OSError as error:
        raise RunFolderError(f"{folder} cannot be read: {error}; choose another out") from None
    there = [path for path in there if path.name != LOCK or not is_lock(path)]
    if not resume and (folder / "metrics.jsonl").exists():
        raise RunFolderError(f"{folder} already holds a run: add --resume to go on with it, or choose another out")
    if _is_signed(folder):
        foreign = [] if resume else [path for path in there if path.name not in STARTED]
    elif resume:
        foreign = [path for path in there if path.name in MADE]
    else:
        foreign = [path for path in there if path.name in MADE or not _is_empty_file(path)]
    if foreign:
        shown = ", ".join(path.name for path in foreign[:5]) + (" and others" if len(foreign) > 5 else "")
        raise RunFolderError(
            f"{folder} holds things that this run did not make, and they stay as they are: {shown} in the way. Choose "
            "another out, or move them away"
        )


def _is_empty_file(path: Path) -> bool:
    """As a shell makes one for the output of this very command."""
    return path.is_file() and path.stat().st_size == 0


def _is_signed(folder: Path) -> bool:
    """Whether a run of ours signed the folder. Raises RunFileError where one of its two signatures is damaged."""
    signed, damaged = False, None
    for name, key in ((IDENTITY, "versions"), (RECIPE, "stage")):
        try:
            table = read_object(folder / name)
        except RunFileError as error:
            damaged = error
            continue
        signed = signed or isinstance(table.get(key), str | dict)
    if signed and damaged is not None:
        raise damaged
    return signed


def prepare_folder(recipe: Recipe, *, resume: bool, allow: Sequence[str] = ()) -> Checkpoint | None:
    """Sign the folder of a new run, or find where to resume. Raises RunFolderError.

    A resumed run signs when it goes on: until then nothing in the folder has changed.
    """
    checkpoint = _take_up(recipe, allow) if resume else None
    if checkpoint is None:
        sign(recipe, None)
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
    every = read_recipe(folder).get("checkpoint", {}).get("every")
    records = read_metrics(folder)
    if records and ((every and records[-1]["step"] > every) or (folder / DONE).exists()):
        raise RunFolderError(
            f"cannot resume: {folder} has the metrics of {records[-1]['step']} steps but no checkpoint (removed, or "
            f"the disk was full); put them back, or delete {folder} to begin again"
        )


def refuse_changes(recipe: Recipe, allow: Sequence[str] = ()) -> list[str]:
    """The keys that differ from the recipe that the run in the folder was started with, all of them named in `allow`.

    Raises RunFolderError where others differ, or the base model. A key is also allowed by its section. The folder may
    have moved.
    """
    check_allowed(allow)
    saved = read_recipe(Path(recipe.out))
    if not saved:
        return []
    differing = differing_keys(saved, recipe)
    changed = {key: values for key, values in differing.items() if not is_allowed(key, allow)}
    if changed:
        raise RunFolderError(
            f"cannot resume: the recipe differs in {', '.join(changed)} ({_shown(changed)}); choose another out, or "
            f"go on with the new values by {' '.join(f'--allow {key}' for key in changed)}"
        )
    _refuse_other_model(recipe, saved, allow)
    return list(differing)


def _refuse_other_model(recipe: Recipe, saved: dict[str, Any], allow: Sequence[str]) -> None:
    before = read_object(Path(recipe.out) / IDENTITY).get("model")
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
        # A key may hold a table, of which a name is one entry: data.domain_weights.geometry.
        if name not in CONTENTS and not any(is_allowed(key, [name]) or is_allowed(name, [key]) for key in keys):
            raise RunFolderError(
                f"--allow {name}: no such recipe key; give one, or `data` or `model` for their content"
            )


def is_allowed(key: str, allow: Sequence[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in allow)


def _shown(changed: dict[str, tuple[Any, Any]]) -> str:
    """Old and new values, short; a server's address may hold a secret and is left out."""
    shown = [f"{key}: {old!r} -> {new!r}" for key, (old, new) in changed.items() if not key.startswith("reward.verif")]
    return "; ".join(text if len(text) < 120 else f"{text[:119]}…" for text in shown[:5]) or "values not shown"


def sign(recipe: Recipe, checkpoint: Checkpoint | None) -> None:
    """Write recipe.json, and identity.json: base model, versions, and which keys were changed on the way."""
    folder = Path(recipe.out)
    about: dict[str, Any] = {"model": model_identity(recipe.model), "versions": versions(), "changes": []}
    if checkpoint is not None:
        warning = changed_versions(checkpoint.state.get("versions", {}))
        if warning:
            say(f"resuming with other code ({warning}): the numbers may differ", "yellow")
        changes = read_object(folder / IDENTITY).get("changes")
        about["changes"] = changes if isinstance(changes, list) else []
        for key, (old, new) in differing_keys(read_recipe(folder), recipe).items():
            when = time.strftime("%Y-%m-%d %H:%M:%S")
            about["changes"].append({"after_step": checkpoint.step, "key": key, "old": old, "new": new, "at": when})
    write_json(folder / IDENTITY, about)
    write_json(folder / RECIPE, recipe.as_table())


def seconds_so_far(folder: Path) -> float:
    """Seconds that the steps of a run took in all."""
    seconds = [record.get("time/step_s") for record in read_metrics(folder)]
    return float(sum(value for value in seconds if isinstance(value, int | float)))
