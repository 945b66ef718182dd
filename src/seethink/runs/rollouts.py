"""Rollouts on disk: one JSON line per prompt group, the images beside them, for the report's viewer."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

from PIL.Image import Image

from seethink.core.denials import hallucinations
from seethink.core.files import write_text
from seethink.core.types import Completion, ImageRef, RolloutGroup, Sample
from seethink.entropy.meter import EntropyMeter

FRAMES = 4
"""About so many frames of a video stand for it, with the images."""


def rollouts_file(folder: Path, step: int) -> Path:
    """Where a run folder has the rollouts of a step, if it was to store them."""
    return folder / "rollouts" / f"step_{step:06d}.jsonl"


def store_rollouts(path: Path, folder: Path, groups: list[RolloutGroup], step: int, meter: EntropyMeter) -> None:
    """One JSON line per group; images go to `folder/images` once each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(_group_record(group, folder, step, meter)) for group in groups]
    write_text(path, "\n".join(lines) + "\n")


def _group_record(group: RolloutGroup, folder: Path, step: int, meter: EntropyMeter) -> dict[str, Any]:
    sample = group.prompt.sample
    return {
        "step": step,
        "id": sample.id,
        "domain": sample.domain,
        "difficulty": sample.difficulty,
        "question": sample.question,
        "system": sample.system,
        "images": [_store_image(image, folder) for image in _shown(sample)],
        "answer": sample.answer,
        "choices": list(sample.choices),
        "completions": [
            _completion_record(c, meter) | {"hallucinated": hallucinations(sample, c.text)} | _replies(c, folder)
            for c in group.completions
        ],
    }


def _shown(sample: Sample) -> list[Image | ImageRef]:
    """The images, then some frames of each video."""
    frames = (frame for video in sample.videos for frame in video.load()[:: max(1, len(video.seconds) // FRAMES)])
    return [*sample.images, *frames]


def _completion_record(completion: Completion, meter: EntropyMeter) -> dict[str, Any]:
    grade = completion.grade
    return {
        "text": completion.text,
        "token_ids": completion.token_ids,
        "tokens": meter.texts(completion.token_ids),
        "entropies": [round(e, 4) for e in completion.entropies],
        "critical": meter.marks(completion.token_ids).critical.tolist(),
        "reward": completion.reward if math.isfinite(completion.reward) else None,
        "reward_parts": {k: v for k, v in completion.reward_parts.items() if math.isfinite(v)},
        "advantage": round(completion.advantage, 4),
        "verdict": str(grade.verdict) if grade else None,
        "extracted": grade.extracted if grade else None,
        "truncated": completion.truncated,
    }


def _replies(completion: Completion, folder: Path) -> dict[str, Any]:
    """What an environment said, and after how many of the completion's tokens; nothing for a single turn."""
    said = [
        {"at": r.at, "text": r.text, "images": [_store_image(i, folder) for i in r.images], "failed": r.failed}
        for r in completion.replies
    ]
    return {"replies": said} if said else {}


def _store_image(image: Image | ImageRef, folder: Path) -> str:
    digest = hashlib.sha256(image.tobytes()).hexdigest() if isinstance(image, Image) else image.sha256
    name = f"images/{digest[:16]}.png"
    target = folder / name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        # In one move: a picture is written once, and a killed run must not leave half of one.
        waiting = target.with_suffix(".tmp")
        (image if isinstance(image, Image) else image.load()).save(waiting, format="PNG")
        os.replace(waiting, target)
    return name
