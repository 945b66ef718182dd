"""Checkpoints: a Hugging Face folder plus training state in safetensors and JSON.

Written to a temporary name with a hash of every file, then renamed, old ones deleted after: a folder with a final
name is complete. Reading checks the hashes and goes back to the checkpoint before where one does not match.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors.torch import load_file, save_file

from seethink.core.console import say
from seethink.core.files import sync
from seethink.dist.agreement import from_main
from seethink.dist.world import is_main
from seethink.models.load import ChatFiles, LoadedModel, export_model
from seethink.models.lora import is_adapter
from seethink.models.quantized import quantized_layers
from seethink.runs import manifest
from seethink.runs.identity import model_folder
from seethink.runs.manifest import write_manifest
from seethink.runs.optimizer_state import SHARES, CheckpointError, save_shares
from seethink.runs.reading import RunFileError, State, read_object

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Weights = dict[str, torch.Tensor]
"""A model's `state_dict`."""
DAMAGED = "damaged_"
STATE, TENSORS = "train_state/state.json", "train_state/tensors.safetensors"
_NAME = re.compile(r"step_(\d{6,18})", re.ASCII)
_LEFTOVER = re.compile(r"\.(step_\d{6,18}|best)\.(tmp|old)", re.ASCII)
"""What a killed save leaves half done."""
EXTRAS = 1 << 20
"""Room for headers, state and manifest, beside weights, processor and tokenizer."""
TEXTS = (".json", ".jinja", ".txt", ".model")
"""Files of processor and tokenizer."""


class NoRoomError(OSError):
    """The disk has too little room for the next checkpoint; nothing was written."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint on disk."""

    path: Path
    step: int
    state: dict[str, Any]
    """What the loop saved: position in the data, early stopping and the like."""


@dataclass(frozen=True, slots=True)
class Retention:
    """Which checkpoints stay: the newest, and the best by the score saved with each."""

    newest: int
    best: int = 0
    mode: Literal["max", "min"] = "max"


def save_checkpoint(
    folder: Path,
    step: int,
    loaded: LoadedModel,
    tensors: dict[str, torch.Tensor],
    state: dict[str, Any],
    about: dict[str, Any],
    *,
    keep: int | Retention,
    weights: Weights | None = None,
    shares: dict[str, torch.Tensor] | None = None,
    chat: ChatFiles | None = None,
    group: ProcessGroup | None = None,
) -> Path:
    """Write `folder/step_NNNNNN` in one move, then drop the old ones that are not to stay.

    A failure, a full disk among others, raises and leaves what was there before. Where ranks share the weights, all of
    them call it, with rank 0's `folder`: it has the whole `weights` and writes, and each rank adds its `shares`.

    In a thread beside training all that is given are copies (`runs/snapshot.py`), `weights` and `chat` too, and ranks
    have a `group` for it.
    """
    final = folder / f"step_{step:06d}"
    whole = loaded.model.state_dict() if weights is None else weights
    tensors = tensors | {f"lora/{name}": weight for name, weight in whole.items() if is_adapter(name)}

    def fill(temporary: Path) -> None:
        export_model(loaded.model, loaded.chat if chat is None else chat, temporary, about, weights)
        save_file({k: v.contiguous() for k, v in tensors.items()}, temporary / TENSORS)
        (temporary / STATE).write_text(json.dumps({"step": step, **state}), encoding="utf-8")

    # Not the model's own: to ask for them in a thread takes gathered weights away from the main one.
    needed = export_bytes(loaded, whole) + _bytes(tensors) + _bytes(shares or {})
    with in_one_move(final, needed, shared=shares is not None, group=group) as temporary:
        if shares is not None:
            save_shares(shares, temporary / SHARES, group)
            from_main(lambda: fill(temporary), group)
        else:
            (temporary / "train_state").mkdir()
            fill(temporary)
    if is_main():
        drop_surplus(folder, keep if isinstance(keep, Retention) else Retention(keep), step)
    return final


def export_whole(loaded: LoadedModel, folder: Path, about: dict[str, Any], weights: Weights | None = None) -> None:
    """A Hugging Face folder, written in one move."""
    with in_one_move(folder, export_bytes(loaded)) as temporary:
        export_model(loaded.model, loaded.chat, temporary, about, weights)


def export_bytes(loaded: LoadedModel, weights: Weights | None = None) -> int:
    """The size of a model's folder, about."""
    source = model_folder(loaded.source)
    texts = [file for file in source.iterdir() if file.suffix in TEXTS and file.is_file()] if source else []
    whole = loaded.model.state_dict() if weights is None else weights
    restored = sum(4 * layer.numbers - layer.weight.nbytes for layer in quantized_layers(loaded.model).values())
    return _bytes(whole) + restored + sum(file.stat().st_size for file in texts) + EXTRAS


@contextmanager
def in_one_move(final: Path, needed: int, *, shared: bool = False, group: ProcessGroup | None = None) -> Iterator[Path]:
    """An empty folder for about `needed` bytes, which gets a manifest and then takes the place of `final`.

    With `shared` every rank has the same folder, and rank 0 makes and moves it; they say so to each other in `group`.
    """
    temporary, old = _temporary(final), _old(final)

    def on_main(work: Callable[[], None]) -> None:
        if shared:
            from_main(work, group)
        else:
            work()

    def make() -> None:
        final.parent.mkdir(parents=True, exist_ok=True)
        clear_leftovers(final.parent)
        require_room(final.parent, needed)
        temporary.mkdir()

    def move() -> None:
        write_manifest(temporary)
        if final.exists():
            os.replace(final, old)
        os.replace(temporary, final)

    def clear() -> None:
        shutil.rmtree(temporary, ignore_errors=True)
        clear_leftovers(final.parent)

    try:
        on_main(make)
        yield temporary
        on_main(move)
    except BaseException:
        if is_main():
            clear()
        raise
    if is_main():
        sync(final.parent)
        shutil.rmtree(old, ignore_errors=True)


def clear_leftovers(folder: Path) -> None:
    """Undo what a killed process left half done: unfinished folders go, one that was moved aside comes back.

    The folder is a run's, or its `checkpoints`; names that no run gives are left alone.
    """
    for path in sorted(folder.glob(".*")):
        found = _LEFTOVER.fullmatch(path.name)
        if found is None or not path.is_dir():
            continue
        final = folder / found[1]
        if found[2] == "tmp" or final.exists():
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.replace(path, final)


def _temporary(final: Path) -> Path:
    return final.with_name(f".{final.name}.tmp")


def _old(final: Path) -> Path:
    return final.with_name(f".{final.name}.old")


def _remove(path: Path) -> None:
    """Take the final name away first: a folder that is half deleted must not look like a checkpoint."""
    going = path.with_name(f".{path.name}.tmp")
    os.replace(path, going)
    shutil.rmtree(going, ignore_errors=True)


def _bytes(tensors: dict[str, torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())


def require_room(folder: Path, needed: int) -> None:
    """Raises NoRoomError before a byte is written. The old checkpoint stays until the new one is complete."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise NoRoomError(
            28, f"{folder} needs {needed / 1e9:.2f} GB of room and has {free / 1e9:.2f} GB: No space left on device"
        )


def _complete(folder: Path) -> list[Path]:
    """Finished folders, oldest first; whether their files are as they were written is not asked here."""
    found = [path for path in folder.glob("step_*") if _step(path) and path.is_dir()]
    return sorted(found, key=_step)


def any_checkpoint(folder: Path) -> bool:
    """Whether there is a checkpoint, whole or not."""
    return bool(_complete(folder))


def _step(path: Path) -> int:
    """The step in a checkpoint's name; 0 for a name that no save gives."""
    found = _NAME.fullmatch(path.name)
    return int(found[1]) if found and path.name == f"step_{int(found[1]):06d}" else 0


def drop_surplus(folder: Path, retention: Retention, newest: int) -> None:
    """Remove the checkpoints that need not stay. What the run cannot have written up to step `newest` is left alone."""
    for old in _surplus(folder, retention, newest):
        _remove(old)


def _surplus(folder: Path, retention: Retention, newest: int) -> list[Path]:
    """The checkpoints that need not stay."""
    written = [path for path in _complete(folder) if _step(path) <= newest]
    complete = [path for path in written if (path / manifest.FILE).is_file() and (path / STATE).is_file()]
    stay = set(complete[-retention.newest :])
    if retention.best:
        sign = -1 if retention.mode == "max" else 1
        scores = {path: score for path in complete if (score := _score(path)) is not None}
        # Of equal ones the older stays: it does not change any more.
        stay |= set(sorted(scores, key=lambda path: (sign * scores[path], path.name))[: retention.best])
    return [path for path in complete if path not in stay]


def _score(path: Path) -> float | None:
    try:
        value = read_object(path / STATE, State).get("score")
    except RunFileError:
        return None
    return None if value is None else float(value)


def newest_checkpoint(folder: Path, *, say: Callable[[str], None] | None = None) -> Checkpoint | None:
    """The newest checkpoint whose files are all as they were written; None where there is none at all.

    Says loudly which file of a newer one is damaged. Raises CheckpointError where none is whole: a run never begins
    again unasked.
    """
    say = say or _say
    problems: list[str] = []
    for path in reversed(_complete(folder)):
        damage, state = _open(path)
        if damage is None:
            if problems:
                say(f"going back to {path}: what was trained after step {state['step']} is done again")
            return Checkpoint(path, state["step"], state)
        problems.append(damage)
        say(f"DAMAGED CHECKPOINT: {damage}")
    if problems:
        raise CheckpointError(
            f"cannot resume: no checkpoint in {folder} is whole ({'; '.join(problems)}); put back the files from a "
            f"copy, or delete {folder.parent} to begin again"
        )
    return None


def _open(path: Path) -> tuple[str | None, dict[str, Any]]:
    """(what is wrong with a checkpoint, its state)."""
    weights = [file.name for file in sorted(path.glob("*.safetensors"))]
    if damage := manifest.find_damage(path, [STATE, TENSORS, "config.json", *weights]):
        return damage, {}
    try:
        state = read_object(path / STATE, State)
    except RunFileError as error:
        return str(error), {}
    if state["step"] != _step(path):
        return f"{path / STATE} is of step {state['step']}, not of the step that its folder is named after", {}
    return None, state


def set_damaged_aside(folder: Path, whole: Checkpoint) -> None:
    """Checkpoints newer than the one that is resumed from get another name, so that none of them counts as kept."""
    for path in _complete(folder):
        if _step(path) > whole.step:
            aside = path.with_name(DAMAGED + path.name)
            while aside.exists():
                aside = aside.with_name(f"{DAMAGED}{aside.name}")
            os.replace(path, aside)
            _say(f"kept as {aside}; delete it if you do not need it")


def _say(line: str) -> None:
    say(line, "bold red")


def load_tensors(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return load_file(checkpoint.path / TENSORS)


def stored_weights(
    model: Any, checkpoint: Checkpoint, tensors: dict[str, torch.Tensor], *, trust_remote_code: bool = False
) -> Weights:
    """A checkpoint's weights by the names that a model which is already built has for them.

    The folder has adapters merged; they come from `tensors` instead, and what lies beneath them is left out, since it
    stays as it started.
    """
    from transformers import AutoModelForImageTextToText

    saved = AutoModelForImageTextToText.from_pretrained(
        checkpoint.path, dtype=model.dtype, use_safetensors=True, trust_remote_code=trust_remote_code
    ).state_dict()
    names = [name for name in model.state_dict() if ".base_layer." not in name]
    return {name: tensors[f"lora/{name}"] if is_adapter(name) else saved[name] for name in names}
