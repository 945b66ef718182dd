"""The words that announce an answer, in the languages that models answer in."""

from __future__ import annotations

import re
from collections.abc import Iterator

_ENGLISH = re.compile(
    r"\banswers?\b[*_`\"')\]>]{0,4}\s{0,3}(?:(?:is|are|was|would be|should be|must be)\b|[:=：]|[-–—]\s)"
    r"|\banswers?\s(?:to|for|of|in)\b(?:(?!\s(?:is|are)\b)[^.\n:]){1,80}\s(?:is|are)\b(?!\s(?:(?:in)?correct|wrong|right)\b)"
    r"|\banswers?\s{1,3}(?=\$|\\[(\[])"
    r"|\bfinal (?:value|result|number|count|total) (?:is\b|=|:)"
    r"|\bfinal answer\b[*_# ]{0,6}\n"
    r"|\bcorrect (?:option|choice|statement|answer)s?\b[^.\n]{0,120}?\b(?:is|are)\b"
    r"|\b(?:option|choice) is\b"
    r"|####",
    re.I,
)
_ANNOUNCE = ("answer", "option", "choice", "correct", "final", "####")
_CHINESE = re.compile(
    r"(?:答案|(?:正确|正確)?(?:选项|選項)(?=\s*[是为為:])|答え|正解|解答)\]?\s{0,3}(?:应该|應該|应当|應當|应|應|就)?"
    r"(?:选择|選擇|选|選|是|为|為|は)?\s{0,3}[:,]?"
    r"|(?<!不)(?<!别)(?<!能)(?:选择?|選擇?)(?:了|出)?\s{0,3}:?\s{0,3}(?=[(\[]?[A-Z]{1,6}(?![A-Za-z]))"
    r"|(?:选项|選項)\s{0,3}(?=[(\[]?[A-Z][)\]]?\s{0,3}(?:是|为|為)?\s{0,3}(?:正确|正確|对的|對的|符合))"
    r"|(?:정답|답)\s?(?:은|는)?\s?:?(?=\s|[A-Z0-9(])"
)
_NOUNS = (
    "respuesta", "resposta", "risposta", "réponse", "reponse", "antwort", "lösung", "antwoord", "odpowiedź",
    "odpověď", "răspunsul", "cevap", "yanıt", "jawaban", "đáp án", "ответ", "відповідь", "απάντηση", "opción", "opção",
    "opzione", "вариант", "الإجابة", "الجواب", "उत्तर", "คำตอบ", "پاسخ", "svar",
)  # fmt: skip
_OTHERS = re.compile(
    rf"(?<!\w)(?:{'|'.join(_NOUNS)})(?:en|et|nya|a|ul|ı|i)?\b[*_`\"')\]]{{0,4}}(?:\s[^\W\d]{{3,14}}){{0,2}}?\s{{0,3}}"
    r"(?:[:=]|(?:es|é|è|est|ist|lautet|is|jest|je|este|adalah|là|είναι|هي|هو|คือ|है|är|er)(?=\s))(?:\s(?:la|le|el|die|der|das|o|a|il))?"
    r"(?=\W)",
    re.I,
)


def phrases(text: str) -> Iterator[int]:
    """Where each announced answer begins, kind of phrase by kind."""
    lower = text.lower()
    if any(word in lower for word in _ANNOUNCE):
        for match in _ENGLISH.finditer(text):
            yield match.end()
    if not text.isascii():
        for match in _CHINESE.finditer(text):
            yield match.end()
    if len(text) > 5 and any(noun in lower for noun in _NOUNS):
        for match in _OTHERS.finditer(text):
            yield match.end()
