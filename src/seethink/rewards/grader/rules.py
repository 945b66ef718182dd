"""Whether a statement is right: one rule for each kind of gold."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

from seethink.rewards.grader import maths
from seethink.rewards.grader.choice import Choices
from seethink.rewards.grader.clean import CACHED, latex, words
from seethink.rewards.grader.codes import is_code, same_code
from seethink.rewards.grader.compare import Symbolic
from seethink.rewards.grader.extract import Statement
from seethink.rewards.grader.golds import gold_letter, kind_of, letter_set, lettered
from seethink.rewards.grader.hedges import first_fragment, restatements, taken_back, unsettled, without_contrast
from seethink.rewards.grader.syntax import Node
from seethink.rewards.grader.text import (
    REASON,
    core,
    first_sentence_is,
    normalise,
    same_text,
    says,
    sentence,
    truth,
    yes_or_no,
)
from seethink.rewards.grader.values import read

_PICTURE = re.compile(
    r"|<.*>|!?\[.*\]\(.*\)|.*\.(?:png|jpe?g|gif|svg|webp)|\W*(?:image|picture|figure|图片?)\W*", re.I | re.S
)
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")


@lru_cache(maxsize=CACHED)
def decide(
    statement: Statement, gold: str, answer_type: str | None, options: tuple[str, ...], symbolic: Symbolic
) -> tuple[bool, str]:
    """Whether the statement is right, and which rule says so."""
    kind = kind_of(gold, answer_type, options)
    rule: Callable[..., tuple[bool, str]] = {
        "choice": _by_choice, "letter": _by_letter, "lettered": _by_lettered, "letters": _by_letters, "code": _by_code,
        "maths": _by_maths, "text": _by_text,
    }[kind]  # fmt: skip
    return rule(statement, gold, options, symbolic)


def _by_choice(statement: Statement, gold: str, options: tuple[str, ...], symbolic: Symbolic) -> tuple[bool, str]:
    right = gold_letter(gold, options)
    named = Choices(options, _same_option, right=right or "").read(statement)
    if named and right and named != right and _says_the_same(options, named, right):
        right = named
    return named == right, f"choice: {named or 'no single option'}, gold {right}"


def _says_the_same(options: tuple[str, ...], one: str, other: str) -> bool:
    """Whether two letters stand for the same words; texts that every option has are pictures that differ."""
    left, right = (options[ord(letter) - ord("A")].strip() for letter in (one, other))
    return left == right and not _PICTURE.fullmatch(left) and len(set(options)) > 1


def _by_letter(statement: Statement, gold: str, options: tuple[str, ...], symbolic: Symbolic) -> tuple[bool, str]:
    right = normalise(gold).strip("()[]. ").upper()
    named = Choices((), same_text, letters=max(10, ord(right) - ord("A") + 1)).read(statement)
    return named == right, f"letter: {named or 'no single letter'}, gold {right}"


def _by_lettered(statement: Statement, gold: str, options: tuple[str, ...], symbolic: Symbolic) -> tuple[bool, str]:
    """`C. Mixed`: the other options are known by their letters alone."""
    right, text = lettered(gold, None) or ("", "")
    before = ord(right) - ord("A")
    named = Choices([""] * before + [text], _same_option, letters=max(10, before + 1), strict=True).read(statement)
    return named == right, f"letter: {named or 'no single letter'}, gold {gold[:80]}"


def _by_letters(statement: Statement, gold: str, options: tuple[str, ...], symbolic: Symbolic) -> tuple[bool, str]:
    right = letter_set(gold, None, options or None) or letter_set(gold, "mc", None)
    named = Choices(options, _same_option, letters=len(options) or 10).read_set(statement)
    return named == right, f"letters: {''.join(sorted(named or ())) or 'none'}, gold {gold[:80]}"


def _by_code(statement: Statement, gold: str, options: tuple[str, ...], symbolic: Symbolic) -> tuple[bool, str]:
    correct = not statement.listed and any(same_code(gold, text) for text in _endings(statement))
    return correct, f"as written: {statement.text[:80]!r}, gold {gold}"


def _endings(statement: Statement) -> Iterator[str]:
    """A statement as it stands, and the ends of its last sentence where no word before them changes them."""
    yield statement.text
    if statement.kind != "box":
        line = without_contrast(statement.text)
        yield line
        fragment = first_fragment(line)
        if fragment is not None and is_code(fragment):
            if not taken_back("", line[len(fragment) :]) and not any(map(is_code, restatements(line))):
                yield fragment
            return
        last = REASON.split(sentence(line), maxsplit=1)[0][-200:]
        for match in re.finditer(r"(?<=\s)(?=[\d(+$€£¥])|\bfrom\b", last):
            if not unsettled(last[: match.start()]):
                yield last[match.start() :]


def _by_maths(statement: Statement, gold: str, options: tuple[str, ...], symbolic: Symbolic) -> tuple[bool, str]:
    clock = _CLOCK.fullmatch(gold.strip(" $"))
    if clock:
        text = words(latex(without_contrast(statement.text)))
        times = list(_CLOCK.finditer(text))
        right = bool(times) and _clock(times[-1].groups()) == _clock(clock.groups()) and not statement.listed
        fragment = first_fragment(text)
        settled = right and not (
            unsettled(text[: times[-1].start()])
            or taken_back("", text[times[-1].end() :])
            or (fragment is not None and _CLOCK.search(fragment) and times[-1].group() not in fragment)
        )
        return settled, f"time: gold {gold}"
    target = read(gold)
    assert target is not None
    if statement.listed and not maths.is_several(target.node):
        each = [replace(statement, text=box, boxes=(), listed=False, after="") for box in statement.boxes]
        return all(_by_maths(one, gold, options, symbolic)[0] for one in each), f"maths, several: gold {gold[:80]}"
    if not statement.boxes and same_text(gold, statement.text) and read(statement.text) is None:
        return True, f"maths, as text: gold {gold[:80]}"
    shown = "nothing that can be read"
    for value in maths.answered(statement, target):
        shown = value.text[:80]
        if maths.same(target, value, symbolic):
            return True, f"maths: {shown} = {gold[:80]}"
    return False, f"maths: {shown}, gold {gold[:80]}"


def _clock(parts: tuple[str | None, ...]) -> tuple[int, ...]:
    return tuple(int(part) for part in parts if part is not None)


def _by_text(statement: Statement, gold: str, options: tuple[str, ...], symbolic: Symbolic) -> tuple[bool, str]:
    return _says_text(statement, gold), f"text: {statement.text[:80]!r}, gold {gold[:80]!r}"


def _says_text(statement: Statement, gold: str) -> bool:
    if statement.listed:
        return same_text(gold, " and ".join(statement.boxes)) or all(
            _says_text(replace(statement, text=box, boxes=(), listed=False), gold) for box in statement.boxes
        )
    line = statement.text
    if truth(gold) is not None:
        lines = [line, statement.first_line] if statement.kind in ("free", "bold") else [line]
        said = [yes_or_no(gold, each) for each in lines if each]
        return (any(said) and not _contradicts(lines)) or says(gold, line)
    if same_text(gold, line) or says(gold, line):
        return True
    claim = without_contrast(line)
    return statement.kind != "box" and (same_text(gold, core(claim)) or first_sentence_is(gold, claim))


def _contradicts(lines: Sequence[str]) -> bool:
    """One line says yes and the other no."""
    return len({word for word in ("yes", "no") for line in lines if line and yes_or_no(word, line)}) > 1


def _same_option(option: str, text: str) -> bool:
    """Whether a text states an option, by words or by value: ten options must not mean ten deadlines."""
    return _same_answer(option, text, never)


def never(gold: Node, found: Node) -> bool:
    """The `symbolic` of options: an answer names an option in the option's own form, so arithmetic is enough."""
    return False


def _same_answer(gold: str, found: str, symbolic: Symbolic) -> bool:
    """Whether a text states the answer of an option, by value or by words."""
    if same_text(gold, found):
        return True
    if is_code(gold):
        return same_code(gold, found)
    target, value = read(gold), read(found)
    return target is not None and value is not None and maths.same(target, value, symbolic)
