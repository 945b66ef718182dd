"""Checkpoint folders as they should not be: whatever is wrong is one line that names it, in every command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.nano import nano_recipe
from seethink.core.errors import UserError
from seethink.doctor.check import Report, Status
from seethink.doctor.model import check_model
from seethink.models.describe import describe
from seethink.models.load import ModelError, check_source, load_model, model_path, refuse_unreachable

Tensors = dict[str, torch.Tensor]
STORED = "multi_modal_projector.linear_1.weight"
"""As the file names it; transformers renames it."""
NAME = f"model.{STORED}"


@pytest.fixture
def copied(tmp_path: Path, random_nano: Path) -> Path:
    return Path(shutil.copytree(random_nano, tmp_path / "model"))


def spoil(value: float) -> Callable[[Tensors], None]:
    def put(tensors: Tensors) -> None:
        tensors[STORED] = tensors[STORED].clone()
        tensors[STORED].view(-1)[3] = value

    return put


def lacking(prefix: str) -> Callable[[Tensors], None]:
    def take(tensors: Tensors) -> None:
        for name in [name for name in tensors if name.startswith(prefix)]:
            del tensors[name]

    return take


WRONG: dict[str, tuple[Callable[[Tensors], None], str]] = {
    "one missing": (lacking(STORED), f"missing: {NAME}"),
    "a part missing": (lacking("vision_tower"), "missing: model.vision_tower"),
    "unexpected": (lambda t: t.update(stranger=t[STORED].clone()), "unexpected: stranger"),
    "misshapen": (lambda t: t.update({STORED: t[STORED][:2].clone()}), f"misshapen: {NAME} ([2, "),
    "NaN": (spoil(float("nan")), f"not finite: {NAME}"),
    "infinity": (spoil(float("-inf")), f"not finite: {NAME}"),
    "none at all": (lacking(""), "holds no tensor"),
}


@pytest.mark.parametrize(("change", "said"), WRONG.values(), ids=WRONG)
def test_tensors_that_do_not_fit_stop_every_command(copied: Path, change: Callable[[Tensors], None], said: str) -> None:
    tensors = load_file(copied / "model.safetensors")
    change(tensors)
    save_file(tensors, copied / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError) as caught:
        load_model(str(copied))
    assert said in str(caught.value)
    report = Report()
    model = check_model(report, nano_recipe(copied))
    failed = [check.found for check in report.checks if check.status is Status.FAIL]
    assert not model.weights_ok
    assert len(failed) == 1
    assert said.rpartition(": ")[2].partition(" (")[0].removeprefix("model.") in failed[0]


JSON_FILES = ("config.json", "generation_config.json", "processor_config.json", "tokenizer.json",
              "tokenizer_config.json")  # fmt: skip
CONTENTS = {
    "empty": b"",
    "half": b'{"a": ',
    "a list": b"[]",
    "null": b"null",
    "text": b'"x"',
    "nothing in it": b"{}",
    "no text": b"\xff\xfe\x00",
    "deep": b"[" * 3000 + b"]" * 3000,
    "a long number": b'{"model_type": ' + b"9" * 5000 + b"}",
}
FIELDS: list[tuple[str, str, Any]] = [
    ("config.json", "model_type", []),
    ("config.json", "text_config", "x"),
    ("config.json", "text_config", []),
    ("config.json", "vision_config", 3),
    ("config.json", "image_token_id", "x"),
    ("config.json", "image_token_id", None),
    ("config.json", "image_token_id", 10**19),
    ("config.json", "downsample_ratio", "half"),
    ("config.json", "dtype", "float7"),
    ("config.json", "quantization_config", {"quant_method": "x"}),
    ("generation_config.json", "eos_token_id", "x"),
    ("generation_config.json", "eos_token_id", [[1]]),
    ("generation_config.json", "eos_token_id", -5),
    ("processor_config.json", "image_processor", []),
    ("processor_config.json", "processor_class", 3),
    ("processor_config.json", "image_seq_length", "x"),
    ("tokenizer_config.json", "eos_token", None),
    ("tokenizer_config.json", "eos_token", 7),
    ("tokenizer_config.json", "tokenizer_class", []),
    ("tokenizer_config.json", "extra_special_tokens", 3),
    ("tokenizer_config.json", "chat_template", 3),
    ("tokenizer.json", "model", []),
    ("tokenizer.json", "added_tokens", "x"),
]


def one_line_or_fine(folder: Path) -> None:
    """Loading, describing and examining a folder end well or with a UserError of one line."""
    report = Report()
    for command in (load_model, describe, lambda name: check_model(report, nano_recipe(name))):
        try:
            command(str(folder))
        except UserError as error:
            assert "\n" not in str(error)  # noqa: PT017
            assert str(folder) in str(error)  # noqa: PT017
    assert report.checks


@pytest.mark.slow
@pytest.mark.parametrize("file", JSON_FILES)
@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_a_file_with_other_content(copied: Path, file: str, content: bytes) -> None:
    (copied / file).write_bytes(content)
    one_line_or_fine(copied)


@pytest.mark.parametrize(("file", "key", "value"), FIELDS, ids=lambda value: str(value))
def test_a_field_of_another_type(copied: Path, file: str, key: str, value: Any) -> None:
    table = json.loads((copied / file).read_text())
    (copied / file).write_text(json.dumps(table | {key: value}))
    one_line_or_fine(copied)


@pytest.mark.slow
@pytest.mark.parametrize("file", [*JSON_FILES, "chat_template.jinja", "model.safetensors"])
def test_a_folder_in_place_of_a_file(copied: Path, file: str) -> None:
    (copied / file).unlink()
    (copied / file).mkdir()
    one_line_or_fine(copied)


def header(table: Any) -> bytes:
    text = json.dumps(table).encode()
    return len(text).to_bytes(8, "little") + text


ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
HEADERS = {
    "no length": b"\x08",
    "a length beyond the file": (10**18).to_bytes(8, "little") + b"{}",
    "a list": header([]),
    "an entry that is a list": header({"a": []}),
    "no shape": header({"a": {"dtype": "F32", "data_offsets": [0, 4]}}) + bytes(4),
    "a shape of text": header({"a": ENTRY | {"shape": "x"}}) + bytes(4),
    "a negative shape": header({"a": ENTRY | {"shape": [-1]}}) + bytes(4),
    "offsets that overlap": header({"a": ENTRY, "b": ENTRY}) + bytes(4),
    "offsets beyond the file": header({"a": ENTRY | {"data_offsets": [0, 400]}}),
    "a dtype that is none": header({"a": ENTRY | {"dtype": "F7"}}) + bytes(4),
    "deep": (6000).to_bytes(8, "little") + b"[" * 3000 + b"]" * 3000,
}


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS)
def test_headers_of_weight_files(copied: Path, content: bytes) -> None:
    (copied / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        load_model(str(copied))
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        describe(str(copied))
    assert not check_model(Report(), nano_recipe(copied)).weights_ok


@pytest.mark.parametrize(
    "index",
    ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 3}}', '{"weight_map": {"a": "../x.safetensors"}}',
     '{"weight_map": {"a": "model-00001-of-00001.safetensors"}}'],
)  # fmt: skip
def test_indices_of_shards(copied: Path, index: str) -> None:
    (copied / "model.safetensors").rename(copied / "model-00001-of-00001.safetensors")
    (copied / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ModelError, match=r"index\.json|is missing"):
        load_model(str(copied))
    assert not check_model(Report(), nano_recipe(copied)).weights_ok


@pytest.mark.parametrize(
    ("source", "local"),
    [("runs/nope", True), ("a/b/c", True), ("./x", True), ("/x/y", True), ("~/x", True), ("x\\y/z", True),
     ("runs/", True), ("nobody/nothing", False)],
)  # fmt: skip
def test_a_path_that_is_not_there_is_refused_without_asking_anybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, local: bool
) -> None:
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    asked: list[str] = []

    def answer(self: Any, name: str, **options: Any) -> None:
        asked.append(name)
        raise OSError("no network here")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", answer)
    with pytest.raises(ModelError) as caught:
        load_model(source)
    assert asked == ([] if local else [source]), "a hub is asked once"
    assert ("no config.json" if local else "no network here") in str(caught.value)


def test_names_of_models_and_their_folders_pass(random_nano: Path) -> None:
    for source in ("nano", str(random_nano)):
        check_source(source, model_path(source))
        refuse_unreachable(source, model_path(source))
