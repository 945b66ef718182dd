"""Finds what a response states as its answer. The last explicit statement wins; nothing is guessed.

Every scan is linear in the response, because a degenerating policy writes the worst input there is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from seethink.core.thinking import after_thinking
from seethink.rewards.grader.clean import plain
from seethink.rewards.grader.hedges import is_bare, leaves_open, unlisted
from seethink.rewards.grader.phrases import phrases

MAX_TAIL = 40_000
"""Characters read from the end: no stated answer is longer, and the cost stays bounded."""

MAX_AROUND = 240
"""Characters before and after a stated answer that may deny it."""

MAX_CLAIMS = 1_500
"""Characters of a response whose sentences are all read for claims; a longer one is an argument, whose end counts."""

MAX_STATEMENT = 2_000
"""Characters of one stated answer; of a longer line its end counts."""

_CHAT_TOKEN = re.compile(r"<\|(?:im_start|im_end|endoftext|eot_id|end)\|>|</s>|\n(?:Human|User):(?=\s)")
_BRACES = re.compile(r"\\(?:boxed|fbox)\s{0,4}\{|\\(?:boxed|fbox)\s{1,4}[\w.+-]{1,40}|\\.|[{}]", re.S)
_LEAD = re.compile(r"[\s:：*_=>`]*")
_NOT = re.compile(r"(?:not|never|unknown|unclear|n't)\b|不|非|没|無", re.I)
_ANSWER_TAG = re.compile(r"<(?P<close>/)?(?:final_)?(?:answer|conclusion)>|<\|(?:begin|(?P<end>end))_of_box\|>", re.I)
_BETWEEN_TAGS = re.compile(r"(?:[\s,;&/.]|\b(?:and|or|also|maybe|perhaps|possibly|alternatively)\b)*", re.I)
_BETWEEN_BOXES = re.compile(
    r"(?:[\s$,;&./*]|\\q?quad|\\[,;: ()\[\]]|\\text\s*\{\s*(?:and|or|,)?\s*\}|或|和|与"
    r"|\b(?:and|or|also|either|both|as well as|but also|maybe|perhaps|possibly|plus|alternatively)\b"
    r"|(?<![A-Za-z])[a-z](?:_\{?\d\}?)?\s*=)*"
)
_JOINED = re.compile(r"[,;&/]|\b(?:and|or|also|maybe|perhaps|possibly|plus|alternatively)\b|或|和|与")
_RUN_OF_SPACE = re.compile(r"[ \t\r\f\v]{2,}")
_RUN_OF_LINES = re.compile(r"\n[ \t]{0,8}\n[\n \t]*")
_BOLD = re.compile(r"\*\*([^*\n]{1,400})\*\*")
_QUOTED = re.compile(r"\"([^\"\n]{1,200})\"(?=\s*(?:\n|$|\.\s)|\s+[A-Z])")
"""`"this."` in a line that goes on after it."""
_BLANK = re.compile(r"\w\s+(?:_{2,}|\(_+\))(?=\s+\w)")
"""A gap that a question leaves to be filled, in a response that says the question again."""
_CONCLUDES = re.compile(
    r"\W*(?:so|thus|hence|therefore|in conclusion|overall|finally|in summary|no|wait|actually|sorry|"
    r"correction|instead|oops)\b",
    re.I,
)
_PLEASANTRY = re.compile(
    r"(?:I hope (?:it|this) is correct|(?:I )?hope (?:it|this|that) (?:helps|answers your question))[.!]?"
    r"|^(?:Sure|Certainly|Of course|Okay)[,!.]?(?: I can help[^\n.!:]{0,40})?[.!:]\s*\n"
    r"|(?:Please )?let me know if (?:you|there)[^\n.?!]{0,80}[.!]|Is there anything else[^\n.?!]{0,80}\?"
    r"|Do you have (?:any )?other questions[^\n.?!]{0,60}\?",
    re.I,
)


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
    listed: bool = False
    """Whether `boxes` are joined by commas or words, so that each of them is an answer."""
    prose: str = ""
    """Of a free text that is short: all of it, in which the answer may stand in any sentence."""
    before: str = field(default="", compare=False)
    """What stands before the answer on its line, or before the phrase that announces it."""
    rest: str = field(default="", compare=False)
    """What the response says after it."""


def extract(response: str) -> Statement | None:
    """The answer that `response` states, or None. Thoughts never count."""
    tail = after_thinking(response)
    if tail is None:
        return None
    tail = _RUN_OF_SPACE.sub(" ", _RUN_OF_LINES.sub("\n\n", plain(tail.strip()[-MAX_TAIL:])))
    tail = _PLEASANTRY.sub(" ", _before_chat_token(tail)).strip()
    return _last_statement(tail) if tail else None


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
    boxes, listed = _joined(text, closed)
    before, rest = _around(text, start, end + 1)
    stated = Statement(
        text[inside:end].strip(), "box", after=after, boxes=boxes, listed=listed, before=before, rest=rest
    )
    return end, stated


def _joined(text: str, closed: list[tuple[int, int, int]]) -> tuple[tuple[str, ...], bool]:
    """`\\boxed{2} \\text{ and } \\boxed{6}` states one list."""
    chain, listed = [closed[-1]], False
    for box in reversed(closed[:-1]):
        gap = text[box[2] + 1 : chain[-1][0]]
        if len(gap) > 40 or box[2] > chain[-1][0] or not _BETWEEN_BOXES.fullmatch(gap):
            break
        chain.append(box)
        listed = listed or _JOINED.search(gap) is not None
    return (
        (tuple(text[inside:end].strip() for _, inside, end in reversed(chain)), listed)
        if len(chain) > 1
        else ((), False)
    )


def _around(text: str, start: int, end: int) -> tuple[str, str]:
    """What stands before an answer on its line, and what comes after it."""
    return text[max(0, start - MAX_AROUND) : start].rpartition("\n")[2], text[end : end + MAX_AROUND]


def _last_tag(text: str) -> tuple[int, Statement | None] | None:
    """The text of the last pair of answer tags; of adjacent pairs, the texts of all."""
    if "<" not in text:
        return None
    pairs: list[tuple[int, int, int, int]] = []
    opened: tuple[int, int] | None = None
    for tag in _ANSWER_TAG.finditer(text):
        if tag["close"] or tag["end"]:
            if opened is not None:
                pairs.append((*opened, tag.start(), tag.end()))
            opened = None
        else:
            opened = tag.span()
    if opened is not None:
        return opened[0], None
    if not pairs:
        return None
    start, inside, end, beyond = pairs[-1]
    content = text[inside:end].strip()
    inner = _last_statement(content) if content else None
    if inner is None:
        return end, None
    if inner.kind == "free":
        others = _adjacent(text, pairs) or inner.boxes
        before, rest = _around(text, start, beyond)
        inner = replace(inner, kind="tag", boxes=others, listed=bool(others), before=before, rest=rest)
    return end, inner


def _adjacent(text: str, pairs: list[tuple[int, int, int, int]]) -> tuple[str, ...]:
    """`<answer>A</answer> <answer>B</answer>` answers twice at once; words between two pairs may settle it."""
    chain = [pairs[-1]]
    for pair in reversed(pairs[:-1]):
        if not _BETWEEN_TAGS.fullmatch(text, pair[3], chain[-1][0]):
            break
        chain.append(pair)
    return tuple(text[pair[1] : pair[2]].strip() for pair in reversed(chain)) if len(chain) > 1 else ()


def _last_phrase(text: str) -> tuple[int, Statement | None] | None:
    """`The answer is 5.`, `**Answer**: B`, `Final answer:` and the content on the next line."""
    best = begin = -1
    for place in phrases(text):
        lead = _LEAD.match(text, place)
        start = lead.end() if lead else place
        if best < start < len(text) and not _NOT.match(text, start):
            best, begin = start, place
    if best < 0:
        return None
    block, end = _block(text, best)
    quoted = _QUOTED.match(text, best)
    if quoted is not None:
        block, end = quoted[1], quoted.end()
    before, rest = _around(text, begin, end)
    return best, Statement(block, "phrase", before=before, rest=rest)


def _block(text: str, start: int) -> tuple[str, int]:
    """The line at `start`, or the whole display where the line opens one, and where it ends."""
    for opening, closing in (("$$", "$$"), (r"\[", r"\]")):
        if text.startswith(opening, start):
            end = text.find(closing, start + 2)
            if end > 0:
                return text[start + 2 : end].strip(), end + 2
    line = text[start:].split("\n", 1)[0]
    return line.strip(" *_"), start + len(line)


def _lone_bold(text: str, lines: list[str]) -> Statement | None:
    """`It is highest in **2019**.` and an explanation: the only words set in bold, where the end concludes nothing."""
    found = list(_BOLD.finditer(text)) if "**" in text else []
    if len(found) != 1 or not 2 <= len(lines) <= 64 or text.find("\n") in (-1, *range(found[0].end())):
        return None
    bold = found[0]
    if bold[1].rstrip().endswith((":", "?")) or not lines[0].strip("#*_ :.").replace(bold[1], "").strip("*_ :."):
        return None
    if _CONCLUDES.match(lines[-1]) or any(leaves_open(line) for line in lines[1:]):
        return None
    before, rest = _around(text, *bold.span())
    return Statement(bold[1].strip(), "bold", before=before, rest=rest)


def _without_table(lines: list[str]) -> list[str]:
    """The lines of a response without the table at its end and the line that introduces it."""
    end = len(lines)
    while end and "|" in lines[end - 1]:
        end -= 1
    if end < len(lines) - 1 and end and lines[end - 1].endswith(":"):
        end -= 1
    return lines[:end] if 0 < end < len(lines) - 1 else lines


def _free(text: str) -> Statement | None:
    lines = _without_table([line.strip() for line in text.splitlines() if line.strip(" $-*_=#`")])
    if not lines or _BLANK.search(lines[-1]):
        return None
    lone = _lone_bold(text, lines)
    if lone is not None:
        return lone
    first, last = lines[0][:400], lines[-1]
    for opening, closing in (("$$", "$$"), (r"\[", r"\]")):
        if text.endswith(closing):
            start = text.rfind(opening, 0, len(text) - 2)
            last = text[start + 2 : -2].strip() if start >= 0 else last
    bold = list(_BOLD.finditer(last))
    if bold and not bold[-1][1].rstrip().endswith(":") and len(lines) + len(bold) > 1:
        chain = [bold[-1]]
        for other in reversed(bold[:-1]):
            if not _BETWEEN_TAGS.fullmatch(last, other.end(), chain[-1].start()):
                break
            chain.append(other)
        texts = tuple(match[1].strip() for match in reversed(chain)) if len(chain) > 1 else ()
        prose = text if len(text) <= MAX_CLAIMS and not texts else ""
        return Statement(bold[-1][1].strip(), "bold", first_line=first, boxes=texts, listed=bool(texts), prose=prose)
    items = [unlisted(line) for line in lines] if 1 < len(lines) <= 64 else []
    if items and all(map(is_bare, items)):
        return Statement(items[-1], "free", boxes=tuple(items), listed=True)
    prose = text if len(text) <= MAX_CLAIMS else ""
    return Statement(last.strip("*_ "), "free", first_line=first if len(lines) > 1 else "", prose=prose)
