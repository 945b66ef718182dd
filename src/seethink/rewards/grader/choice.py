"""Multiple choice: which one option an answer names, by letter, by its text, or by both in agreement."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

from seethink.rewards.grader.claims import claimed_count, claimed_option, says_another
from seethink.rewards.grader.clean import CACHED, latex, words
from seethink.rewards.grader.extract import Statement
from seethink.rewards.grader.hedge_patterns import CLAUSE, DENIAL, DENIED_AFTER
from seethink.rewards.grader.hedges import restatements, taken_back, unsettled, without_contrast
from seethink.rewards.grader.letters import is_open_list, left_over, letter_list, marked, speaks_for_another
from seethink.rewards.grader.text import REASON, core, normalise, number_words, yes_or_no

SameText = Callable[[str, str], bool]
"""Whether two texts state the same answer, decided by the rules for open answers."""

_DRESS = re.compile(r"[*`$\"]|(?<!\w)_+|_+(?!\w)|\\[()\[\]]|\\boxed|\\left|\\right")
_LEAD = re.compile(
    r"^(?:(?:选项|選項)\s*|(?:the\s+)?(?:(?:final|correct|right|best)\s+)?(?:answer|option|choice|letter)s?(?:\s+is)?\s*[:=]?\s*)+"
    r"(?=\W*[A-Za-z]\b)",
    re.I,
)
_ALONE = re.compile(r"[(\[{]?\s*([A-Za-z])\s*[)\]}]?\s*[.):]?")
_LETTER_TEXT = re.compile(
    r"(?:[(\[]\s*([A-Za-z])\s*[)\]][:.,]?|([A-Z])\s*[.):,]|([A-Z])\s+[-–—=]|([A-Z])\s?(?=[\u3040-\u9fff\uac00-\ud7a3]))\s*(.+)",
    re.S,
)
_LETTER_PAREN = re.compile(r"([A-Z])\s*[(\[](.+?)[)\]]\W*", re.S)
_LETTER_PROSE = re.compile(
    r"([A-Z])(?:,|\s*[-;]|\s+(?=(?:because|since|as|is|which|for|due|based|given|where|with|the|or|and|also|but|would|"
    r"will|has|does|should)\b))"
)
_ANY_LETTER_PROSE = re.compile(r"([B-HJ-Z])\s|([A-Z])(?=\s?(?:选项|項|项))")
_NAMED = re.compile(
    r"\b(?:option|choice|answer|letter)s?\s*(?:is\s*)?[:(]?\s*\(?([A-Z])\b\)?(?!')|\(([A-Z])\)"
    r"|\b(?i:figure|picture|image|diagram|graph)\s+([A-Z])\b(?=\W*$)"
    r"|\b(?i:is|be|select(?:ed)?|choose|pick|with|thus|hence|therefore|so|it's|that's|get|gives|giving|yields)[:,]?\s+([A-Z])\b(?=\W*$)"
)
_POSTFIX = re.compile(r"^\W*([A-Z])\W*\s+(?:is|would be|must be)\s+(?:the\s+)?(?:correct|right|best|answer|true)", re.I)
_HEDGE = re.compile(r"\b(?:or|either|both|and)\b\s*(?:option\s*|choice\s*)?\(?[A-Z]\b\)?", re.I)
_AND_MORE = re.compile(
    r"[\s)\].]*(?:\band\b|\bplus\b|&|\+)\s+(?!(?:not|it|the|so|therefore|this|that|because|is)\b)", re.I
)
_MORE_LETTERS = re.compile(r"^[A-Z](?:\s*(?:,|and|or|&)\s*[A-Z]\b)*")
_JOINS = re.compile(r"\b(?:or|and|also|either|both|maybe|perhaps|possibly)\b", re.I)
_VERB = re.compile(r"\b(?:is|are|equals|would be|will be|must be)\s(?!not\b)", re.I)
_AS_SHOWN = re.compile(r",\s(?:as|which|because|since)\b.*$", re.I | re.S)
_ITEMS = re.compile(r"[,;&\n]|\band\b|和|与|及")
_BOTH = re.compile(r"^(?:both|all of)\s+(?=(?:options?\s|choices?\s)?\W*[A-Z]\b)", re.I)
_ARE_RIGHT = re.compile(
    r"\s*(?:\b(?:are|is)\b\s+(?:both\s+|all\s+)?(?:the\s+)?(?:correct|right|true|answers?)|(?:都)?(?:正确|正確|对|對)).*$",
    re.S,
)
_SECOND_THOUGHT = re.compile(r"\s*(?:maybe|perhaps|possibly|also|alternatively|it (?:could|might) also)\b", re.I)
_OFF = re.compile(
    r"\b(?:close|closer|next|near|nearer|similar|related|compared|adjacent|opposite|mixed|combined|turns?|changes?|prior|due|"
    r"beside|away|back|parallel|perpendicular|attached|connected|belongs?) (?:to|with|into)\s*$"
    r"|\b(?:such as|than(?: (?:in|on|at|of|for|by))?)\s*$"
)
"""Before an option: it is what the answer stands beside, or becomes."""
_LONE_LETTER = re.compile(r"\W*[A-Za-z]\W*")
_SQUEEZE = re.compile(r"[\s{}$]+")
_HEAD_END = re.compile(r"[.;](?:\s|$)|\s[-–(]\s?")
_LEADS_IN = frozenset((
    "is", "are", "was", "were", "be", "been", "being", "as", "by", "of", "to", "in", "on", "at", "for", "with",
    "from", "called", "named", "known", "shows", "show", "showing", "indicates", "gives", "give", "equals",
    "equal", "becomes", "become", "will", "would", "should", "must", "can", "about", "approximately", "roughly",
    "around", "namely", "therefore", "thus", "hence", "so", "then", "option", "answer", "choose", "choice",
    "select", "pick", "it", "it's", "its", "that", "that's", "have", "has", "contains", "because", "most",
    "likely", "see", "into", "via", "through", "using",
))  # fmt: skip


class Choices:
    """The options of one question. `same` decides whether free text states an option's text."""

    def __init__(
        self, options: Sequence[str], same: SameText, letters: int | None = None, right: str = "", strict: bool = False
    ) -> None:
        """`right`: which of several equal options is meant. `strict`: a text beside a letter must be its option's."""
        self.options = list(options)
        self.same = same
        self.right = right
        self.strict = strict
        count = letters if letters is not None else len(self.options)
        self.letters = [chr(ord("A") + i) for i in range(min(count, 26))]

    def read(self, statement: Statement) -> str | None:
        """The letter of the one option that is named; None where none is, or more than one."""
        if statement.listed:
            found = {self.read(replace(statement, text=box, boxes=(), listed=False)) for box in statement.boxes}
            return found.pop() if len(found) == 1 else None
        text = _undressed(statement.text)
        left = left_over(text, self.letters) if statement.kind != "box" else None
        whole = self._read_whole(text) if left is None or statement.kind != "free" else None
        letter = left if whole is None else whole
        if letter is None and statement.kind in ("phrase", "tag", "box", "bold"):
            letter = self._read_prose(text)
        if letter is None and statement.kind in ("free", "bold"):
            letter = self._read_free(text, _undressed(statement.first_line))
            if letter is None:
                letter = self._claimed(statement.prose)
            elif says_another(statement.prose, tuple(self.options)):
                return None
        elif letter and statement.kind == "free" and 0 < len(statement.first_line) < 80:
            first = self._read_whole(_undressed(statement.first_line))
            letter = letter if not first or first == letter else None
        return letter or None

    def _claimed(self, prose: str) -> str | None:
        """The option that the sentences of a short response claim: `There is a surplus of 5 units.`"""
        if not prose or not self.options:
            return None
        place = claimed_option(prose, self.options)
        if place is not None:
            return chr(ord("A") + place)
        count = claimed_count(prose)
        return self._option(number_words(count.lower())) if count else None

    def read_set(self, statement: Statement) -> frozenset[str] | None:
        """The letters of all options that are named; None where some part of the answer names none."""
        parts = statement.boxes if statement.listed else (statement.text,)
        named: set[str] = set()
        for part in parts:
            text = _BOTH.sub("", _LEAD.sub("", _undressed(without_contrast(part))))
            found = self._set_of(_ARE_RIGHT.sub("", text))
            if found is None:
                return None
            named |= found
        return frozenset(named)

    def _set_of(self, text: str) -> set[str] | None:
        listed = letter_list(text, self.letters) or letter_list(REASON.split(text, maxsplit=1)[0], self.letters)
        if listed is not None:
            return None if is_open_list(text) else set(listed)
        if is_open_list(re.sub(r"[-~>=]", "", text)) or DENIAL.search(text):
            return None
        parts = [self._read_whole(part.strip()) for part in _ITEMS.split(text) if part.strip()]
        return set(filter(None, parts)) if parts and all(parts) else None

    def _read_whole(self, text: str) -> str | None:
        """The option that a statement names from its first letter on; an empty string where it names several."""
        stripped = _LEAD.sub("", core(text)).strip(" .,;:*!")
        for candidate in dict.fromkeys((text.strip(" *'"), stripped.strip("'"))):
            alone = _ALONE.fullmatch(candidate)
            if alone and alone[1].upper() in self.letters:
                return alone[1].upper()
        option = self._verbatim(text) or self._verbatim(stripped)
        if option:
            return option
        beside = _LETTER_TEXT.match(stripped)
        if beside and self._is_written(next(part for part in beside.groups()[:-1] if part).upper(), beside[5]):
            return next(part for part in beside.groups()[:-1] if part).upper()  # also where the text is a letter
        listed = letter_list(stripped, self.letters)
        if listed:
            return listed[0] if len(set(listed)) == 1 else ""
        if beside:
            return self._letter_first(stripped)
        option = self._option(text) or self._option(stripped) or self._letter_first(stripped)
        return option if option is not None else self._option_with_reason(stripped)

    def _option_with_reason(self, text: str) -> str | None:
        """`Amber, because ...` and `Yes, the lines are parallel.`"""
        clause, *rest = REASON.split(text, maxsplit=1)
        if rest and (option := self._option(clause)):
            return option if not self._names_another(rest[0], option) else ""
        said = [i for i, option in enumerate(self.options) if yes_or_no(option, text)]
        return chr(ord("A") + said[0]) if len(said) == 1 else None

    def _letter_first(self, text: str) -> str | None:
        """`C. text`, `(C) text`, `C (text)`, `C because ...`."""
        for pattern in (_LETTER_TEXT, _LETTER_PAREN):
            match = pattern.match(text)
            if match:
                letter = next(part for part in match.groups()[:-1] if part).upper()
                return self._agreed(letter, match.groups()[-1], text[match.end() :])
        match = _LETTER_PROSE.match(text) or _ANY_LETTER_PROSE.match(text)
        if match and (match[1] or match[2]) in self.letters:
            if DENIED_AFTER.search(_MORE_LETTERS.sub("", text)):
                return None  # `A and B are wrong, leaving C`
            return self._agreed(match[1] or match[2], text[1:])
        return None

    def _agreed(self, letter: str, rest: str, beyond: str = "") -> str | None:
        """The letter, unless the text beside it is another option's, denies it, or speaks for another one too."""
        if letter not in self.letters:
            return self._option(rest) or self._option_with_reason(rest)  # a letter that is no option's, beside a text
        if self._is_option(letter, rest) and not beyond:
            return letter
        named = self._option(rest.strip(" .()")) or self._option(sentence_head(rest))
        if named and not self._is_same(letter, named):
            return ""
        said = REASON.split(" " + sentence_head(rest), maxsplit=1)[0].strip(" ,")
        if not self._is_same(letter, self._option_at_end(said) or letter):
            return ""
        if self.strict and said and not self._is_option(letter, said):
            return ""
        return "" if self._names_another(self._without_own_text(letter, rest) + beyond, letter) else letter

    def _is_same(self, letter: str, other: str) -> bool:
        """Whether two letters are one, or those of options with the same text."""
        return letter == other or self._is_written(letter, self.options[ord(other) - ord("A")])

    def _names_another(self, rest: str, letter: str) -> bool:
        if taken_back("", rest) or _AND_MORE.match(rest) or speaks_for_another(rest, letter, self.letters):
            return True
        for text in restatements(rest):
            named = self._option(text) or (text.upper() if text.upper() in self.letters and len(text) == 1 else letter)
            if named != letter:
                return True
        return False

    def _without_own_text(self, letter: str, rest: str) -> str:
        index = ord(letter) - ord("A")
        own = _undressed(self.options[index]) if index < len(self.options) else ""
        return rest[len(own) :] if own and rest.casefold().startswith(own.casefold()) else rest

    def _is_option(self, letter: str, text: str) -> bool:
        index = ord(letter) - ord("A")
        return index < len(self.options) and self.same(self.options[index], text.strip(" .()"))

    def _is_written(self, letter: str, text: str) -> bool:
        index = ord(letter) - ord("A")
        return index < len(self.options) and _squeezed(self.options[index]) == _squeezed(text)

    def _verbatim(self, text: str) -> str | None:
        squeezed = _squeezed(text)
        return self._one([i for i, option in enumerate(self.options) if _squeezed(option) == squeezed])

    def _one(self, found: list[int]) -> str | None:
        """The letter of the only option found; of several with the same text, the right one."""
        if len(found) > 1 and len({_squeezed(self.options[i]) for i in found}) == 1:
            right = ord(self.right) - ord("A") if self.right else -1
            return chr(ord("A") + (right if right in found else found[0]))
        return chr(ord("A") + found[0]) if len(found) == 1 else None

    def _option(self, text: str) -> str | None:
        """The letter of the one option that `text` is: as written, else in value."""
        text = text.strip()
        if not text or not self.options:
            return None
        exact = self._verbatim(text)
        if exact:
            return exact
        said = normalise(text)
        folded = [i for i, option in enumerate(self.options) if normalise(option) == said]
        return self._one(folded or [i for i, option in enumerate(self.options) if self.same(option, text)])

    def _read_prose(self, text: str) -> str | None:
        """The option that the last sentence names, by letter or by the text at its end; what it rules out is passed."""
        denied: set[str] = set()
        for clause in reversed(CLAUSE.split(without_contrast(text))):
            if DENIAL.search(clause):
                named = {letter for letter, _, _ in marked(clause, self.letters)}
                if not named:
                    return None
                denied |= named
            elif _SECOND_THOUGHT.match(clause) and clause not in text[: len(clause)]:
                return None
            elif clause.strip():
                letter = self._read_clause(clause.strip())
                return letter if letter is None or letter not in denied else None
        return None

    def _read_clause(self, text: str) -> str | None:
        whole = self._read_whole(text)
        if whole is not None:
            return whole
        post = _POSTFIX.match(text)
        if post and post[1].upper() in self.letters:
            return post[1].upper()
        named: set[str] = {letter for match in _NAMED.findall(text) for letter in match if letter in self.letters}
        others = {letter for letter, _, _ in marked(text, self.letters)} - named
        if len(named) == 1 and not _HEDGE.search(text) and not (others and _JOINS.search(text)):
            return named.pop()
        if named:
            return None
        result = text.rpartition("=")[2]  # of 10 + 10 = 20, what it comes to
        found = (self._option(result) if "=" in text else None) or self._option_at_end(text)
        return found or self._option_after_verb(text)

    def _option_after_verb(self, text: str) -> str | None:
        """`The length of EF is 8 cm, as shown.`"""
        if _JOINS.search(text):  # `As AB is 1 and BC is 2, the sum is 3`: only the last clause counts
            text = text.rpartition(", ")[2]
            if _JOINS.search(text) or not text.rstrip(" .")[-1:].isdigit():
                return None
        *_, said = _VERB.split(text)
        said = _AS_SHOWN.sub("", said).strip(" .")
        return self._option(said) if (len(said) > 1 or said.isdigit()) and len(said) < len(text) else None

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
        if not best or others:
            return None
        is_number = any(char.isdigit() for char in self.options[best[0]])
        return self._one(best) if _leads_in(before) or (is_number and not unsettled(before)) else None

    def _read_free(self, last: str, first: str) -> str | None:
        """The option of a response without a marked answer: in its last line, or alone in its first."""
        letter = self._read_prose(last)
        if letter is not None or not first:
            return letter
        alone = _ALONE.fullmatch(first)
        if alone and alone[1] in self.letters:
            return alone[1]
        match = _LETTER_TEXT.match(first)
        if match:
            letter = next(part for part in match.groups()[:-1] if part).upper()
            return letter if self._is_option(letter, match.groups()[-1]) else None
        return None


def sentence_head(text: str) -> str:
    """Up to the first full stop that ends a sentence."""
    return _HEAD_END.split(text.strip(), maxsplit=1)[0]


def _undressed(text: str) -> str:
    said = words(_DRESS.sub("", text))
    return " ".join((said.replace("{", "").replace("}", "") if _LONE_LETTER.fullmatch(said) else said).split())


@lru_cache(maxsize=CACHED)
def _squeezed(text: str) -> str:
    return _SQUEEZE.sub("", words(latex(text))).strip(".")


def _ends_with(said: str, option: str) -> bool:
    return (len(option) > 1 or option.isdigit()) and (said == option or said.endswith(" " + option))


def _holds(said: str, option: str) -> bool:
    """Another option is mentioned before the one that the sentence ends on."""
    return (len(option) > 1 or option.isdigit()) and f" {option} " in f" {said} "


def _leads_in(before: str) -> bool:
    """Whether words such as `it is` come before an option, rather than one that makes it another: `dark red`."""
    if _OFF.search(before[-40:]):
        return False
    word = before.split()[-1] if before.strip() else ""
    return not word or word in _LEADS_IN or word.isdigit() or word.endswith(("ly", ":", ",", "="))
