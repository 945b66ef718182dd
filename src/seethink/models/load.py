"""Models and processors from folders, hub names, or the package. Weights are safetensors; no pickle is read."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from seethink.config import LoraConfig, PartModules, ReadConfig, Recipe
from seethink.core.arguments import require_one_of
from seethink.core.errors import UserError
from seethink.data.chat import Chat
from seethink.data.image_budget import limit_images
from seethink.models.forward import rope_positions
from seethink.models.lora import has_adapters, merged_state, quantize_base
from seethink.models.parts import FAMILIES, banned_token_ids, family_of, split_parts, use_modules
from seethink.models.prefix_attention import use_prefix_attention
from seethink.models.recurrence import leave_autocast
from seethink.models.structure import use_found
from seethink.models.trial import prove
from seethink.models.weight_files import misfits, not_finite, read_weights, some
from seethink.models.weight_stream import write_weights

_ASSETS = Path(__file__).resolve().parents[1] / "world" / "assets"
_NAMES = ("nano", "nano-resampler", "nano-qwen", "nano-weak", "nano2", "nano2-resampler", "nano2-qwen", "nano2-weak")
PACKAGED = {name: _ASSETS / name for name in _NAMES}
"""The base models that come with seethink, by the names that recipes and commands know them by."""
NANO = PACKAGED["nano"]
_CPU = torch.device("cpu")
HUB_SECONDS = 10.0
"""How long the hub may take to say whether it has a model."""


class ModelError(UserError):
    """A model that cannot be used; the message says what to do."""


@dataclass
class LoadedModel:
    """A model with everything that turns samples into its inputs."""

    model: Any
    chat: Chat
    source: str
    banned_ids: tuple[int, ...]
    """Image placeholder ids: never sampled, and outside the policy's distribution in training too."""
    stop_ids: tuple[int, ...]

    compute_dtype: torch.dtype = torch.float32

    def autocast(self) -> torch.autocast:
        """Forward passes run in the compute dtype; the weights are float32, as small updates vanish in bfloat16."""
        enabled = self.compute_dtype != torch.float32
        return torch.autocast(self.device.type, dtype=self.compute_dtype if enabled else None, enabled=enabled)

    def pack_length(self, wanted: int) -> int:
        """Tokens of a packed row: 0, a row for each sequence, where the family cannot tell them apart in one."""
        return wanted if family_of(self.model).packs else 0

    @property
    def device(self) -> torch.device:
        return self.model.device  # type: ignore[no-any-return]


def model_path(source: str) -> str:
    """The folder of a packaged base model; any other source as it is, for transformers to resolve."""
    return str(PACKAGED.get(source, source))


def load_model(
    source: str, *, dtype: str = "float32", trust_remote_code: bool = False, modules: PartModules | None = None
) -> LoadedModel:
    """Load a vision-language model with its processor, on the CUDA device where there is one.

    Weights are float32, as small updates vanish in bfloat16. They are read from safetensors; no pickle is opened.

    Args:
        source: `nano` or another packaged base model (docs/nano.md), a checkpoint folder, or a hub name `org/model`.
        dtype: `float32` or `bfloat16`; what forward passes compute in.
        trust_remote_code: Run Python code that comes with the checkpoint.
        modules: Where vision encoder, connector and language model are, for a family that is neither listed nor
            found by its structure (docs/families.md).

    Returns:
        The model in evaluation mode, its chat (processor, tokenizer, template), stop tokens and banned tokens.

    Raises:
        ModelError: There is no such model, it is damaged, or tensors are missing, too many, misshapen or not finite.
        PartsError: The parts of its family are not known, do not cover it, or do not feed each other.
    """
    return _load(str(source), dtype, trust_remote_code, modules, default_device(), ReadConfig(), LoraConfig())


def _load(
    source: str,
    dtype: str,
    trust_remote_code: bool,
    modules: PartModules | None,
    device: torch.device,
    reading: ReadConfig,
    lora: LoraConfig,
) -> LoadedModel:
    require_one_of("dtype", dtype, ("float32", "bfloat16"))
    prepare_transformers()
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging

    # Its own progress bars and load reports would break ours up.
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    path = model_path(source)
    check_source(source, path)
    refuse_unreachable(source, path)
    with unreadable(source):
        processor = AutoProcessor.from_pretrained(path, trust_remote_code=trust_remote_code)
        limit_images(processor, reading)
        refuse_damaged_files(path)
        loader: Any = AutoModelForImageTextToText
        where = {"device_map": "meta"} if device.type == "meta" else {}
        model, told = loader.from_pretrained(
            path, dtype=torch.float32, trust_remote_code=trust_remote_code, use_safetensors=True, **where, **REPORTING
        )
        model.tie_weights()  # which the meta device undoes
        refuse_wrong_tensors(model, told)
        attach_family(model, modules)
        use_prefix_attention(model)
        leave_autocast(model)
        chat = make_chat(processor, model)
        if chat.eos_id is None:
            raise ModelError("the tokenizer has no eos_token: set it to the token that ends a turn")
        banned_ids, stop_ids = banned_token_ids(model, chat.tokenizer), stop_token_ids(model, chat)
        quantize_base(model, lora)  # in main memory: the device may have no room for more
    model = model.to(device)
    if family_of(model).evidence and device.type != "meta":
        with unreadable(source):
            prove(model, chat)
    return LoadedModel(model.eval(), chat, source, banned_ids, stop_ids, getattr(torch, dtype))


REPORTING: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True}
"""For `from_pretrained`: say which tensors do not fit, all of them, in place of a warning or an error of its own."""


@contextmanager
def unreadable(source: str) -> Iterator[None]:
    """Whatever a library raises over a model's files is a ModelError that names the model."""
    try:
        yield
    except MemoryError:
        raise
    except UserError as error:
        raise type(error)(f"cannot load {source!r}: {error}") from error
    except Exception as error:  # transformers, tokenizers and templates raise what they like
        raise ModelError(f"cannot load {source!r}: {type(error).__name__}: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:600]


def refuse_damaged_files(path: str) -> None:
    """Raises ModelError where a folder's weight files are incomplete, damaged or pickled; a hub name passes."""
    if Path(path).is_dir() and (problems := read_weights(Path(path)).problems):
        raise ModelError("; ".join(f"{found}: {advice}" for found, advice in problems[:3]))


def refuse_wrong_tensors(model: Any, told: Any) -> None:
    """Raises ModelError where tensors of a loaded model were missing, too many, of another shape or not finite."""
    wrong = misfits(told)
    on_meta = model.device.type == "meta"
    if not on_meta and (broken := not_finite(model.state_dict().items())):
        wrong["not finite"] = broken
    if wrong:
        said = "; ".join(f"{len(names)} {kind}: {some(names)}" for kind, names in wrong.items())
        raise ModelError(f"its weights cannot be used: {said}. Use a complete checkpoint, with its own config.json")


def load_chat(source: str) -> Chat:
    """The chat of a model without its weights: tokenizer, processor and template. Raises ModelError."""
    prepare_transformers()
    from transformers import AutoProcessor

    path = model_path(source)
    check_source(source, path)
    refuse_unreachable(source, path)
    with unreadable(source):
        return Chat(AutoProcessor.from_pretrained(path))


def load_recipe_model(recipe: Recipe, device: torch.device | None = None) -> LoadedModel:
    """The model that a recipe starts from, on `device`, or where `load_model` puts it, its base as `lora.base` says.

    On the meta device no weight is read: the model has its shapes alone.
    """
    modules, device = recipe.parts.modules, device or default_device()
    return _load(recipe.model, recipe.dtype, recipe.trust_remote_code, modules, device, recipe.data, recipe.lora)


def prepare_transformers() -> None:
    """Let torchvision import, which transformers' models and processors need; call it before importing one of them.

    For the same reason no module of ours imports them before they are used.
    """
    from seethink.models.torchvision_shim import define_missing_operators

    define_missing_operators()


def attach_family(model: Any, modules: PartModules | None) -> None:
    """Make sure that every parameter is in exactly one known part, and the attention one that is computed here.

    Raises PartsError and ModelError.
    """
    if sinks := next((name for name, _ in model.named_parameters() if name.endswith(".sinks")), None):
        raise ModelError(
            f"its attention has sinks ({sinks}; GPT-OSS), which neither shared prompts nor the decoder compute: choose "
            "a checkpoint of the family with another language model"
        )
    if modules is not None:
        use_modules(model, modules)
    elif str(model.config.model_type) not in FAMILIES:
        use_found(model)
    split_parts(model)


def make_chat(processor: Any, model: Any) -> Chat:
    """Raises TemplateError where the chat template does not end."""
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    known = context if isinstance(context, int) and context > 0 else None
    family = family_of(model)
    chat = Chat(processor, partial(rope_positions, model), family.max_images, known, takes_videos=family.videos)
    chat.refuse_endless_template()
    return chat


def default_device() -> torch.device:
    """The CUDA device where there is one, that of its own for each process of torchrun; else the CPU."""
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if torch.cuda.is_available() else _CPU


def check_source(source: str, path: str) -> None:
    """Raises ModelError where a source is neither a checkpoint folder nor the name of a model."""
    folder = Path(path)
    if source not in PACKAGED and "/" not in source and not folder.exists():
        raise ModelError(
            f"no model {source!r}; give {', '.join(PACKAGED)}, a checkpoint folder, or a hub name such as org/model"
        )
    if (folder.exists() or not _may_be_hub_name(source)) and not (folder / "config.json").is_file():
        raise ModelError(f"{source!r} is not a checkpoint folder (no config.json in it)")


def _may_be_hub_name(source: str) -> bool:
    """Whether it is `org/model`. Where a folder `org` is on this machine, a path is meant."""
    return bool(re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", source)) and not Path(source).parent.exists()


def refuse_unreachable(name: str, path: str) -> None:
    """Raises ModelError for a hub name without a copy on this machine that the hub does not have, or does not answer.

    transformers would ask for file after file, each several times.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache

    if Path(path).exists():
        return
    try:
        if not isinstance(try_to_load_from_cache(name, "config.json"), str):
            HfApi().model_info(name, timeout=HUB_SECONDS)
    except Exception as error:  # offline, unknown, gated, private: the library has a class for each
        said = _one_line(error)[:200]
        raise ModelError(
            f"no folder {name!r}, no copy of such a hub model on this machine, and the hub does not give it: "
            f"{type(error).__name__}: {said}"
        ) from error


def stop_token_ids(model: Any, chat: Chat) -> tuple[int, ...]:
    """Token ids that end a response: the tokenizer's first, then the model's own. Raises ModelError."""
    configured = model.generation_config.eos_token_id
    ids = [i for i in (configured if isinstance(configured, list) else [configured]) if i is not None]
    rows = model.get_input_embeddings().weight.shape[0]
    if strange := [i for i in ids if not isinstance(i, int) or not 0 <= i < rows]:
        raise ModelError(f"eos_token_id in generation_config.json holds {strange[0]!r}, not a token id below {rows:,}")
    return tuple(dict.fromkeys([chat.eos_id, *ids]))


ChatFiles = dict[str, bytes]
"""The files of a processor and its tokenizer, by their paths in a model's folder."""


def chat_files(chat: Chat) -> ChatFiles:
    """What `export_model` writes of a chat, as it is now: a tokenizer's file holds how it last padded."""
    with TemporaryDirectory(prefix="seethink-chat-") as name:
        folder = Path(name)
        chat.processor.save_pretrained(folder)
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def export_model(
    model: Any,
    chat: Chat | ChatFiles,
    folder: Path,
    about: dict[str, Any],
    weights: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write a folder that plain transformers loads, adapters merged, and `seethink.json` with the model's lineage.

    `weights` is the model's whole state dict, where ranks share it, or where it is to be that of an earlier step.
    """
    os.makedirs(folder, exist_ok=True)
    write_weights(model, folder, merged_state(model, weights) if has_adapters(model) else weights)
    if isinstance(chat, dict):
        for name, content in chat.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    else:
        chat.processor.save_pretrained(folder)
    (folder / "seethink.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
