"""Finds vision encoder, connector and language model of a model whose family is not listed in parts.py.

From the model's own structure, on the meta device too: the language model holds the token embeddings; a vision encoder
is a model built from a vision part of the configuration; what is left between the two is the connector. Where nothing
is left, the connector lies inside the vision encoder: those of its modules that give features as wide as the language
model reads. `models/trial.py` proves on a loaded model that each part consumes what the one before it gives.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

from torch import nn

from seethink.models.parts import FAMILIES, Family, PartsError

IMAGE_WORDS = ("<*image*>", "<*img*>", "<*IMG*>", "<*vision*>", "<*video*>", "[[]IMG*]")
"""Names that published tokenizers give to tokens of images and videos; never sampled."""
BETWEEN = ("qformer", "perceiver", "connector", "projector", "adapter", "resampler")
"""Parts of configurations whose models stand between a vision encoder and a language model."""
BETWEEN_CLASSES = ("Merger", "Projector", "Projection", "Aligner", "Adapter", "Resampler", "Connector")
CROSS_ATTENTION = ("cross_attention_states", "encoder_hidden_states", "image_hidden_states")
BODY = ("input_ids", "position_ids", "past_key_values")
"""What models/forward.py gives to a base model."""


class NotFoundError(PartsError):
    """A model whose parts its structure does not tell; the message is the reason."""


@dataclass(frozen=True, slots=True)
class _Places:
    """Module paths by part."""

    vision: tuple[str, ...]
    connector: tuple[str, ...]
    language: tuple[str, ...]
    inside: bool
    """Whether the connector lies in the vision encoder."""


def find_family(model: Any) -> Family:
    """Module paths by part and how the forward is called, as parts.py lists them. Raises NotFoundError."""
    places = _places(model)
    base = getattr(model, "model", None)
    if base is not None and places.language[0] == "model":
        base = None
    rope = hasattr(base, "get_rope_index")
    # With M-RoPE the positions say where images are; but experts may ask, too.
    asked = ("moe_mm_token_type_ids",) if rope else ("token_type_ids", "mm_token_type_ids")
    return Family(
        places.vision,
        places.connector,
        places.language,
        IMAGE_WORDS,
        connector_kind=", ".join(_class(model, path) for path in places.connector),
        positions="M-RoPE" if rope else "1-D",
        token_types=next((name for name in asked if base is not None and _takes(base, name)), None),
        body=_body(model, base),
        packs=False,
        evidence=_evidence(model, places),
    )


def use_found(model: Any) -> None:
    """Let the parts that are found stand for the table. Raises PartsError with the reason where they are not."""
    try:
        model.seethink_family = find_family(model)
    except NotFoundError as reason:
        raise PartsError(
            f"no parts table for model type {str(model.config.model_type)!r}, and its structure does not tell its "
            f"parts: {reason}. Listed: {', '.join(sorted(FAMILIES))}. Where it is a decoder with image tokens, name "
            "its modules in the recipe's [parts.modules] (docs/families.md)"
        ) from None


def _places(model: Any) -> _Places:
    config = model.config
    if getattr(config, "is_encoder_decoder", False) or getattr(config.get_text_config(), "is_encoder_decoder", False):
        raise NotFoundError("its language model is an encoder-decoder; only decoders are trained")
    if getattr(config.get_text_config(), "use_bidirectional_attention", None) is True:
        raise NotFoundError(
            "all tokens of its prompt look at each other both ways; only causal language models are trained"
        )
    if _takes(model, "decoder_position_ids"):
        raise NotFoundError("it refines a canvas of tokens (decoder_position_ids) instead of writing one after another")
    if not any(hasattr(config, f"image_token_{end}") for end in ("id", "index")):
        raise NotFoundError("its configuration names no image token, so its images take no places among the tokens")
    vision = tuple(_vision(model))
    if not vision:
        raise NotFoundError("it has no vision encoder: no module is built from a vision part of its configuration")
    names = {id(module): name for name, module in model.named_modules()}
    language = _language(model, names[id(model.get_input_embeddings())], vision)
    if any(_takes(model.get_submodule(language), taken) for taken in CROSS_ATTENTION):
        raise NotFoundError("its language model looks at images through cross-attention, not at image tokens")
    head = names.get(id(model.get_output_embeddings()), language)
    spoken = (language,) if f"{head}.".startswith(f"{language}.") else (language, head)
    between = tuple(_left(model, (*vision, *spoken)))
    _refuse_strangers(model, between)
    width = _width(model)
    if between and not any(width in p.shape for n, p in model.named_parameters() if _within(n, between)):
        raise NotFoundError(f"nothing in {', '.join(between)} gives features {width} wide, as its language model reads")
    return _Places(vision, between or tuple(_last_of(model, vision, width)), spoken, not between)


def _width(model: Any) -> int:
    """Numbers per token that the language model reads."""
    return int(model.config.get_text_config().hidden_size)


def _vision(model: Any) -> Iterator[str]:
    """Outermost modules whose configuration is of the class of one of the model's vision parts."""
    config, embeddings = model.config, model.get_input_embeddings()
    parts = [getattr(config, key, None) for key in config.sub_configs if "vision" in key]
    kinds = tuple(type(part) for part in parts if part is not None)
    found: list[str] = []
    for name, module in model.named_modules():
        if not name or _within(name, found) or not isinstance(_config(module), kinds):
            continue
        if _has_weights(module) and all(child is not embeddings for child in module.modules()):
            found.append(name)
            yield name


def _config(module: nn.Module) -> Any:
    """The configuration that a model of transformers was built from; None for other modules."""
    from transformers import PreTrainedModel

    return module.config if isinstance(module, PreTrainedModel) else None


def _has_weights(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _language(model: nn.Module, embeddings: str, vision: tuple[str, ...]) -> str:
    """The outermost model that holds the token embeddings and no vision encoder."""
    pieces = embeddings.split(".")
    outward = [".".join(pieces[:n]) for n in range(1, len(pieces))]
    alone = [path for path in outward if not any(_within(tower, (path,)) for tower in vision)]
    models = [path for path in alone if _config(model.get_submodule(path)) is not None]
    if not models:
        raise NotFoundError("its language model is no module of its own: its layers lie beside the vision encoder")
    return models[0]


def _left(model: nn.Module, taken: tuple[str, ...]) -> Iterator[str]:
    """The shortest paths to the parameters outside `taken` that hold nothing of it."""
    found: list[str] = []
    for name, _ in model.named_parameters():
        if _within(name, (*taken, *found)):
            continue
        pieces = name.split(".")
        outward = [".".join(pieces[:n]) for n in range(1, len(pieces) + 1)]
        found.append(next(path for path in outward if not any(_within(other, (path,)) for other in taken)))
        yield found[-1]


def _within(name: str, paths: tuple[str, ...] | list[str]) -> bool:
    return any(f"{name}.".startswith(f"{path}.") for path in paths)


def _refuse_strangers(model: Any, between: tuple[str, ...]) -> None:
    """Raises NotFoundError where another model is left: an encoder of sound, a quantizer of pictures."""
    config = model.config
    keys = [key for key in config.sub_configs if any(word in key for word in BETWEEN)]
    kinds = (type(config), *(type(getattr(config, key)) for key in keys))
    for name, module in model.named_modules():
        if _within(name, between) and _config(module) is not None and not isinstance(_config(module), kinds):
            kind = type(module).__name__
            raise NotFoundError(f"{name} ({kind}) is neither vision encoder nor connector nor language model")


def _last_of(model: nn.Module, vision: tuple[str, ...], width: int) -> Iterator[str]:
    """Modules of the vision encoders that give features `width` wide, where the encoders' own layers do not."""
    for tower in vision:
        children = [(n, c) for n, c in model.get_submodule(tower).named_children() if _has_weights(c)]
        layers = [name for name, child in children if _holds_layers(child)]
        wide = [name for name, child in children if _gives(child) == width]
        if any(name in wide for name in layers):
            # The encoder is as wide as the language model: the names of the classes must tell.
            wide = [name for name, child in children if any(word in type(child).__name__ for word in BETWEEN_CLASSES)]
        if not wide:
            raise NotFoundError(f"nothing lies between {tower} and the language model, which reads {width} numbers")
        yield from (f"{tower}.{name}" for name in wide)


def _holds_layers(module: nn.Module) -> bool:
    from transformers.modeling_layers import GradientCheckpointingLayer

    return any(isinstance(m, GradientCheckpointingLayer) for m in module.modules())


def _gives(module: nn.Module) -> int | None:
    """The width of what the module's last linear or convolutional layer gives."""
    widths = [getattr(m, "out_features", getattr(m, "out_channels", None)) for m in module.modules()]
    return next((width for width in reversed(widths) if isinstance(width, int)), None)


def _body(model: Any, base: Any) -> Literal["model", "language_model"]:
    if base is not None and all(_takes(base, name) for name in BODY):
        return "model"
    if hasattr(model, "language_model") and hasattr(model, "get_image_features"):
        return "language_model"
    raise NotFoundError(f"its base model does not take {', '.join(BODY)}")


def _takes(module: nn.Module, name: str) -> bool:
    return name in inspect.signature(module.forward).parameters


def _evidence(model: Any, places: _Places) -> tuple[str, str, str]:
    """Why each part is held for what it is."""
    inside = "the vision encoder's modules" if places.inside else "all that is left,"
    return (
        f"vision: {_classes(model, places.vision)}, built from a vision part of the configuration",
        f"connector: {_classes(model, places.connector)}, {inside} giving {_width(model)} numbers per token",
        f"language: {_classes(model, places.language)}, with the token embeddings, reading {_width(model)} numbers",
    )


def _classes(model: Any, paths: tuple[str, ...]) -> str:
    return ", ".join(f"{path} ({_class(model, path)})" for path in paths)


def _class(model: Any, path: str) -> str:
    """The class of a module; `Parameter` for a bare one."""
    return type(attrgetter(path)(model)).__name__
