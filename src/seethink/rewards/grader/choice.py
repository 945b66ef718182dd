"""Multiple choice: which one option an answer names, by letter, by its text, or by both in agreement."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from seethink.rewards.grader.clean import latex, words
from seethink.rewards.grader.extract import Statement
from seethink.rewards.grader.text import REASON, normalise, sentence, yes_or_no

SameText = Callable[[str, str], bool]
"""Whether two texts state the same answer, decided by the rules for open answers."""

_DRESS = re.compile(r"[*`$\"]|(?<!\w)_+|_+(?!\w)|\\[()\[\]]|\\boxed|\\left|\\right")
_LEAD = re.compile(
    r"^(?:(?:the\s+)?(?:(?:final|correct|right|best)\s+)?(?:answer|option|choice|letter)s?(?:\s+is)?\s*[:=]?\s*)+"
    r"(?=\W*[A-Za-z]\b)",
    re.I,
)
_ALONE = re.compile(r"[(\[{]?\s*([A-Za-z])\s*[)\]}]?\s*[.):]?")
_LETTER_TEXT = re.compile(r"(?:[(\[]\s*([A-Za-z])\s*[)\]][:.,]?|([A-Z])\s*[.):,]|([A-Z])\s+[-–—=])\s*(.+)", re.S)
_LETTER_PAREN = re.compile(r"([A-Z])\s*[(\[](.+?)[)\]]\W*", re.S)
_LETTER_PROSE = re.compile(
    r"([A-Z])(?:,|\s*[-;]|\s+(?:because|since|as|is|which|for|due|based|given|where|with|the)\b)"
)
_ANY_LETTER_PROSE = re.compile(r"([B-HJ-Z])\s")
_SECOND = re.compile(
    r"^\W*(?:,|/|&|;|\bor\b|\band\b|\bor\s+(?:maybe|possibly|perhaps)\b|\s)+\W*"
    r"(?:option\s+|choice\s+)?[(\[]?([A-Z])[)\]]?(?![\w'])"
)
_RUN = re.compile(r"[A-Z]{2,10}")
_NAMED = re.compile(
    r"\b(?:option|choice|answer|letter)s?\s*(?:is\s*)?[:(]?\s*\(?([A-Z])\b\)?(?!')|\(([A-Z])\)"
    r"|\b(?i:figure|picture|image|diagram|graph)\s+([A-Z])\b(?=\W*$)"
    r"|\b(?i:is|be|select(?:ed)?|choose|pick|with|thus|hence|therefore|so)[:,]?\s+([B-HJ-Z])\b(?=\W*$)"
)
_OTHERS = re.compile(r",?\s+(?:and\s+|but\s+)?not\s+[^,.]{1,60}(?=[.!]?$)", re.I)
_POSTFIX = re.compile(r"^\W*([A-Z])\W*\s+(?:is|would be|must be)\s+(?:the\s+)?(?:correct|right|best|answer|true)", re.I)
_DENIED = re.compile(
    r"\b(?:not|isn't|wrong|incorrect|false|cannot|eliminate|rule[sd]? out|neither|nor|except|unlike)\b", re.I
)
_HEDGE = re.compile(r"\b(?:or|either|both|and)\b\s*(?:option\s*|choice\s*)?\(?[A-Z]\b\)?", re.I)


class Choices:
    """The options of one question. `same` decides whether free text states an option's text."""

    def __init__(self, options: Sequence[str], same: SameText, letters: int | None = None) -> None:
        self.options = list(options)
        self.same = same
        count = letters if letters is not None else len(self.options)
        self.letters = [chr(ord("A") + i) for i in range(min(count, 26))]

    def read(self, statement: Statement) -> str | None:
        """The letter of the one option that is named; None where none is, or more than one."""
        text = _undressed(statement.text)
        letter = self._read_whole(text)
        if letter is None and statement.kind in ("phrase", "tag", "box", "bold"):
            letter = self._read_prose(text)
        if letter is None and statement.kind in ("free", "bold"):
            letter = self._read_free(text, _undressed(statement.first_line))
        return letter or None

    def _read_whole(self, text: str) -> str | None:
        """The option that a statement names from its first letter on; an empty string where it names several."""
        stripped = _LEAD.sub("", text).strip(" .,;:*")
        for candidate in dict.fromkeys((text.strip(" *'"), stripped.strip("'"))):
            alone = _ALONE.fullmatch(candidate)
            if alone and alone[1].upper() in self.letters:
                return alone[1].upper()
        option = self._verbatim(text) or self._verbatim(stripped)
        if option:
            return option
        if self._several(stripped):
            return ""
        if _LETTER_TEXT.match(stripped):
            return self._letter_first(stripped)
        option = self._option(text) or self._option(stripped) or self._letter_first(stripped)
        return option if option is not None else self._option_with_reason(stripped)

    def _option_with_reason(self, text: str) -> str | None:
        """`Amber, because ...` and `Yes, the lines are parallel.`"""
        clause, *rest = REASON.split(text, maxsplit=1)
        if rest and self._option(clause):
            return self._option(clause)
        said = [i for i, option in enumerate(self.options) if yes_or_no(option, text)]
        return chr(ord("A") + said[0]) if len(said) == 1 else None

    def _letter_first(self, text: str) -> str | None:
        """`C. text`, `(C) text`, `C (text)`, `C because ...`."""
        for pattern in (_LETTER_TEXT, _LETTER_PAREN):
            match = pattern.match(text)
            if match:
                letter = next(part for part in match.groups()[:-1] if part).upper()
                return self._agreed(letter, match.groups()[-1])
        match = _LETTER_PROSE.match(text) or _ANY_LETTER_PROSE.match(text)
        if match and match[1] in self.letters:
            return self._agreed(match[1], text[match.end() :])
        return None

    def _agreed(self, letter: str, rest: str) -> str | None:
        """The letter, unless the text beside it is another option's."""
        if letter not in self.letters:
            return None
        named = self._option(rest.strip(" .()")) or self._option(sentence_head(rest))
        if named and named != letter and not self._is_option(letter, rest):
            return ""
        return letter

    def _is_option(self, letter: str, text: str) -> bool:
        index = ord(letter) - ord("A")
        return index < len(self.options) and self.same(self.options[index], text.strip(" .()"))

    def _several(self, text: str) -> bool:
        """`A or B`, `A, E`, `AB`, `A/B`."""
        head = _ALONE.match(text)
        if head and head[1] in self.letters:
            second = _SECOND.match(text[head.end(1) :].lstrip(")]}"))
            if second and second[1] in self.letters and second[1] != head[1] and not _article(text, head, second):
                return True
        run = _RUN.fullmatch(text)
        return bool(run) and all(letter in self.letters for letter in run.group()) if run else False

    def _verbatim(self, text: str) -> str | None:
        exact = [i for i, option in enumerate(self.options) if _squeezed(option) == _squeezed(text)]
        return chr(ord("A") + exact[0]) if len(exact) == 1 else None

    def _option(self, text: str) -> str | None:
        """The letter of the one option that `text` is: as written, else in value."""
        text = text.strip()
        if not text or not self.options:
            return None
        exact = self._verbatim(text)
        if exact:
            return exact
        folded = [i for i, option in enumerate(self.options) if normalise(option) == normalise(text)]
        found = folded or [i for i, option in enumerate(self.options) if self.same(option, text)]
        return chr(ord("A") + found[0]) if len(found) == 1 else None

    def _read_prose(self, text: str) -> str | None:
        """The option that a sentence names, by letter or by the text at its end."""
        text = _OTHERS.sub("", sentence(text)) or text
        post = _POSTFIX.match(text)
        if post and post[1].upper() in self.letters and not _DENIED.search(text):
            return post[1].upper()
        named: set[str] = {letter for match in _NAMED.findall(text) for letter in match if letter in self.letters}
        if len(named) == 1 and not _HEDGE.search(text) and not _DENIED.search(text):
            return named.pop()
        if named or _DENIED.search(text):
            return None
        result = text.rpartition("=")[2]  # of 10 + 10 = 20, what it comes to
        return (self._option(result) if "=" in text else None) or self._option_at_end(text)

    def _option_at_end(self, text: str) -> str | None:
        """`... is best explained by the law of closure.`"""
        said = normalise(text)
        ends = [i for i, option in enumerate(self.options) if _ends_with(said, normalise(option))]
        longest = max((len(normalise(self.options[i])) for i in ends), default=0)
        best = [i for i in ends if len(normalise(self.options[i])) == longest]
        before = said[: len(said) - longest]
        others = [
            option for i, option in enumerate(self.options) if i not in best and _holds(before, normalise(option))
        ]
        return chr(ord("A") + best[0]) if len(best) == 1 and not others else None

    def _read_free(self, last: str, first: str) -> str | None:
        """The option of a response without a marked answer: in its last line, or alone in its first."""
        letter = self._read_prose(last)
        if letter is not None or not first:
            return letter
        alone = _ALONE.fullmatch(first)
        if alone and alone[1] in self.letters:
            return alone[1]
        match = _LETTER_TEXT.match(first)
        if match and self._is_option((match[1] or match[2] or match[3]).upper(), match[4]):
            return (match[1] or match[2] or match[3]).upper()
        return None


def sentence_head(text: str) -> str:
    """Up to the first full stop that ends a sentence."""
    return re.split(r"[.;](?:\s|$)|\s[-–(]\s?", text.strip(), maxsplit=1)[0]


def _article(text: str, head: re.Match[str], second: re.Match[str]) -> bool:
    """`A I ...`: the second letter is the start of a sentence rather than a label."""
    return (
        second[1] in "AI" and bool(re.match(r"\s+\w", text[head.end(1) + second.end() :])) and "," not in second.group()
    )


def _undressed(text: str) -> str:
    said = words(_DRESS.sub("", text))
    return re.sub(
        r"\s+", " ", said.replace("{", "").replace("}", "") if re.fullmatch(r"\W*[A-Za-z]\W*", said) else said
    ).strip()


def _squeezed(text: str) -> str:
    return re.sub(r"[\s{}$]+", "", words(latex(text))).strip(".")


def _ends_with(said: str, option: str) -> bool:
    return bool(option) and len(option) > 1 and (said == option or said.endswith(" " + option))


def _holds(said: str, option: str) -> bool:
    """Another option is mentioned before the one that the sentence ends on."""
    return len(option) > 1 and f" {option} " in f" {said} "
