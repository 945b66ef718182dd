"""The model without loading it: configuration, family, weights, processor, and the tokens that matter."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from seethink.config import PARTS, Part, Recipe
from seethink.core.errors import UserError
from seethink.core.types import Sample
from seethink.data.chat import Chat
from seethink.data.image_budget import limit_images
from seethink.doctor.check import Report, Status, gigabytes, plural
from seethink.doctor.tools import SECTION as TOOLS
from seethink.doctor.tools import check_tools
from seethink.generate.conversations import introduced
from seethink.models.describe import meta_model
from seethink.models.load import (
    PACKAGED,
    REPORTING,
    check_source,
    make_chat,
    model_path,
    prepare_transformers,
    unreadable,
)
from seethink.models.parts import FAMILIES, PartsError, banned_token_ids, family_of, owners_of
from seethink.models.weight_files import COPY_AGAIN, misfits, not_finite_in, read_weights, some

SECTION = "model"
PICTURES = ((448, 448), (1344, 896), (896, 2688))
"""(width, height) of the images whose tokens are told where a recipe sets them."""


@dataclass
class Model:
    """What is known of the model; None where it could not be found out."""

    source: str
    folder: Path | None
    """Where its files are on this machine."""
    meta: Any = None
    chat: Chat | None = None
    weights_ok: bool = False

    @property
    def context(self) -> int | None:
        """Positions that the language model knows."""
        if self.meta is None:
            return None
        limit = getattr(self.meta.config.get_text_config(), "max_position_embeddings", None)
        return limit if isinstance(limit, int) and limit > 0 else None


def check_model(report: Report, recipe: Recipe) -> Model:
    """Everything about the model that its files tell."""
    _quiet()
    path = model_path(recipe.model)
    try:
        check_source(recipe.model, path)
    except UserError as error:
        advice = "train the stage before this one first, or give another model with model=..."
        report.add(SECTION, "source", Status.FAIL, str(error), advice)
        _skip(report, "its files")
        return Model(recipe.model, None)
    model = Model(recipe.model, _folder(report, recipe, path))
    if not _check_code(report, recipe, model):
        _skip(report, "family, weights and processor")
        return model
    _check_family(report, recipe, model)
    _check_weights(report, recipe, model)
    _check_processor(report, recipe, model)
    return model


def check_shapes(report: Report, recipe: Recipe) -> Model:
    """The model's family and sizes, from its config.json alone."""
    _quiet()
    model = Model(recipe.model, None)
    try:
        check_source(recipe.model, model_path(recipe.model))
    except UserError as error:
        advice = "give the model that this stage begins with in the end, e.g. model=OpenGVLab/InternVL3-8B-hf"
        report.add(SECTION, "source", Status.FAIL, str(error), advice)
        return model
    _check_family(report, recipe, model)
    return model


def _quiet() -> None:
    from transformers.utils import logging

    quiet: Any = logging
    quiet.set_verbosity_error()
    quiet.disable_progress_bar()


def _skip(report: Report, what: str) -> None:
    report.add(SECTION, "rest", Status.SKIP, f"{what} cannot be looked at before that")


def _folder(report: Report, recipe: Recipe, path: str) -> Path | None:
    """The model's folder; of a hub name, the copy that is already on this machine."""
    if Path(path).is_dir():
        report.add(
            SECTION, "source", Status.PASS, f"{recipe.model}: {'packaged' if recipe.model in PACKAGED else path}"
        )
        return Path(path)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(path, local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError):
        advice = f"download it before a GPU waits for it: `hf download {path}`"
        report.add(SECTION, "source", Status.WARN, f"{path!r} is a hub name with no copy on this machine", advice)
        return None
    report.add(SECTION, "source", Status.PASS, f"{path}: downloaded before, {folder}")
    return folder


def _check_code(report: Report, recipe: Recipe, model: Model) -> bool:
    """Whether the configuration can be read, and whether the model brings code of its own."""
    if model.folder is None:
        return True
    try:
        config = json.loads((model.folder / "config.json").read_text(encoding="utf-8"))
        kind = str(config["model_type"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        found = f"config.json cannot be read: {type(error).__name__}: {error}"
        report.add(SECTION, "config", Status.FAIL, found, "copy or download the model again")
        return False
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if kind in CONFIG_MAPPING:
        return True
    if config.get("auto_map") and recipe.trust_remote_code:
        found = f"model type {kind!r} runs code that comes with the model, as trust_remote_code allows"
        report.add(SECTION, "code", Status.WARN, found, "read that code, and pin the model's revision")
        return True
    remote = bool(config.get("auto_map"))
    found = f"model type {kind!r} is not part of transformers" + ("; it needs code of its own" if remote else "")
    advice = (
        "use the checkpoint in transformers' own format (for InternVL: the -hf one), or set trust_remote_code=true "
        "if you trust the code"
        if remote
        else "use a checkpoint of a family that `seethink parts` knows: " + ", ".join(sorted(FAMILIES))
    )
    report.add(SECTION, "code", Status.FAIL, found, advice)
    return False


def _check_family(report: Report, recipe: Recipe, model: Model) -> None:
    """Vision, connector and language, each with parameters, each parameter in one of them."""
    try:
        model.meta = meta_model(recipe.model, trust_remote_code=recipe.trust_remote_code, modules=recipe.parts.modules)
    except PartsError as error:
        advice = "`seethink parts MODEL` lists the modules; name them in the recipe's [parts.modules]"
        if "no parameters in" in str(error):
            advice = f"a model without all of {', '.join(PARTS)} cannot be trained by parts: {advice}"
        report.add(SECTION, "parts", Status.FAIL, str(error), advice)
    except UserError as error:
        if "Unrecognized configuration class" in str(error):
            found = "a model without vision encoder and connector: transformers knows it for text only"
            advice = "use a vision-language checkpoint, e.g. OpenGVLab/InternVL3-2B-hf"
        else:
            found, advice = str(error), "copy or download the model again, or correct its config.json"
        report.add(SECTION, "parts", Status.FAIL, found, advice)
    else:
        family = family_of(model.meta)
        named = "recipe's [parts.modules]" if recipe.parts.modules else f"{model.meta.config.model_type} family"
        named += " (not listed; found by its structure)" if family.evidence else ""
        found = f"{named}: vision, connector ({family.connector_kind}), language; positions {family.positions}"
        report.add(SECTION, "parts", Status.PASS, found)
        _use_generation_config(model)


def _use_generation_config(model: Model) -> None:
    """Which tokens end a turn is said in generation_config.json rather than in config.json."""
    from transformers import GenerationConfig

    # One that cannot be read is what `load_model` would say; the check of the weights' names reads it too.
    with contextlib.suppress(Exception):
        if model.folder is not None:
            model.meta.generation_config = GenerationConfig.from_pretrained(model.folder)


def _check_weights(report: Report, recipe: Recipe, model: Model) -> None:
    if model.folder is None:
        report.add(SECTION, "weights", Status.SKIP, "they are not on this machine")
        return
    weights = read_weights(model.folder)
    for found, advice in weights.problems:
        report.add(SECTION, "weights", Status.FAIL, found, advice)
    if weights.problems:
        return
    stored = ", ".join(f"{count:,} tensors in {dtype}" for dtype, count in weights.dtypes.most_common())
    size = gigabytes(sum(file.stat().st_size for file in weights.files))
    model.weights_ok = model.meta is None or _check_names(report, recipe, model)
    if broken := not_finite_in(weights.files):
        found = f"{plural(len(broken), 'tensor')} with NaN or infinity: {some(broken)}"
        report.add(SECTION, "weights", Status.FAIL, found, COPY_AGAIN, not_finite=broken)
        model.weights_ok = False
    if model.weights_ok:
        found = f"{plural(len(weights.files), 'safetensors file')}, {size}, {stored}, all finite"
        report.add(SECTION, "weights", Status.PASS, found)


def _check_names(report: Report, recipe: Recipe, model: Model) -> bool:
    """Whether the files hold the model's weights and no others, by transformers' own renaming, on the meta device."""
    prepare_transformers()
    from transformers import AutoModelForImageTextToText

    loader: Any = AutoModelForImageTextToText
    try:
        with unreadable(recipe.model):
            _, told = loader.from_pretrained(
                str(model.folder),
                device_map="meta",
                use_safetensors=True,
                trust_remote_code=recipe.trust_remote_code,
                **REPORTING,
            )
    except UserError as error:
        report.add(SECTION, "weights", Status.FAIL, f"the files do not load: {error}", COPY_AGAIN)
        return False
    wrong = misfits(told)
    for kind, names in wrong.items():
        found, advice = _explained(model, kind, names)
        report.add(SECTION, "weights", Status.FAIL, found, advice, **{kind: names})
    return not wrong


def _explained(model: Model, kind: str, names: list[str]) -> tuple[str, str]:
    """What is wrong with these tensors, and what to do."""
    if kind == "misshapen":
        found = f"{plural(len(names), 'tensor')} of another shape than config.json says: {some(names)}"
        return found, "make sure that config.json is this checkpoint's"
    if kind == "unexpected":
        found = f"{plural(len(names), 'tensor')} in the files that the model does not have: {some(names)}"
        return found, "make sure that config.json is this checkpoint's"
    owners = [tuple(owners_of(name, family_of(model.meta))) for name in names]
    whole: list[Part] = [part for part in PARTS if (part,) in owners]
    found = f"{plural(len(names), 'tensor')} not in the files: {some(names)}"
    if whole:
        found = f"{found}: without them the {' and '.join(whole)} would start from random numbers"
    return found, "use a complete checkpoint: no command loads one with random weights"


def _check_processor(report: Report, recipe: Recipe, model: Model) -> None:
    if model.meta is None:
        report.add(SECTION, "processor", Status.SKIP, "cannot be joined to a model that is not understood")
        return
    prepare_transformers()
    from transformers import AutoProcessor

    path = model_path(recipe.model)
    loader: Any = AutoProcessor
    from seethink.doctor.tokens import check_tokens

    try:
        with unreadable(recipe.model):
            processor = loader.from_pretrained(path, trust_remote_code=recipe.trust_remote_code)
            if not _check_budget(report, recipe, processor):
                return
            chat = make_chat(processor, model.meta)
            whole = check_tokens(report, model.meta, chat, banned_token_ids(model.meta, chat.tokenizer))
            chat = introduced(recipe.tools, chat)
    except UserError as error:
        advice = "copy the tokenizer's and the processor's files of the original model beside the weights"
        report.add(SECTION, "processor", Status.FAIL, f"cannot be used: {error}", advice)
        return
    if whole and recipe.data.image_limits:
        report.add(SECTION, "image tokens", Status.INFO, _image_counts(chat))
    model.chat = chat if whole else None
    try:
        check_tools(report, recipe, chat)
    except UserError as error:
        advice = "choose another model, or leave rollout.environment out"
        report.add(TOOLS, "environment", Status.FAIL, str(error), advice)


def _check_budget(report: Report, recipe: Recipe, processor: Any) -> bool:
    """Whether the processor takes `data.image_*`, which it has from here on."""
    try:
        limit_images(processor, recipe.data)
    except UserError as error:
        report.add(SECTION, "image tokens", Status.FAIL, str(error), "leave the key out, or give what it takes")
        return False
    return True


def _image_counts(chat: Chat) -> str:
    """What `data.image_*` come to, for pictures of some sizes."""
    pictures = [Image.new("RGB", size) for size in PICTURES]
    counts = [chat.image_tokens.of(Sample("size", "", (picture,))) for picture in pictures]
    said = [f"{w}x{h}: {count:,}" for (w, h), count in zip(PICTURES, counts, strict=True)]
    return f"tokens of an image under data.image_*: {', '.join(said)}"
