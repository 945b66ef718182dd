"""The closed vocabulary of the second world, and its tokenizer: every word and every number up to 99 is one token.

Numbers always follow a space, so that a number is the same token in a question, a reading, an equation and an answer.
Other text falls back to bytes, so any text can be read.
"""

from __future__ import annotations

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from seethink.world.questions import LETTERS
from seethink.world.v2.names import NAMES

_FIRST = "What Which How Follow Where Describe I The A B C D user assistant system"
FIRST = tuple(_FIRST.split())
"""Words that stand without a space before them."""
_INNER = """
is are the of all on from to or and two three many times does next way end so Wait Where What Which How Follow The
value values sum number largest smallest second larger above add rise plus minus
card cards die dice shapes bar bars clock tally point points pictures gauge digit dots scratched
arrow arrows row up down left right see answer image
"""
INNER = tuple(_INNER.split())
"""Words after a space."""
SIGNS = ("+", "-", "=", "<", ">")
MARKS = (".", ",", "?", "\n")
NUMBERS = range(100)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>")
THINK = ("<think>", "</think>")
_PIECES = r" ?\d{1,2}| ?\p{L}+(?:'\p{L}+)?| ?[^\s\d\p{L}]|\s"


def vocabulary() -> list[str]:
    """Every whole word, sign and number, as text, with its space."""
    spaced = [*INNER, *NAMES, *SIGNS, *LETTERS, *map(str, NUMBERS)]
    return list(dict.fromkeys([*FIRST, *MARKS, *(f" {word}" for word in spaced)]))


def build_tokenizer_core() -> Tokenizer:
    """256 bytes, the vocabulary, and the special tokens; a word that is whole is never split."""
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [to_bytes.pre_tokenize_str(text)[0][0] for text in vocabulary()]
    entries = list(dict.fromkeys([*alphabet, *words]))
    core = Tokenizer(models.BPE(vocab={text: i for i, text in enumerate(entries)}, merges=[], ignore_merges=True))
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"), to_bytes])
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    core.add_tokens([AddedToken(text, special=False, normalized=False) for text in THINK])
    return core
