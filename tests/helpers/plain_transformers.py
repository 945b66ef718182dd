"""transformers without seethink: one process loads the checkpoints that tests export, as a user of them would.

A process takes seconds to import torch and transformers, so all tests of a session share one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_SERVE = """
import json, sys
import seethink.models.torchvision_shim  # needed where torchvision has no compiled operators
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

for line in sys.stdin:
    folder, picture = json.loads(line)
    model, info = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    processor = AutoProcessor.from_pretrained(folder)
    parts = [{"type": "image"}, {"type": "text", "text": "What is the sum?"}]
    writer = processor if processor.chat_template else processor.tokenizer
    text = writer.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True, tokenize=False)
    inputs = processor(images=[Image.open(picture).convert("RGB")], text=[text], return_tensors="pt")
    made = model.generate(**inputs.to(dtype=model.dtype), max_new_tokens=4, do_sample=False)
    keys = [list(info["missing_keys"]), list(info["unexpected_keys"])]
    print(json.dumps([type(model).__name__, *keys, inputs["input_ids"].shape[1], made.shape[1]]), flush=True)
"""


@dataclass(frozen=True)
class Loaded:
    """What transformers found in a checkpoint folder, and whether the model could speak."""

    model_class: str
    missing_keys: list[str]
    unexpected_keys: list[str]
    prompt_tokens: int
    returned_tokens: int
    """The length of what `generate` returned: for most families the prompt and the response."""


class PlainTransformers:
    """`with PlainTransformers() as plain: plain.load(folder, picture)`."""

    def __enter__(self) -> Self:
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def load(self, folder: Path, picture: Path) -> Loaded:
        """Load model and processor from `folder` and generate four tokens from a picture and a question."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(folder), str(picture)]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise AssertionError(self._errors.read()[-2000:])
        return Loaded(*json.loads(line))
