"""Finds what a response states as its answer. The last explicit statement wins; nothing is guessed.

Every scan is linear in the response, because a degenerating policy writes the worst input there is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from seethink.rewards.grader.clean import plain

MAX_TAIL = 40_000
"""Characters read from the end: no stated answer is longer, and the cost stays bounded."""

MAX_STATEMENT = 2_000
"""Characters of one stated answer; of a longer line its end counts."""

_CHAT_TOKEN = re.compile(r"<\|(?:im_start|im_end|endoftext|eot_id|end)\|>|</s>")
_BRACES = re.compile(r"\\(?:boxed|fbox)\s{0,4}\{|\\(?:boxed|fbox)\s{1,4}[\w.+-]{1,40}|\\.|[{}]", re.S)
_PHRASE = re.compile(
    r"\banswers?\b[*_`\"')\]]{0,4}\s{0,3}(?:(?:is|are|was|would be|should be|must be)\b|[:=：]|[-–—]\s)"
    r"|\banswers?\s(?:to|for|of|in)\b[^.\n:]{1,80}?\s(?:is|are)\b"
    r"|\banswers?\s{1,3}(?=\$|\\[(\[])"
    r"|\bfinal answer\b[*_# ]{0,6}\n"
    r"|\bcorrect (?:option|choice|statement|answer)s?\b[^.\n]{0,120}?\b(?:is|are)\b"
    r"|\b(?:option|choice) is\b"
    r"|答案\s{0,3}(?:是|为|應該是|应该是)?|####",
    re.I,
)
_LEAD = re.compile(r"[\s:：*_=>`]*")
_NOT = re.compile(r"(?:not|never|unknown|unclear)\b", re.I)
_BETWEEN_BOXES = re.compile(r"(?:[\s$,;&.]|\\q?quad|\\[,;: ()\[\]]|\\text\s*\{\s*(?:and|or|,)?\s*\}|\band\b|\bor\b)*")
_RUN_OF_SPACE = re.compile(r"[ \t\r\f\v]{2,}")
_RUN_OF_LINES = re.compile(r"\n[ \t]{0,8}\n[\n \t]*")
_BOLD = re.compile(r"\*\*([^*\n]{1,400})\*\*")
_PLEASANTRY = re.compile(r"(?:I hope (?:it|this) is correct|(?:I )?hope (?:it|this) helps)[.!]?", re.I)


@dataclass(frozen=True, slots=True)
class Statement:
    """What a response states as its answer.

    Example: `Statement("12", "box", after=" cm.")` for `so \\boxed{12} cm.`
    """

    text: str
    kind: str
    """box, tag, phrase, bold, or free (no explicit statement: the last line)."""
    after: str = ""
    """What follows a box on its line: perhaps its unit."""
    boxes: tuple[str, ...] = ()
    """Adjacent boxes that state a list together, the last one included; empty for one box."""
    first_line: str = ""
    """Of a free text: some answer first and explain afterwards."""


def extract(response: str) -> Statement | None:
    """The answer that `response` states, or None. Text in `<think>` never counts."""
    tail = _after_thinking(response)
    if tail is None:
        return None
    tail = _RUN_OF_SPACE.sub(" ", _RUN_OF_LINES.sub("\n\n", plain(tail.strip()[-MAX_TAIL:])))
    tail = _PLEASANTRY.sub(" ", _before_chat_token(tail)).strip()
    return _last_statement(tail) if tail else None


def _after_thinking(response: str) -> str | None:
    tail = response[response.rfind("</think>") + len("</think>") :] if "</think>" in response else response
    return None if "<think>" in tail else tail


def _before_chat_token(text: str) -> str:
    """A model that runs on past its turn writes the next one; that is no part of the answer."""
    for token in _CHAT_TOKEN.finditer(text):
        if text[: token.start()].strip():
            return text[: token.start()]
        return text[token.end() :]
    return text


def _last_statement(text: str) -> Statement | None:
    found: list[tuple[int, Statement | None]] = [(-1, None)]
    for finder in (_last_phrase, _last_tag, _last_box):
        place = finder(text)
        if place is not None:
            found.append(place)
    position, statement = max(found, key=lambda place: place[0])
    if position < 0:
        statement = _free(text)
    if statement is not None and len(statement.text) > MAX_STATEMENT:
        statement = replace(statement, text=statement.text[-MAX_STATEMENT:])
    return statement if statement is not None and statement.text.strip(" .,;:$*\n") else None


def _last_box(text: str) -> tuple[int, Statement | None] | None:
    """The last closed box. A box that opens later and never closes means that nothing is stated."""
    if "\\boxed" not in text and "\\fbox" not in text:
        return None
    stack: list[tuple[int, int]] = []
    closed: list[tuple[int, int, int]] = []
    for token in _BRACES.finditer(text):
        mark = token.group()
        if mark == "{":
            stack.append((-1, token.end()))
        elif mark == "}":
            if stack:
                start, inside = stack.pop()
                if start >= 0:
                    closed.append((start, inside, token.start()))
        elif mark.startswith(("\\boxed", "\\fbox")):
            if mark.endswith("{"):
                stack.append((token.start(), token.end()))
            else:
                closed.append((token.start(), token.start() + mark.index("x") + 1 + 2 * ("boxed" in mark), token.end()))
    last_open = max((start for start, _ in stack), default=-1)
    if not closed:
        return (last_open, None) if last_open >= 0 else None
    start, inside, end = closed[-1]
    if last_open > start:
        return last_open, None
    after = text[end + 1 : end + 40].split("\n", 1)[0]
    joined = _joined(text, closed)
    return end, Statement(text[inside:end].strip(), "box", after=after, boxes=joined)


def _joined(text: str, closed: list[tuple[int, int, int]]) -> tuple[str, ...]:
    """`\\boxed{2} \\text{ and } \\boxed{6}` states one list."""
    chain = [closed[-1]]
    for box in reversed(closed[:-1]):
        gap = text[box[2] + 1 : chain[-1][0]]
        if len(gap) > 40 or box[2] > chain[-1][0] or not _BETWEEN_BOXES.fullmatch(gap):
            break
        chain.append(box)
    return tuple(text[inside:end].strip() for _, inside, end in reversed(chain)) if len(chain) > 1 else ()


def _last_tag(text: str) -> tuple[int, Statement | None] | None:
    close = text.rfind("</answer>")
    last_open = text.rfind("<answer>")
    if last_open > close:
        return last_open, None
    start = text.rfind("<answer>", 0, close) if close >= 0 else -1
    if start < 0:
        return None
    content = text[start + len("<answer>") : close].strip()
    inner = _last_statement(content) if content else None
    if inner is None:
        return close, None
    return close, inner if inner.kind != "free" else replace(inner, text=inner.text, kind="tag")


def _last_phrase(text: str) -> tuple[int, Statement | None] | None:
    """`The answer is 5.`, `**Answer**: B`, `Final answer:` and the content on the next line."""
    best = None
    for match in _PHRASE.finditer(text):
        lead = _LEAD.match(text, match.end())
        start = lead.end() if lead else match.end()
        if start < len(text) and not _NOT.match(text, start):
            best = start
    if best is None:
        return None
    return best, Statement(_block(text, best), "phrase")


def _block(text: str, start: int) -> str:
    """The line at `start`, or the whole display where the line opens one."""
    for opening, closing in (("$$", "$$"), (r"\[", r"\]")):
        if text.startswith(opening, start):
            end = text.find(closing, start + 2)
            if end > 0:
                return text[start + 2 : end].strip()
    return text[start:].split("\n", 1)[0].strip(" *_")


def _free(text: str) -> Statement | None:
    lines = [line.strip() for line in text.splitlines() if line.strip(" $-*_=#`")]
    if not lines:
        return None
    first, last = lines[0][:400], lines[-1]
    for opening, closing in (("$$", "$$"), (r"\[", r"\]")):
        if text.endswith(closing):
            start = text.rfind(opening, 0, len(text) - 2)
            last = text[start + 2 : -2].strip() if start >= 0 else last
    bold = _BOLD.findall(last)
    if bold and not bold[-1].rstrip().endswith(":") and len(lines) + len(bold) > 1:
        return Statement(bold[-1].strip(), "bold", first_line=first)
    return Statement(last.strip("*_ "), "free", first_line=first if len(lines) > 1 else "")
