"""Small tokenizers of three kinds, trained on a few lines: byte-level BPE, unigram (sentencepiece style), wordpiece."""

from __future__ import annotations

from functools import cache
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

LINES = (
    "so red is 3. Wait, but blue is 4. Alternatively, count again. Hmm. However it may be, let me check it once more.",
    "Button and rebuttal, awaiting butter; waiting for Hmmm.",
    "等等，再看一下。不过，红色是三。等等等等。",
    "Wait 🤔 for it. But Wait! But why? Wait and see. 等等我",
)
KINDS = ("bpe", "unigram", "wordpiece")


@cache
def small_tokenizer(kind: str, size: int = 400) -> Any:
    """One of KINDS. A BPE of 256 tokens has no merge at all: every byte is a token."""
    backend = {"bpe": _bpe, "unigram": _unigram, "wordpiece": _wordpiece}[kind](size)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token=None if kind == "bpe" else "[UNK]", eos_token="[EOS]"
    )


def _bpe(size: int) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=["[EOS]"], initial_alphabet=alphabet)
    backend.train_from_iterator(LINES, trainer)
    return backend


def _unigram(size: int) -> Tokenizer:
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=size, special_tokens=["[UNK]", "[EOS]"], unk_token="[UNK]")
    backend.train_from_iterator([*LINES, *LINES, "\n"], trainer)
    return backend


def _wordpiece(size: int) -> Tokenizer:
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=["[UNK]", "[EOS]"])
    backend.train_from_iterator(LINES, trainer)
    return backend
