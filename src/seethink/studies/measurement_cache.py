"""Measurements on disk, one JSON file each, keyed by everything they depend on.

A command that was killed, or that is called again, continues with what is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.core.files import write_text
from seethink.core.types import Sample
from seethink.core.version import __version__
from seethink.data.images import image_sha256
from seethink.data.lengths import processor_identity
from seethink.models.load import LoadedModel
from seethink.runs.identity import model_identity
from seethink.runs.reading import RunFileError, read_object


class MeasurementCache:
    """Results in a folder. A key is a JSON object with everything that the result depends on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: dict[str, Any]) -> Any:
        """The stored result; None where it is missing or damaged."""
        try:
            stored = read_object(self._path(key))
        except RunFileError:
            return None
        return stored.get("result") if stored.get("key") == _plain(key) else None

    def put(self, key: dict[str, Any], result: Any) -> None:
        """Store a result, a JSON value. Raises UserError where the folder cannot be written."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_text(self._path(key), json.dumps({"key": key, "result": result}) + "\n")
        except OSError as error:
            raise UserError(f"{self._folder} cannot be written: {error}; choose another place") from None

    def _path(self, key: dict[str, Any]) -> Path:
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return self._folder / f"{digest[:20]}.json"


def _plain(key: dict[str, Any]) -> Any:
    """The key as JSON returns it: tuples are lists."""
    return json.loads(json.dumps(key))


def measured_on(loaded: LoadedModel, samples: Sequence[Sample]) -> dict[str, Any]:
    """The part of a key that names the weights, processor, items and version of a measurement."""
    return {
        "weights": model_identity(loaded.source) or loaded.source,
        "processor": processor_identity(loaded.chat),
        "items": samples_identity(samples),
        "seethink": __version__,
    }


def samples_identity(samples: Sequence[Sample]) -> str:
    """A hash of the texts, gold answers, pictures and videos of the samples, in order."""
    digest = hashlib.sha256()
    for s in samples:
        pictures = [*map(image_sha256, s.images), *(video.sha256 for video in s.videos)]
        # Items without a type keep the identity that they had before there were types.
        type_ = (s.answer_type,) if s.answer_type is not None else ()
        digest.update(repr((s.id, s.system, s.question, s.choices, s.answer, s.domain, pictures, *type_)).encode())
    return digest.hexdigest()
